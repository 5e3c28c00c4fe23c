package controller_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/skiff-sh/skiff/internal/admission"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

// census counts the Deployment's Pods at every step and remembers extremes.
type census struct {
	mu           sync.Mutex
	pods         map[string]*corev1.Pod
	most, least  int // active, available
	images       int // most images that ran at once, terminating Pods included
	leastCounted bool
}

func (p *plane) census() *census {
	c := &census{pods: map[string]*corev1.Pod{}}
	p.watch(kind.Pod, func(e state.Event) {
		c.mu.Lock()
		defer c.mu.Unlock()
		pod := e.Object.(*corev1.Pod)
		c.pods[pod.Name] = pod
		if e.Type == state.Deleted {
			delete(c.pods, pod.Name)
		}
		c.count()
	})
	return c
}

func (c *census) count() {
	active, available := 0, 0
	images := map[string]bool{}
	for _, pod := range c.pods {
		images[pod.Spec.Containers[0].Image] = true
		if pod.DeletionTimestamp != nil {
			continue
		}
		active++
		for _, condition := range pod.Status.Conditions {
			if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue {
				available++
			}
		}
	}
	c.most, c.images = max(c.most, active), max(c.images, len(images))
	if !c.leastCounted || available < c.least {
		c.least, c.leastCounted = available, true
	}
}

// start begins to count anew, from what there is.
func (c *census) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.most, c.images, c.leastCounted = 0, 0, false
	c.count()
}

func (c *census) extremes() (most, least, images int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.most, c.least, c.images
}

func web(p *plane) *appsv1.Deployment { return get[*appsv1.Deployment](p, kind.Deployment, "web") }

func setImage(p *plane, image string) {
	p.Helper()
	modify(p, kind.Deployment, "web", func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = image })
}

// sizes returns "image=replicas" of the ReplicaSets that want Pods, sorted.
func sizes(p *plane) string {
	var out []string
	for _, rs := range list[*appsv1.ReplicaSet](p, kind.ReplicaSet) {
		if *rs.Spec.Replicas > 0 {
			out = append(out, fmt.Sprintf("%s=%d", rs.Spec.Template.Spec.Containers[0].Image, *rs.Spec.Replicas))
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func progressing(p *plane) string {
	for _, c := range web(p).Status.Conditions {
		if c.Type == appsv1.DeploymentProgressing {
			return fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message)
		}
	}
	return "none"
}

func revisionOf(p *plane) string { return web(p).Annotations["deployment.kubernetes.io/revision"] }

func setOf(p *plane, image string) *appsv1.ReplicaSet {
	p.Helper()
	for _, rs := range list[*appsv1.ReplicaSet](p, kind.ReplicaSet) {
		if rs.Spec.Template.Spec.Containers[0].Image == image {
			return rs
		}
	}
	p.Fatalf("no ReplicaSet of image %s", image)
	return nil
}

func TestRollingUpdate(t *testing.T) {
	value := func(text string) *intstr.IntOrString { v := intstr.Parse(text); return &v }
	for _, c := range []struct {
		replicas           int32
		surge, unavailable string
		most, least        int
	}{
		{10, "25%", "25%", 13, 8},
		{10, "0", "1", 10, 9},
		{10, "1", "0", 11, 10},
		{3, "25%", "25%", 4, 3},
		{4, "100%", "0", 8, 4},
		{5, "0", "100%", 5, 0},
		{1, "25%", "25%", 2, 1},
	} {
		t.Run(fmt.Sprintf("%d replicas, surge %s, unavailable %s", c.replicas, c.surge, c.unavailable), func(t *testing.T) {
			inPlane(t, func(p *plane) {
				p.machine("a")
				counts := p.census()
				d := newDeployment(c.replicas)
				d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: value(c.surge), MaxUnavailable: value(c.unavailable)}
				p.create(d)
				equal(p, "available at first", web(p).Status.AvailableReplicas, c.replicas)
				counts.start()
				setImage(p, "good:2")
				most, least, _ := counts.extremes()
				if most > c.most || least < c.least {
					t.Errorf("between %d available and %d in all, allowed are %d and %d", least, most, c.least, c.most)
				}
				equal(p, "sizes", sizes(p), fmt.Sprintf("good:2=%d", c.replicas))
				s := web(p).Status
				if s.UpdatedReplicas != c.replicas || s.Replicas != c.replicas || s.AvailableReplicas != c.replicas || s.UnavailableReplicas != 0 ||
					s.ObservedGeneration != web(p).Generation {
					t.Errorf("status %+v", s)
				}
				equal(p, "progress", progressing(p),
					fmt.Sprintf("True NewReplicaSetAvailable: ReplicaSet %q has successfully progressed.", setOf(p, "good:2").Name))
				equal(p, "revision", revisionOf(p), "2")
			})
		})
	}
}

func TestDeploymentTellsItsSteps(t *testing.T) {
	inPlane(t, func(p *plane) {
		p.machine("a")
		p.create(newDeployment(1))
		one := setOf(p, "good:1").Name
		p.pass(time.Second)
		setImage(p, "good:2")
		two := setOf(p, "good:2").Name
		want := []string{
			"ScalingReplicaSet: Scaled up replica set " + one + " from 0 to 1",
			"ScalingReplicaSet: Scaled up replica set " + two + " from 0 to 1",
			"ScalingReplicaSet: Scaled down replica set " + one + " from 1 to 0",
		}
		if got := p.told("web"); !slices.Equal(got, want) {
			t.Errorf("events %q, want %q", got, want)
		}
		rs := setOf(p, "good:2")
		for key, want := range map[string]string{
			"deployment.kubernetes.io/revision":         "2",
			"deployment.kubernetes.io/desired-replicas": "1",
			"deployment.kubernetes.io/max-replicas":     "2",
		} {
			equal(p, key, rs.Annotations[key], want)
		}
		if got := p.told(two); len(got) != 1 || !strings.HasPrefix(got[0], "SuccessfulCreate: Created pod: "+two+"-") {
			t.Errorf("events of the ReplicaSet %q", got)
		}
		hash := rs.Labels[appsv1.DefaultDeploymentUniqueLabelKey]
		equal(p, "name", rs.Name, "web-"+hash)
		equal(p, "selector", metav1.FormatLabelSelector(rs.Spec.Selector), "app=web,pod-template-hash="+hash)
	})
}

func TestRecreate(t *testing.T) {
	inPlane(t, func(p *plane) {
		p.machine("a")
		counts := p.census()
		d := newDeployment(3)
		d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
		p.create(d)
		counts.start()
		setImage(p, "good:2")
		most, _, images := counts.extremes()
		equal(p, "most Pods", most, 3)
		equal(p, "images at once", images, 1)
		equal(p, "sizes", sizes(p), "good:2=3")
		equal(p, "available", web(p).Status.AvailableReplicas, 3)
	})
}

// Undo is what kubectl does: it puts an old template back.
func TestUndoAndHistory(t *testing.T) {
	inPlane(t, func(p *plane) {
		p.machine("a")
		d := newDeployment(2)
		d.Annotations = map[string]string{"kubernetes.io/change-cause": "first"}
		d.Spec.RevisionHistoryLimit = new(int32(2))
		p.create(d)
		first := setOf(p, "good:1").Name
		setImage(p, "good:2")
		setImage(p, "good:1")
		rs := setOf(p, "good:1")
		equal(p, "ReplicaSet", rs.Name, first)
		equal(p, "revision", rs.Annotations["deployment.kubernetes.io/revision"], "3")
		equal(p, "history", rs.Annotations["deployment.kubernetes.io/revision-history"], "1")
		equal(p, "cause", rs.Annotations["kubernetes.io/change-cause"], "first")
		equal(p, "revision of the Deployment", revisionOf(p), "3")
		equal(p, "progress", progressing(p), fmt.Sprintf("True NewReplicaSetAvailable: ReplicaSet %q has successfully progressed.", first))
		for i := 3; i < 7; i++ {
			setImage(p, fmt.Sprintf("good:%d", i))
		}
		equal(p, "ReplicaSets that are kept", len(p.names(kind.ReplicaSet)), 3)
		setOf(p, "good:4") // the youngest old ones stay
		setOf(p, "good:5")
	})
}

// A bad rollout stands still at the limits of its strategy, is scaled by
// proportion, and tells when its deadline has passed.
func TestStuckRollout(t *testing.T) {
	inPlane(t, func(p *plane) {
		p.machine("a")
		counts := p.census()
		d := newDeployment(10)
		d.Spec.ProgressDeadlineSeconds = new(int32(60))
		d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: new(intstr.FromInt32(3)), MaxUnavailable: new(intstr.FromInt32(2))}
		p.create(d)
		counts.start()
		setImage(p, "bad:2")
		equal(p, "sizes", sizes(p), "bad:2=5 good:1=8")
		if most, least, _ := counts.extremes(); most != 13 || least != 8 {
			t.Errorf("between %d and %d Pods", least, most)
		}
		modify(p, kind.Deployment, "web", func(d *appsv1.Deployment) { d.Spec.Replicas = new(int32(15)) })
		equal(p, "sizes at 15", sizes(p), "bad:2=7 good:1=11")
		modify(p, kind.Deployment, "web", func(d *appsv1.Deployment) { d.Spec.Replicas = new(int32(10)) })
		equal(p, "sizes at 10 again", sizes(p), "bad:2=5 good:1=8")
		name := setOf(p, "bad:2").Name
		p.pass(55 * time.Second)
		equal(p, "progress", progressing(p), fmt.Sprintf("True ReplicaSetUpdated: ReplicaSet %q is progressing.", name))
		p.pass(10 * time.Second)
		equal(p, "progress", progressing(p), fmt.Sprintf("False ProgressDeadlineExceeded: ReplicaSet %q has timed out progressing.", name))
		setImage(p, "good:3")
		equal(p, "sizes after the repair", sizes(p), "good:3=10")
		equal(p, "progress", progressing(p),
			fmt.Sprintf("True NewReplicaSetAvailable: ReplicaSet %q has successfully progressed.", setOf(p, "good:3").Name))
	})
}

func TestPauseAndResume(t *testing.T) {
	inPlane(t, func(p *plane) {
		p.machine("a")
		p.create(newDeployment(3))
		pause := func(paused bool) {
			modify(p, kind.Deployment, "web", func(d *appsv1.Deployment) { d.Spec.Paused = paused })
		}
		pause(true)
		equal(p, "progress", progressing(p), "Unknown DeploymentPaused: Deployment is paused")
		setImage(p, "good:2")
		equal(p, "sizes while paused", sizes(p), "good:1=3")
		modify(p, kind.Deployment, "web", func(d *appsv1.Deployment) { d.Spec.Replicas = new(int32(5)) })
		equal(p, "sizes when scaled", sizes(p), "good:1=5")
		p.pass(time.Hour)
		pause(false)
		equal(p, "sizes when resumed", sizes(p), "good:2=5")
		if got := progressing(p); !strings.HasPrefix(got, "True NewReplicaSetAvailable") {
			t.Errorf("progress %s", got)
		}
	})
}

func TestMinReadySeconds(t *testing.T) {
	inPlane(t, func(p *plane) {
		p.machine("a")
		d := newDeployment(2)
		d.Spec.MinReadySeconds = 30
		p.create(d)
		equal(p, "ready", web(p).Status.ReadyReplicas, 2)
		equal(p, "available", web(p).Status.AvailableReplicas, 0)
		p.pass(29 * time.Second)
		equal(p, "available after 29 s", web(p).Status.AvailableReplicas, 0)
		p.pass(2 * time.Second)
		equal(p, "available after 31 s", web(p).Status.AvailableReplicas, 2)
	})
}

// What creation refuses is told once, in words, and tried again with patience.
func TestFailedCreate(t *testing.T) {
	refused := 0
	var mu sync.Mutex
	quota := admission.Step{Name: "quota", Validate: func(_ context.Context, r *admission.Request) error {
		mu.Lock()
		defer mu.Unlock()
		if r.Kind == kind.Pod && r.Operation == admission.Create && refused >= 0 {
			refused++
			return r.Forbid(errors.New("exceeded quota"))
		}
		return nil
	}}
	inPlane(t, func(p *plane) {
		p.machine("a")
		p.create(newDeployment(4))
		rs := setOf(p, "good:1")
		c := rs.Status.Conditions
		if len(c) != 1 || c[0].Type != appsv1.ReplicaSetReplicaFailure || c[0].Status != corev1.ConditionTrue || c[0].Reason != "FailedCreate" ||
			!strings.HasSuffix(c[0].Message, "exceeded quota") {
			t.Errorf("conditions %+v", c)
		}
		failed := slices.ContainsFunc(web(p).Status.Conditions, func(c appsv1.DeploymentCondition) bool {
			return c.Type == appsv1.DeploymentReplicaFailure && c.Reason == "FailedCreate"
		})
		if !failed {
			t.Errorf("the Deployment does not tell: %+v", web(p).Status.Conditions)
		}
		p.pass(time.Second)
		for _, told := range p.told(rs.Name) {
			if !strings.HasPrefix(told, "FailedCreate: Error creating: pods \"") && !strings.HasPrefix(told, "FailedCreate: (combined") {
				t.Errorf("event %q", told)
			}
		}
		mu.Lock()
		if refused < 3 || refused > 15 {
			t.Errorf("%d attempts in a second", refused)
		}
		refused = -1
		mu.Unlock()
		p.pass(time.Minute)
		equal(p, "available", web(p).Status.AvailableReplicas, 4)
		equal(p, "conditions of the ReplicaSet", len(setOf(p, "good:1").Status.Conditions), 0)
		equal(p, "conditions of the Deployment", len(web(p).Status.Conditions), 2)
	}, quota)
}

// A ReplicaSet takes in Pods that match and lets go of those that do not.
func TestAdoptionAndRelease(t *testing.T) {
	inPlane(t, func(p *plane) {
		p.machine("a")
		orphan := &corev1.Pod{ObjectMeta: object("orphan"), Spec: template("good:1").Spec}
		orphan.Labels = map[string]string{"app": "rs"}
		p.create(orphan)
		labels := map[string]string{"app": "rs"}
		spec := template("good:1")
		spec.Labels = maps.Clone(labels)
		p.create(&appsv1.ReplicaSet{ObjectMeta: object("rs"), Spec: appsv1.ReplicaSetSpec{
			Replicas: new(int32(2)), Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: spec,
		}})
		equal(p, "Pods", len(p.names(kind.Pod)), 2)
		ref := metav1.GetControllerOf(get[*corev1.Pod](p, kind.Pod, "orphan"))
		if ref == nil || ref.Name != "rs" || !*ref.BlockOwnerDeletion {
			t.Fatalf("owner %+v", ref)
		}
		modify(p, kind.Pod, "orphan", func(pod *corev1.Pod) { pod.Labels = map[string]string{"app": "debug"} })
		equal(p, "owners", len(get[*corev1.Pod](p, kind.Pod, "orphan").OwnerReferences), 0)
		equal(p, "Pods", len(p.names(kind.Pod)), 3)
	})
}

// Two templates of one hash get two ReplicaSets.
func TestHashCollision(t *testing.T) {
	inPlane(t, func(p *plane) {
		p.machine("a")
		p.create(newDeployment(1))
		taken := setOf(p, "good:1")
		p.delete(kind.Deployment, "web", metav1.DeletePropagationBackground)
		other := &appsv1.ReplicaSet{ObjectMeta: object(taken.Name), Spec: appsv1.ReplicaSetSpec{
			Replicas: new(int32(0)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "other"}}, Template: template("other:1"),
		}}
		other.Spec.Template.Labels = map[string]string{"app": "other"}
		p.create(other)
		p.create(newDeployment(1))
		p.pass(time.Second)
		equal(p, "available", web(p).Status.AvailableReplicas, 1)
		equal(p, "collisions", *web(p).Status.CollisionCount, 1)
	})
}
