package controller_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

func taintsOf(p *plane, node string) string {
	var out []string
	for _, t := range get[*corev1.Node](p, kind.Node, node).Spec.Taints {
		out = append(out, fmt.Sprintf("%s:%s", strings.TrimPrefix(t.Key, "node.kubernetes.io/"), t.Effect))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func readiness(p *plane, node string) string {
	for _, c := range get[*corev1.Node](p, kind.Node, node).Status.Conditions {
		if c.Type == corev1.NodeReady {
			return fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message)
		}
	}
	return "none"
}

func onNode(p *plane, node string) []*corev1.Pod {
	return state.List[*corev1.Pod](p.env.State, kind.Pod, state.Interest{NodeName: node})
}

func TestSilentNode(t *testing.T) {
	inPlane(t, func(p *plane) {
		a, b := p.machine("a"), p.machine("b")
		p.create(newDeployment(4))
		equal(p, "Pods on a", len(onNode(p, "a")), 2)
		pod := onNode(p, "a")[0].Name
		a.silent.Store(true)
		p.pass(35 * time.Second)
		equal(p, "taints after 35 s", taintsOf(p, "a"), "")
		p.pass(15 * time.Second)
		equal(p, "ready after 50 s", readiness(p, "a"), "Unknown NodeStatusUnknown: Kubelet stopped posting node status.")
		equal(p, "taints after 50 s", taintsOf(p, "a"), "unreachable:NoExecute unreachable:NoSchedule")
		for _, taint := range get[*corev1.Node](p, kind.Node, "a").Spec.Taints {
			if taint.TimeAdded.IsZero() {
				t.Errorf("taint %s has no time", taint.ToString())
			}
		}
		if got := p.told(pod); !slices.Contains(got, "NodeNotReady: Node is not ready") {
			t.Errorf("events of the Pod %q", got)
		}
		if got := p.told("a"); !slices.Contains(got, "NodeNotReady: Node a status is now: NodeNotReady") ||
			!slices.Contains(got, "RegisteredNode: Node a event: Registered Node a in Controller") {
			t.Errorf("events of the node %q", got)
		}
		equal(p, "available", web(p).Status.AvailableReplicas, 2)
		p.pass(280 * time.Second)
		equal(p, "Pods deleted before 300 s", len(deleted(onNode(p, "a"))), 0)
		p.pass(25 * time.Second)
		equal(p, "Pods deleted after 300 s", len(deleted(onNode(p, "a"))), 2)
		equal(p, "Pods on b", len(onNode(p, "b")), 4)
		if got := p.told(pod); !slices.Contains(got, "TaintManagerEviction: Marking for deletion Pod default/"+pod) {
			t.Errorf("events of the Pod %q", got)
		}
		c := onNode(p, "a")[0].Status.Conditions
		if !slices.ContainsFunc(c, func(c corev1.PodCondition) bool {
			return c.Type == corev1.DisruptionTarget && c.Reason == "DeletionByTaintManager" && c.Message == "Taint manager: deleting due to NoExecute taint"
		}) {
			t.Errorf("conditions %+v", c)
		}
		a.silent.Store(false)
		a.post(corev1.ConditionTrue)
		equal(p, "taints after its return", taintsOf(p, "a"), "")
		_ = b
	})
}

func deleted(pods []*corev1.Pod) []*corev1.Pod {
	return slices.DeleteFunc(slices.Clone(pods), func(pod *corev1.Pod) bool { return pod.DeletionTimestamp == nil })
}

// A node that returns in time keeps its Pods.
func TestEvictionIsCancelled(t *testing.T) {
	inPlane(t, func(p *plane) {
		a := p.machine("a")
		p.create(newDeployment(1))
		p.machine("b")
		pod := onNode(p, "a")[0].Name
		a.post(corev1.ConditionFalse)
		equal(p, "taints", taintsOf(p, "a"), "not-ready:NoExecute not-ready:NoSchedule")
		p.pass(200 * time.Second)
		a.post(corev1.ConditionTrue)
		p.pass(200 * time.Second)
		equal(p, "Pods on a", len(deleted(onNode(p, "a"))), 0)
		if got := p.told(pod); !slices.Contains(got, "TaintManagerEviction: Cancelling deletion of Pod default/"+pod) {
			t.Errorf("events %q", got)
		}
	})
}

// With no node left nobody is driven away.
func TestAllNodesSilent(t *testing.T) {
	inPlane(t, func(p *plane) {
		a, b := p.machine("a"), p.machine("b")
		p.create(newDeployment(2))
		a.silent.Store(true)
		b.silent.Store(true)
		p.pass(time.Hour)
		equal(p, "taints", taintsOf(p, "a")+" "+taintsOf(p, "b"), "unreachable:NoSchedule unreachable:NoSchedule")
		equal(p, "deleted Pods", len(deleted(list[*corev1.Pod](p, kind.Pod))), 0)
		b.silent.Store(false)
		b.post(corev1.ConditionTrue)
		equal(p, "taints when one is back", taintsOf(p, "a"), "unreachable:NoExecute unreachable:NoSchedule")
	})
}

func TestCordonAndDrain(t *testing.T) {
	inPlane(t, func(p *plane) {
		p.machine("a")
		p.create(newDeployment(2))
		p.machine("b")
		modify(p, kind.Node, "a", func(n *corev1.Node) { n.Spec.Unschedulable = true })
		equal(p, "taints", taintsOf(p, "a"), "unschedulable:NoSchedule")
		for _, pod := range onNode(p, "a") {
			req := p.to(kind.Pod, pod.Name)
			p.must(p.env.API.Evict(p.ctx, req, eviction(pod)))
		}
		p.settle()
		equal(p, "Pods on a", len(onNode(p, "a")), 0)
		equal(p, "Pods on b", len(onNode(p, "b")), 2)
		modify(p, kind.Node, "a", func(n *corev1.Node) { n.Spec.Unschedulable = false })
		equal(p, "taints", taintsOf(p, "a"), "")
	})
}

func TestPodsOfAVanishedNode(t *testing.T) {
	inPlane(t, func(p *plane) {
		p.machine("a")
		p.create(newDeployment(2))
		p.machine("b")
		var mu sync.Mutex
		var last []*corev1.Pod
		p.watch(kind.Pod, func(e state.Event) {
			if e.Type == state.Deleted {
				mu.Lock()
				defer mu.Unlock()
				last = append(last, e.Object.(*corev1.Pod))
			}
		})
		p.delete(kind.Node, "a", metav1.DeletePropagationBackground)
		if got := p.told("a"); !slices.Contains(got, "RemovingNode: Node a event: Removing Node a from Controller") {
			t.Errorf("events of the node %q", got)
		}
		p.pass(39 * time.Second)
		equal(p, "Pods on a after 39 s", len(onNode(p, "a")), 2)
		p.pass(2 * time.Second)
		equal(p, "Pods on a after 41 s", len(onNode(p, "a")), 0)
		equal(p, "Pods on b", len(onNode(p, "b")), 2)
		equal(p, "deleted", len(last), 2)
		if c := last[0].Status.Conditions; last[0].Status.Phase != corev1.PodFailed || !slices.ContainsFunc(c, func(c corev1.PodCondition) bool {
			return c.Type == corev1.DisruptionTarget && c.Reason == "DeletionByPodGC" && c.Message == "PodGC: node no longer exists"
		}) {
			t.Errorf("the Pod ended %s with %+v", last[0].Status.Phase, c)
		}
	})
}

func TestPodsThatNeverRan(t *testing.T) {
	inPlane(t, func(p *plane) {
		pod := &corev1.Pod{ObjectMeta: object("p"), Spec: template("good:1").Spec}
		p.create(pod)
		_, _, err := p.env.API.Delete(p.ctx, p.to(kind.Pod, "p"), metav1.DeleteOptions{GracePeriodSeconds: new(int64(1000))})
		p.must(err)
		p.settle()
		equal(p, "Pods", len(p.names(kind.Pod)), 0)
	})
}

func TestEventsExpire(t *testing.T) {
	inPlane(t, func(p *plane) {
		p.machine("a")
		p.create(newDeployment(1))
		events := len(p.names(kind.Event))
		if events < 3 {
			t.Fatalf("only %d events", events)
		}
		p.pass(50 * time.Minute)
		old := len(p.names(kind.Event))
		equal(p, "after 50 minutes", old, events)
		setImage(p, "good:2")
		p.pass(15 * time.Minute)
		young := len(p.names(kind.Event))
		if young == 0 || slices.Contains(p.told("web"), "ScalingReplicaSet: Scaled up replica set "+setOf(p, "good:1").Name+" from 0 to 1") {
			t.Errorf("%d events after 65 minutes: %q", young, p.told("web"))
		}
		p.pass(time.Hour)
		equal(p, "after two hours", len(p.names(kind.Event)), 0)
	})
}

func TestNodesGetTheirRanges(t *testing.T) {
	inPlane(t, func(p *plane) {
		p.machine("a")
		p.machine("b")
		equal(p, "a", get[*corev1.Node](p, kind.Node, "a").Spec.PodCIDR, "10.42.0.0/24")
		equal(p, "b", get[*corev1.Node](p, kind.Node, "b").Spec.PodCIDR, "10.42.1.0/24")
		p.delete(kind.Node, "a", metav1.DeletePropagationBackground)
		p.machine("c")
		equal(p, "c", get[*corev1.Node](p, kind.Node, "c").Spec.PodCIDR, "10.42.0.0/24")
	})
}

// Nodes that come at once have ranges of their own, without holes.
func TestNodesThatComeAtOnceGetTheirRanges(t *testing.T) {
	inPlane(t, func(p *plane) {
		const nodes = 60
		var creating errgroup.Group
		for i := range nodes {
			creating.Go(func() error {
				node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("n%d", i)}}
				_, err := p.env.API.Create(p.ctx, p.to(kind.Node, ""), node)
				return err
			})
		}
		p.must(creating.Wait())
		p.settle()
		given := map[string]bool{}
		for _, node := range state.List[*corev1.Node](p.env.State, kind.Node, state.Interest{}) {
			given[node.Spec.PodCIDR] = true
		}
		for i := range nodes {
			if text := fmt.Sprintf("10.42.%d.0/24", i); !given[text] {
				p.Errorf("nobody has %s", text)
			}
		}
	})
}

// A Service's slices follow its Pods in all they do.
func TestEndpointsFollowPods(t *testing.T) {
	inPlane(t, func(p *plane) {
		m := p.machine("a")
		p.create(&corev1.Service{ObjectMeta: object("web"), Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Name: "http", Port: 80}},
		}})
		equal(p, "no Pods", endpoints(p, "web"), "[] | ")
		p.create(newDeployment(2))
		equal(p, "two Pods", endpoints(p, "web"), "[10.42.0.1:ready 10.42.0.2:ready] http:80 | 10.42.0.1 10.42.0.2")
		m.silent.Store(true)
		victim := onNode(p, "a")[0]
		_, _, err := p.env.API.Delete(p.ctx, p.to(kind.Pod, victim.Name), metav1.DeleteOptions{})
		p.must(err)
		p.settle()
		if got := endpoints(p, "web"); !strings.Contains(got, victim.Status.PodIP+":serving,terminating") || strings.Contains(got[strings.Index(got, "|"):], victim.Status.PodIP) {
			t.Errorf("terminating: %s", got)
		}
		m.silent.Store(false)
		m.work(get[*corev1.Pod](p, kind.Pod, victim.Name))
		p.settle()
		if got := endpoints(p, "web"); strings.Contains(got, victim.Status.PodIP) {
			t.Errorf("gone: %s", got)
		}
		p.delete(kind.Service, "web", metav1.DeletePropagationBackground)
		for _, k := range []*kind.Kind{kind.EndpointSlice, kind.Endpoints} {
			if got := p.names(k); !slices.Equal(got, []string{"kubernetes"}) {
				t.Errorf("left of %s: %q", k.Kind, got)
			}
		}
	})
}

// Endpoints that somebody made go with their Service; without one they stay.
func TestEndpointsMadeByHand(t *testing.T) {
	inPlane(t, func(p *plane) {
		p.create(&corev1.Service{ObjectMeta: object("own"), Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}})
		for _, name := range []string{"own", "free"} {
			p.create(&corev1.Endpoints{ObjectMeta: object(name), Subsets: []corev1.EndpointSubset{{Addresses: []corev1.EndpointAddress{{IP: "192.0.2.7"}}}}})
		}
		equal(p, "Endpoints", strings.Join(p.names(kind.Endpoints), " "), "free kubernetes own")
		p.delete(kind.Service, "own", metav1.DeletePropagationBackground)
		equal(p, "Endpoints", strings.Join(p.names(kind.Endpoints), " "), "free kubernetes")
	})
}
