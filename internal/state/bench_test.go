package state

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt"
)

// benchPod is about as large as a real one.
func benchPod(i int) *corev1.Pod {
	p := pod(fmt.Sprintf("namespace-%02d", i%50), fmt.Sprintf("pod-%05d", i), fmt.Sprintf("node-%03d", i%100))
	p.Labels = map[string]string{"app": "web", "tier": "front", "pod-template-hash": "5d4f8c7b9"}
	p.Annotations = map[string]string{"note": strings.Repeat("x", 800)}
	for c := range 2 {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{
			Name: fmt.Sprint("c", c), Image: "registry.example/team/image:v1.2.3",
			Env: []corev1.EnvVar{{Name: "A", Value: "b"}, {Name: "C", Value: "d"}},
		})
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue})
	}
	return p
}

// benchHouse has 20,000 Pods.
func benchHouse(b *testing.B) *house {
	b.Helper()
	h := open(b, filepath.Join(b.TempDir(), "store.db"), Options{})
	for i := 0; i < 20_000; i += 500 {
		var writes []Write
		for j := range 500 {
			writes = append(writes, put(kind.Pod, benchPod(i+j), store.Absent))
		}
		h.must(b, writes...)
	}
	return h
}

func BenchmarkGet(b *testing.B) {
	h := benchHouse(b)
	var names [1000][2]string
	for i := range names {
		names[i] = [2]string{fmt.Sprintf("namespace-%02d", i*17%50), fmt.Sprintf("pod-%05d", i*17)}
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, ok := h.Get(kind.Pod, names[i%1000][0], names[i%1000][1]); !ok {
				b.Error("not found")
				return
			}
		}
	})
}

func BenchmarkListNode(b *testing.B) {
	h := benchHouse(b)
	b.ReportAllocs()
	for b.Loop() {
		if n := len(List[*corev1.Pod](h.State, kind.Pod, Interest{NodeName: "node-042"})); n != 200 {
			b.Fatal(n)
		}
	}
}

func BenchmarkCommit(b *testing.B) {
	h := benchHouse(b)
	for _, writers := range []int{1, 16, 64} {
		b.Run(fmt.Sprint(writers), func(b *testing.B) {
			var all sync.WaitGroup
			b.ResetTimer()
			for w := range writers {
				all.Go(func() {
					for i := w; i < b.N; i += writers {
						h.must(b, put(kind.Pod, benchPod(i%20_000), store.Any))
					}
				})
			}
			all.Wait()
		})
	}
}

// BenchmarkWatchers is one lazy write (no disk) until the last of 1,000
// watchers has it.
func BenchmarkWatchers(b *testing.B) {
	h := open(b, filepath.Join(b.TempDir(), "store.db"), Options{})
	h.must(b, put(kind.ConfigMap, configMap("a", "first", "1"), store.Any))
	ctx, cancel := context.WithCancel(context.Background())
	var seen, all sync.WaitGroup
	for range 1000 {
		w := watch(b, h, kind.ConfigMap, Interest{}, h.Revision())
		all.Go(func() {
			for {
				if _, err := w.Next(ctx); err != nil {
					return
				}
				seen.Done()
			}
		})
	}
	for b.Loop() {
		seen.Add(1000)
		write := put(kind.ConfigMap, configMap("a", "x", "1"), store.Any)
		write.Lazy = true
		h.must(b, write)
		seen.Wait()
	}
	cancel()
	all.Wait()
}

// BenchmarkOpen opens the engine and decodes 20,000 Pods.
func BenchmarkOpen(b *testing.B) {
	h := benchHouse(b)
	h.close()
	b.ResetTimer()
	for range b.N {
		engine, err := bolt.Open(h.path, bolt.Options{})
		if err != nil {
			b.Fatal(err)
		}
		s, err := Open(context.Background(), engine, kind.All, Options{})
		if err != nil {
			b.Fatal(err)
		}
		if n := s.Snapshot(kind.Pod).Len(); n != 20_000 {
			b.Fatal(n)
		}
		s.Close()
		engine.Close()
	}
}
