package scheduler

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

// BenchmarkPlan decides for Pods over 5,000 nodes that hold 20 each.
func BenchmarkPlan(b *testing.B) {
	const nodes, each = 5000, 20
	owned := func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{UID: "rs", Controller: new(true)}}
	}
	for _, c := range []struct {
		name   string
		change []func(*corev1.Pod)
		there  []func(*corev1.Pod)
	}{
		{name: "plain"},
		{name: "owned", change: []func(*corev1.Pod){owned}},
		{name: "selector", change: []func(*corev1.Pod){selects("zone", "3")}},
		{name: "nowhere", change: []func(*corev1.Pod){asks(corev1.ResourceCPU, "3900m")}},
		{name: "antiAffinity", change: []func(*corev1.Pod){app("x"), far(terms(corev1.LabelHostname, "x"))}},
		{name: "spread", change: []func(*corev1.Pod){app("x"), spreadOver("zone", 5, corev1.DoNotSchedule)}},
		{name: "softSpread", change: []func(*corev1.Pod){app("x"), spreadOver("zone", 5, corev1.ScheduleAnyway)}},
	} {
		b.Run(c.name, func(b *testing.B) {
			cl := NewCluster()
			for i := range nodes {
				name := fmt.Sprintf("n%d", i)
				cl.SetNode(node(name, label("zone", fmt.Sprint(i%10)), func(n *corev1.Node) {
					n.Status.Allocatable[corev1.ResourcePods] = resource.MustParse("1000000")
				}))
				for j := range each {
					cl.Place(pod(fmt.Sprintf("p%d-%d", i, j), asks(corev1.ResourceCPU, "10m"), asks(corev1.ResourceMemory, "10Mi")), name)
				}
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				p := newPodInfo(pod(fmt.Sprintf("p%d", i), c.change...))
				got := cl.plan(p, namespaceLabels)
				if got.Node != "" {
					cl.place(p, got.Node)
				}
			}
		})
	}
}

// BenchmarkSchedule has the scheduler bind Pods that are there already, over
// 5,000 nodes, through the API and the store (which does not sync here).
func BenchmarkSchedule(b *testing.B) {
	p := open(b, false)
	for i := range 5000 {
		p.create(node(fmt.Sprintf("n%d", i), label("zone", fmt.Sprint(i%10))))
	}
	for i := range b.N {
		p.create(pod(fmt.Sprintf("p%d", i), asks(corev1.ResourceCPU, "10m"), asks(corev1.ResourceMemory, "10Mi")))
	}
	watch, err := p.state.Watch(kind.Pod, state.Interest{}, p.state.Revision())
	p.must(err)
	defer watch.Stop()
	b.ResetTimer()
	p.run()
	for bound := 0; bound < b.N; {
		e, err := watch.Next(p.ctx)
		p.must(err)
		if e.Object.(*corev1.Pod).Spec.NodeName != "" {
			bound++
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pods/s")
	p.stop()
}
