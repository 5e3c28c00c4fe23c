package api_test

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt"
)

// engine is a real store whose commits a test looks at, or lets fail.
type engine struct {
	store.Engine

	mu   sync.Mutex // guards all below
	fail error
	ops  []store.Op
	hook func() // runs once, before the next commit
}

func (e *engine) Commit(ctx context.Context, ops []store.Op) ([]store.Revision, error) {
	e.mu.Lock()
	fail, hook := e.fail, e.hook
	e.ops, e.hook = ops, nil
	e.mu.Unlock()
	if hook != nil {
		hook()
	}
	if fail != nil {
		return nil, fail
	}
	return e.Engine.Commit(ctx, ops)
}

func (e *engine) set(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
}

// newEngine returns an API without admission over an engine, and the engine.
func newEngine(t *testing.T) (*cluster, *engine) {
	t.Helper()
	b, err := bolt.Open(filepath.Join(t.TempDir(), "store"), bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	e := &engine{Engine: b}
	s, err := state.Open(context.Background(), e, kind.All, state.Options{DetectMutation: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	c := &cluster{API: api.New(api.Config{State: s}), state: s, t: t}
	c.create(kind.Namespace, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}})
	return c, e
}

func TestFullDisk(t *testing.T) {
	c, e := newEngine(t)
	e.set(func() { e.fail = store.ErrFull })
	_, err := c.Create(context.Background(), to(kind.ConfigMap, "default", "a"), configMap("a"))
	wantStatus(t, err, metav1.StatusReasonInternalError, "the disk under the data directory is full, nothing can be written: free some space there")
	e.set(func() { e.fail = store.ErrClosed })
	_, err = c.Create(context.Background(), to(kind.ConfigMap, "default", "a"), configMap("a"))
	wantStatus(t, err, metav1.StatusReasonServiceUnavailable, "the server is stopping")
	e.set(func() { e.fail = nil })
	c.create(kind.ConfigMap, configMap("a"))
}

// Renewing a Lease may wait for the disk; taking one over may not.
func TestLazyWrites(t *testing.T) {
	c, e := newEngine(t)
	lazy := func() bool { return e.ops[len(e.ops)-1].Lazy }
	c.create(kind.Lease, lease("l", "me"))
	if lazy() {
		t.Error("the creation of a Lease is lazy")
	}
	change := func(f func(*coordinationv1.Lease)) {
		if _, err := c.Modify(context.Background(), to(kind.Lease, "default", "l"), func(obj kind.Object) error {
			f(obj.(*coordinationv1.Lease))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	change(func(l *coordinationv1.Lease) {
		l.Spec.RenewTime = new(metav1.NewMicroTime(time.Now().Truncate(time.Microsecond)))
	})
	if !lazy() {
		t.Error("the renewal of a Lease waits for the disk")
	}
	change(func(l *coordinationv1.Lease) { l.Spec.HolderIdentity = new("you") })
	if lazy() {
		t.Error("a new holder of a Lease is lazy")
	}
}

// What changes between a request's look at the state and its commit is seen by
// the next attempt.
func TestConflictsAreMet(t *testing.T) {
	c, e := newEngine(t)
	ctx := context.Background()
	first := c.create(kind.ConfigMap, configMap("a", "k", "1"))
	meanwhile := func() {
		if _, err := c.Modify(ctx, at(kind.ConfigMap, first), func(obj kind.Object) error {
			obj.SetAnnotations(map[string]string{"mean": "while"})
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	e.set(func() { e.hook = meanwhile })
	unconditional := configMap("a", "k", "2")
	out, err := c.Update(ctx, at(kind.ConfigMap, first), unconditional)
	if err != nil || out.(*corev1.ConfigMap).Data["k"] != "2" {
		t.Errorf("unconditional update: %v, %v", out, err)
	}
	e.set(func() { e.hook = meanwhile })
	_, err = c.Update(ctx, at(kind.ConfigMap, first), edited(out, "3"))
	wantStatus(t, err, metav1.StatusReasonConflict, "the object has been modified")

	e.set(func() { e.hook = func() { c.create(kind.ConfigMap, configMap("b")) } })
	_, err = c.Create(ctx, to(kind.ConfigMap, "default", "b"), configMap("b"))
	wantStatus(t, err, metav1.StatusReasonAlreadyExists, `configmaps "b" already exists`)

	e.set(func() {
		e.hook = func() {
			_, err := c.Modify(ctx, to(kind.ConfigMap, "default", "a"), func(obj kind.Object) error {
				obj.SetFinalizers([]string{"example.com/hold"})
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		}
	})
	if _, gone := c.delete(kind.ConfigMap, "default", "a", metav1.DeleteOptions{}); gone {
		t.Error("a deletion passed over a finalizer that came before it")
	}
	e.set(func() { e.hook = func() { c.delete(kind.ConfigMap, "default", "b", metav1.DeleteOptions{}) } })
	_, _, err = c.Delete(ctx, to(kind.ConfigMap, "default", "b"), metav1.DeleteOptions{})
	wantStatus(t, err, metav1.StatusReasonNotFound, `configmaps "b" not found`)
}

// A namespace that begins to end between the look at it and the commit takes
// nothing any more.
func TestNamespaceEndsBeforeTheCommit(t *testing.T) {
	c, e := newEngine(t)
	c.create(kind.Namespace, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}})
	e.set(func() { e.hook = func() { c.delete(kind.Namespace, "", "team", metav1.DeleteOptions{}) } })
	cm := configMap("a")
	cm.Namespace = "team"
	_, err := c.Create(context.Background(), to(kind.ConfigMap, "team", "a"), cm)
	wantStatus(t, err, metav1.StatusReasonForbidden, "unable to create new content in namespace team because it is being terminated")
}

// A generated name that is taken is generated again, and in the end that is
// said.
func TestGeneratedNamesAreRetried(t *testing.T) {
	c, e := newEngine(t)
	ctx := context.Background()
	taken := 0
	var take func()
	take = func() {
		name := e.ops[len(e.ops)-1].Key.Name[len("default/"):]
		c.create(kind.ConfigMap, configMap(name))
		if taken++; taken < 3 {
			e.set(func() { e.hook = take })
		}
	}
	e.set(func() { e.hook = take })
	generated := func() *corev1.ConfigMap {
		cm := configMap("")
		cm.GenerateName = "g-"
		return cm
	}
	if _, err := c.Create(ctx, to(kind.ConfigMap, "default", ""), generated()); err != nil || taken != 3 {
		t.Fatalf("after %d taken names: %v", taken, err)
	}
	taken = -1000
	e.set(func() { e.hook = take })
	_, err := c.Create(ctx, to(kind.ConfigMap, "default", ""), generated())
	wantStatus(t, err, metav1.StatusReasonAlreadyExists, "already exists, the server was not able to generate a unique name for the object")
	if taken != -1000+8 {
		t.Errorf("%d attempts, want 8", taken+1000)
	}
	e.set(func() { e.hook = nil })
}
