package replicaset

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

var now = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func wants(replicas int32) *appsv1.ReplicaSet {
	rs := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Name: "rs", UID: "rs", Generation: 3}}
	rs.Spec.Replicas = &replicas
	rs.Spec.Template.Labels = map[string]string{"app": "web", "more": "yes"}
	return rs
}

// pod returns one of the ReplicaSet, which runs and is ready for an hour.
func pod(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: name, UID: types.UID(name), Labels: map[string]string{"app": "web", "more": "yes"},
		CreationTimestamp: metav1.NewTime(now.Add(-2 * time.Hour)),
		OwnerReferences:   []metav1.OwnerReference{{UID: "rs", Controller: new(true)}},
	}}
	p.Spec.NodeName = "node-" + name
	p.Status.Phase = corev1.PodRunning
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now.Add(-time.Hour))}}
	for _, c := range change {
		c(p)
	}
	return p
}

func unbound(p *corev1.Pod)  { p.Spec.NodeName, p.Status.Phase = "", corev1.PodPending; unready(p) }
func pending(p *corev1.Pod)  { p.Status.Phase = corev1.PodPending; unready(p) }
func unknown(p *corev1.Pod)  { p.Status.Phase = corev1.PodUnknown; unready(p) }
func failed(p *corev1.Pod)   { p.Status.Phase = corev1.PodFailed }
func unready(p *corev1.Pod)  { p.Status.Conditions[0].Status = corev1.ConditionFalse }
func deleted(p *corev1.Pod)  { p.DeletionTimestamp = &metav1.Time{Time: now} }
func orphan(p *corev1.Pod)   { p.OwnerReferences = nil }
func foreign(p *corev1.Pod)  { p.OwnerReferences[0].UID = "other" }
func unlike(p *corev1.Pod)   { p.Labels = map[string]string{"app": "other"} }
func onlyHalf(p *corev1.Pod) { p.Labels = map[string]string{"app": "web"} }
func readyFor(d time.Duration) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Status.Conditions[0].LastTransitionTime = metav1.NewTime(now.Add(-d)) }
}
func createdFor(d time.Duration) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.CreationTimestamp = metav1.NewTime(now.Add(-d)) }
}
func cost(text string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.PodDeletionCost: text} }
}
func on(node string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = node } }
func restarted(n int32) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: n}} }
}

func nobody(string) int { return 0 }

func names(pods []*corev1.Pod) string {
	var out []string
	for _, p := range pods {
		out = append(out, p.Name)
	}
	return strings.Join(out, " ")
}

func TestPlan(t *testing.T) {
	selector := labels.SelectorFromSet(labels.Set{"app": "web"})
	going := wants(2)
	going.DeletionTimestamp = &metav1.Time{Time: now}
	patient := wants(3)
	patient.Spec.MinReadySeconds = 60
	for _, c := range []struct {
		name string
		rs   *appsv1.ReplicaSet
		pods []*corev1.Pod
		want string // adopt, release, create, delete, status, again
	}{
		{"nothing there", wants(3), nil, "[] [] +3 [] 0/0/0/0 terminating 0, 0s"},
		{"enough", wants(1), []*corev1.Pod{pod("a")}, "[] [] +0 [] 1/1/1/1 terminating 0, 0s"},
		{"too many", wants(1), []*corev1.Pod{pod("a"), pod("b", unready)}, "[] [] +0 [b] 2/2/1/1 terminating 0, 0s"},
		{"ended ones are replaced", wants(1), []*corev1.Pod{pod("a", failed)}, "[] [] +1 [] 0/0/0/0 terminating 0, 0s"},
		{"those that go are replaced", wants(1), []*corev1.Pod{pod("a", deleted)}, "[] [] +1 [] 0/0/0/0 terminating 1, 0s"},
		{"others' do not count", wants(1), []*corev1.Pod{pod("a", foreign)}, "[] [] +1 [] 0/0/0/0 terminating 0, 0s"},
		{"orphans are adopted", wants(1), []*corev1.Pod{pod("a", orphan), pod("b", orphan, unlike), pod("c", orphan, deleted)}, "[a] [] +0 [] 1/1/1/1 terminating 0, 0s"},
		{"what does not match is let go", wants(1), []*corev1.Pod{pod("a", unlike)}, "[] [a] +1 [] 0/0/0/0 terminating 0, 0s"},
		{"half the labels", wants(1), []*corev1.Pod{pod("a", onlyHalf)}, "[] [] +0 [] 1/0/1/1 terminating 0, 0s"},
		{"it is being deleted", going, []*corev1.Pod{pod("a"), pod("b", orphan)}, "[] [] +0 [] 1/1/1/1 terminating 0, 0s"},
		{"not ready for long enough", patient, []*corev1.Pod{pod("a"), pod("b", readyFor(time.Second)), pod("c", readyFor(50*time.Second))}, "[] [] +0 [] 3/3/3/1 terminating 0, 10s"},
		{"very many", wants(9999), nil, "[] [] +500 [] 0/0/0/0 terminating 0, 0s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := plan(c.rs, c.pods, selector, nobody, now)
			s := p.Status
			got := fmt.Sprintf("[%s] [%s] +%d [%s] %d/%d/%d/%d terminating %d, %v", names(p.Adopt), names(p.Release), p.Create, names(p.Delete),
				s.Replicas, s.FullyLabeledReplicas, s.ReadyReplicas, s.AvailableReplicas, *s.TerminatingReplicas, p.Again)
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if s.ObservedGeneration != 3 {
				t.Errorf("generation %d", s.ObservedGeneration)
			}
		})
	}
}

// Of each pair the first is missed less.
func TestVictims(t *testing.T) {
	crowd := func(node string) int { return map[string]int{"full": 5}[node] }
	for _, c := range []struct {
		name        string
		first, last *corev1.Pod
	}{
		{"on no node", pod("z", unbound), pod("a", pending)},
		{"pending", pod("z", pending), pod("a", unknown)},
		{"unknown", pod("z", unknown), pod("a", unready)},
		{"not ready", pod("z", unready), pod("a", cost("-100"))},
		{"cheap", pod("z", cost("-1")), pod("a", on("full"))},
		{"cost that is no number", pod("z", cost("1e3"), on("full")), pod("a", cost("1"))},
		{"on a full node", pod("z", on("full")), pod("a", readyFor(time.Second))},
		{"ready for a shorter time", pod("z", readyFor(time.Minute)), pod("a", restarted(9))},
		{"ready for about as long: by UID", pod("a", readyFor(60*time.Minute+time.Second)), pod("z", restarted(9))},
		{"restarted", pod("z", restarted(3)), pod("a", createdFor(time.Minute))},
		{"younger", pod("z", createdFor(time.Minute)), pod("a")},
		{"of about the same age: by UID", pod("a", createdFor(2*time.Hour+time.Second)), pod("z")},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, pods := range [][]*corev1.Pod{{c.first, c.last}, {c.last, c.first}} {
				if got := victims(pods, 1, crowd, now); got[0] != c.first {
					t.Errorf("%s goes first", got[0].Name)
				}
			}
		})
	}
}

func TestConditions(t *testing.T) {
	other := appsv1.ReplicaSetCondition{Type: "Other"}
	had := appsv1.ReplicaSetCondition{Type: appsv1.ReplicaSetReplicaFailure, Reason: "FailedDelete"}
	f := &failure{reason: "FailedCreate", err: fmt.Errorf("no")}
	at := metav1.NewTime(now)
	for _, c := range []struct {
		name string
		old  []appsv1.ReplicaSetCondition
		f    *failure
		want string
	}{
		{"all is well", []appsv1.ReplicaSetCondition{other}, nil, "Other:"},
		{"well again", []appsv1.ReplicaSetCondition{had, other}, nil, "Other:"},
		{"first failure", []appsv1.ReplicaSetCondition{other}, f, "Other: ReplicaFailure:FailedCreate"},
		{"the first one stays", []appsv1.ReplicaSetCondition{had}, f, "ReplicaFailure:FailedDelete"},
	} {
		var got []string
		for _, c := range conditions(c.old, c.f, at) {
			got = append(got, string(c.Type)+":"+c.Reason)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestPodPrefix(t *testing.T) {
	if got := podPrefix("web"); got != "web-" {
		t.Error(got)
	}
	long := strings.Repeat("a", 253)
	if got := podPrefix(long); got != long {
		t.Error(got)
	}
}

func BenchmarkPlan(b *testing.B) {
	var pods []*corev1.Pod
	for i := range 5000 {
		pods = append(pods, pod(fmt.Sprint(i)))
	}
	rs := wants(5000)
	selector := labels.SelectorFromSet(labels.Set{"app": "web"})
	for b.Loop() {
		plan(rs, pods, selector, nobody, now)
	}
}
