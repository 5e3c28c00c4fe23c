package containerd

import (
	"sync"
	"testing"
	"time"
)

// BenchmarkStart measures what a Pod's start costs in the runtime: a new shim,
// create and start; then the same in a Pod whose shim runs, and removal.
func BenchmarkStart(b *testing.B) {
	n := newNode(b)
	var removal time.Duration
	for b.Loop() {
		c := n.container("sleep 1000")
		n.run(c)
		b.StopTimer()
		began := time.Now()
		if err := n.RemovePod(b.Context(), c.Pod.UID); err != nil {
			b.Fatal(err)
		}
		removal += time.Since(began)
		b.StartTimer()
	}
	b.ReportMetric(float64(removal.Microseconds())/float64(b.N)/1000, "ms/removal")
}

// BenchmarkStartTogether starts containers eight at a time.
func BenchmarkStartTogether(b *testing.B) {
	n := newNode(b)
	for b.Loop() {
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() { n.run(n.container("sleep 1000")) })
		}
		all.Wait()
		b.StopTimer()
		if err := n.RemoveAll(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
