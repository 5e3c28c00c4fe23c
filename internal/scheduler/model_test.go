package scheduler

import (
	"fmt"
	"math/rand"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A cluster that Pods and nodes came to, changed in and left decides as one that
// was made of what is there now.
func TestClusterForgetsNothing(t *testing.T) {
	random := rand.New(rand.NewSource(7))
	changes := []func(*corev1.Pod){
		func(*corev1.Pod) {}, app("x"), app("y"), far(terms("zone", "x")), near(terms("zone", "y")), hostPort80("", ""),
		asks(corev1.ResourceCPU, "1"), asks("example.com/gpu", "1"),
		func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} },
	}
	random1 := func(name string) *corev1.Pod {
		return pod(name, changes[random.Intn(len(changes))], changes[random.Intn(len(changes))])
	}
	nodes, placed := map[string]*corev1.Node{}, map[string]on{}
	c := NewCluster()
	for i := range 3000 {
		name := fmt.Sprintf("p%d", random.Intn(30))
		host := fmt.Sprintf("n%d", random.Intn(6))
		switch random.Intn(6) {
		case 0:
			c.Remove(pod(name).UID)
			delete(placed, name)
		case 1:
			c.RemoveNode(host)
			delete(nodes, host)
		case 2:
			nodes[host] = node(host, label("zone", fmt.Sprint(random.Intn(3))))
			c.SetNode(nodes[host])
		default:
			p := random1(name)
			p.Generation = int64(i) // another Pod each time
			if at, ok := placed[name]; ok && random.Intn(2) == 0 {
				p = at.pods[0].DeepCopy() // the same one, on its way out
				p.DeletionTimestamp, host = &metav1.Time{}, at.node
			}
			c.Place(p, host)
			placed[name] = on{host, []*corev1.Pod{p}}
		}
		fresh := NewCluster()
		for _, n := range nodes {
			fresh.SetNode(n)
		}
		for _, o := range placed {
			fresh.Place(o.pods[0], o.node)
		}
		p := newPodInfo(random1("new"))
		if p.spread == nil && random.Intn(3) == 0 {
			p = newPodInfo(pod("new", app("x"), spreadOver("zone", 1, corev1.DoNotSchedule)))
		}
		if got, want := verdicts(c, p), verdicts(fresh, p); got != want {
			t.Fatalf("step %d: got  %s\nwant %s", i, got, want)
		}
	}
}

// verdicts is what each node has against a Pod, and what it scores.
func verdicts(c *Cluster, p *podInfo) string {
	cy := &cycle{cluster: c, pod: p, namespaceLabels: namespaceLabels}
	cy.constraints, cy.together = cy.newConstraints(corev1.DoNotSchedule), cy.newTogether()
	text := ""
	for _, n := range c.nodes {
		cy.check(n, filters[:])
		text += fmt.Sprintf("%s%q %.3f %.3f %.3f; ", n.name, cy.reasons, free(cy, n), crowding(cy, n), liking(cy, n))
	}
	return text
}
