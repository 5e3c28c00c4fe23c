package state

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt"
)

// house is a state over a real engine.
type house struct {
	*State
	engine *bolt.Engine
	path   string
}

func testOptions() Options { return Options{DetectMutation: true} }

func open(t testing.TB, path string, options Options) *house {
	t.Helper()
	engine, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(context.Background(), engine, kind.All, options)
	if err != nil {
		engine.Close()
		t.Fatal(err)
	}
	h := &house{State: s, engine: engine, path: path}
	t.Cleanup(h.close)
	return h
}

func (h *house) close() {
	h.State.Close()
	h.engine.Close()
}

func newHouse(t testing.TB) *house {
	t.Helper()
	return open(t, filepath.Join(t.TempDir(), "store.db"), testOptions())
}

func configMap(namespace, name, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"value": value}},
		Data:       map[string]string{"key": value},
	}
}

func pod(namespace, name, node string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	}
}

func put(k *kind.Kind, obj kind.Object, expect store.Revision) Write {
	return Write{Kind: k, Action: store.Put, Object: obj, Expect: expect}
}

func remove(k *kind.Kind, namespace, name string) Write {
	return Write{Kind: k, Action: store.Delete, Namespace: namespace, Name: name, Expect: store.Any}
}

func (h *house) must(t testing.TB, writes ...Write) []kind.Object {
	t.Helper()
	objects, err := h.Commit(context.Background(), writes...)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// next returns the next event as "type name@revision", or fails soon.
func next(t testing.TB, w *Watch) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	event, err := w.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return show(event)
}

func show(e Event) string {
	if e.Object.GetResourceVersion() != strconv.FormatInt(int64(e.Revision), 10) {
		return fmt.Sprintf("revision %d, object %s", e.Revision, e.Object.GetResourceVersion())
	}
	return fmt.Sprintf("%s %s@%d", [...]string{"added", "modified", "deleted"}[e.Type],
		objectKey(e.Object.GetNamespace(), e.Object.GetName()), e.Revision)
}

// none checks that the watch has nothing to tell.
func none(t testing.TB, w *Watch) {
	t.Helper()
	if e, ok, err := w.Poll(); ok || err != nil {
		t.Fatalf("unexpected %v, %v", e, err)
	}
}

// keys returns what Ascend yields.
func keys(n *Snapshot, in Interest, after string) (keys []string) {
	n.Ascend(in, after, func(obj kind.Object) bool {
		keys = append(keys, objectKey(obj.GetNamespace(), obj.GetName()))
		return true
	})
	return keys
}
