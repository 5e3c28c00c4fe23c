package checkpoint

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// What of an object counts as a change, and what has to be written at once.
func TestForms(t *testing.T) {
	node := func(change func(*corev1.Node)) runtime.Unknown {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Status: corev1.NodeStatus{
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}},
		}}
		change(n)
		raw, err := n.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: "v1", Kind: "Node"}, Raw: raw}
	}
	pod := func(change func(*corev1.Pod)) runtime.Unknown {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "p"}}
		change(p)
		raw, err := p.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: "v1", Kind: "Pod"}, Raw: raw}
	}
	theNode, thePod := node(func(*corev1.Node) {}), pod(func(*corev1.Pod) {})
	state := func(p *corev1.Pod) {
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}}}
	}
	for _, c := range []struct {
		what        string
		before, now runtime.Unknown
		sum, atOnce bool
	}{
		{"a heartbeat", theNode, node(func(n *corev1.Node) {
			n.ResourceVersion = "2"
			n.Status.Conditions[0].LastHeartbeatTime = metav1.Now()
		}), false, false},
		{"images", theNode, node(func(n *corev1.Node) { n.Status.Images = []corev1.ContainerImage{{SizeBytes: 1}} }), false, false},
		{"a Node not ready", theNode, node(func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionFalse }), true, false},
		{"a Node's address", theNode, node(func(n *corev1.Node) { n.Status.Addresses[0].Address = "192.0.2.2" }), true, true},
		{"a Node's Pod range", theNode, node(func(n *corev1.Node) { n.Spec.PodCIDRs = []string{"10.42.1.0/24"} }), true, true},
		{"a Pod's revision", thePod, pod(func(p *corev1.Pod) { p.ResourceVersion = "2" }), false, false},
		{"a Pod's label", thePod, pod(label("1")), true, true},
		{"a Pod's condition", thePod, pod(func(p *corev1.Pod) { p.Status.Conditions = []corev1.PodCondition{{Type: "X"}} }), true, false},
		{"a Pod's address", thePod, pod(func(p *corev1.Pod) { p.Status.PodIPs = []corev1.PodIP{{IP: "10.42.0.2"}} }), true, true},
		{"the end of a container that starts again", pod(func(p *corev1.Pod) { p.Spec.RestartPolicy = "Always" }),
			pod(func(p *corev1.Pod) { p.Spec.RestartPolicy = "Always"; state(p) }), true, false},
		{"the end of a container that does not", pod(func(p *corev1.Pod) { p.Spec.RestartPolicy = "Never" }),
			pod(func(p *corev1.Pod) { p.Spec.RestartPolicy = "Never"; state(p) }), true, true},
	} {
		before, err := formOf(c.before)
		if err != nil {
			t.Fatal(err)
		}
		now, err := formOf(c.now)
		if err != nil {
			t.Fatal(err)
		}
		if changed, atOnce := before.sum != now.sum, before.core != now.core; changed != c.sum || atOnce != c.atOnce {
			t.Errorf("%s: a change %t, at once %t; want %t, %t", c.what, changed, atOnce, c.sum, c.atOnce)
		}
	}
}
