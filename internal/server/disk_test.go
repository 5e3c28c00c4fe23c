package server

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/store/bolt"
)

// What a transaction takes, and whether the disk is then called slow.
func TestDiskWatch(t *testing.T) {
	for _, test := range []struct {
		name string
		took []time.Duration
		want int
	}{
		{"a fast disk", slices.Repeat([]time.Duration{time.Millisecond}, 100), 0},
		{"an SD card", slices.Repeat([]time.Duration{60 * time.Millisecond}, 100), 0},
		{"one long wait", append(slices.Repeat([]time.Duration{time.Millisecond}, 100), 2*time.Second), 0},
		{"a slow disk", slices.Repeat([]time.Duration{300 * time.Millisecond}, 100), 1},
		{"a stalled disk", []time.Duration{10 * time.Second}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDiskWatch()
				told := 0
				ctx, cancel := context.WithCancel(t.Context())
				go d.run(ctx, func(context.Context, time.Duration) { told++ })
				for round := 1; round <= 2; round++ {
					for _, took := range test.took {
						d.observe(bolt.Transaction{Took: took})
						synctest.Wait()
					}
					if told != round*test.want {
						t.Errorf("after round %d told %d times, want %d", round, told, round*test.want)
					}
					d.average = 0
					time.Sleep(slowDiskRest)
				}
				cancel()
			})
		})
	}
}

func TestSlowDiskIsAnEventOfTheNode(t *testing.T) {
	settings := settings(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	s, err := open(ctx, settings, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}()
	r := &running{settings: settings}
	if err := r.await(ended); err != nil {
		t.Fatal(err)
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: settings.NodeName}}
	if _, err := r.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	watch, err := r.client.CoreV1().Events("default").Watch(ctx, metav1.ListOptions{FieldSelector: "reason=SlowDisk"})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	s.disk.slow <- 312345 * time.Microsecond
	select {
	case change := <-watch.ResultChan():
		event := change.Object.(*corev1.Event)
		if event.InvolvedObject.Kind != "Node" || event.InvolvedObject.Name != "box" || event.Type != "Warning" ||
			!strings.Contains(event.Message, "takes 312ms on average") {
			t.Errorf("%+v", event)
		}
	case <-time.After(20 * time.Second):
		t.Error("no event")
	}
}

func TestMetrics(t *testing.T) {
	r := start(t, settings(t, t.TempDir()))
	text, err := r.client.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"# TYPE skiff_store_commit_duration_seconds histogram", "skiff_store_commit_operations_sum", "skiff_store_file_bytes ",
		"skiff_store_free_bytes ", "skiff_store_lazy_bytes ", "skiff_store_written_bytes_total ", "skiff_store_compactions_total 0",
		"apiserver_request_panics_total 0", "go_goroutines ", "process_resident_memory_bytes ",
	} {
		if !strings.Contains(string(text), "\n"+want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for _, counter := range []string{"commits_total", "operations_total", "syncs_total"} {
		if strings.Contains(string(text), "\nskiff_store_"+counter+" 0\n") {
			t.Errorf("nothing counted by %s", counter)
		}
	}
}
