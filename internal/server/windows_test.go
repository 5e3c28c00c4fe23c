package server

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt"
)

// onDisk says whether a record is in the file as a power cut would leave it.
func onDisk(ctx context.Context, t *testing.T, path string, key store.Key) bool {
	t.Helper()
	for {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		copied := filepath.Join(t.TempDir(), "store.db")
		if err := os.WriteFile(copied, data, 0o600); err != nil {
			t.Fatal(err)
		}
		found := false
		err = bolt.Read(ctx, copied, func(r store.Record) error {
			found = found || r.Key == key
			return nil
		})
		if err == nil {
			return found
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
		// A transaction came in between: read anew.
	}
}

// A window of 0 makes Events durable at once; with another they wait.
func TestWindows(t *testing.T) {
	for name, window := range map[string]time.Duration{"durable": 0, "lazy": time.Hour} {
		t.Run(name, func(t *testing.T) {
			s := settings(t, t.TempDir())
			s.Store.EventsWindow = window
			r := start(t, s)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			_, err := r.client.CoreV1().Events("default").Create(ctx, &corev1.Event{
				ObjectMeta:     metav1.ObjectMeta{Name: "mine"},
				InvolvedObject: corev1.ObjectReference{Kind: "Namespace", Name: "default", Namespace: "default"},
				Reason:         "Test", Type: corev1.EventTypeNormal,
			}, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			key := store.Key{Bucket: kind.Event.Bucket(), Name: "default/mine"}
			if got := onDisk(ctx, t, config.NewHost(s.DataDir).StorePath(), key); got != (window == 0) {
				t.Errorf("on disk: %t", got)
			}
		})
	}
}
