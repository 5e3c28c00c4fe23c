package state

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/store"
)

func watch(t testing.TB, h *house, k *kind.Kind, in Interest, after store.Revision) *Watch {
	t.Helper()
	w, err := h.Watch(k, in, after)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return w
}

func TestWatch(t *testing.T) {
	h := newHouse(t)
	early := watch(t, h, kind.ConfigMap, Interest{}, 0)
	h.must(t, put(kind.ConfigMap, configMap("a", "x", "1"), store.Absent))
	h.must(t, put(kind.Secret, &corev1.Secret{ObjectMeta: configMap("a", "x", "1").ObjectMeta}, store.Absent))
	h.must(t, put(kind.ConfigMap, configMap("a", "x", "2"), store.Any))
	h.must(t, remove(kind.ConfigMap, "a", "x"))
	late := watch(t, h, kind.ConfigMap, Interest{}, 1)
	want := []string{"added a/x@1", "modified a/x@3", "deleted a/x@4"}
	for i, text := range want {
		if got := next(t, early); got != text {
			t.Errorf("got %s, want %s", got, text)
		}
		if i == 0 {
			continue
		}
		if got := next(t, late); got != text {
			t.Errorf("from revision 1: got %s, want %s", got, text)
		}
	}
	none(t, early)
	none(t, late)
	if early.Revision() != 4 {
		t.Errorf("all seen up to %d", early.Revision())
	}
	h.must(t, put(kind.ConfigMap, configMap("a", "x", "3"), store.Any), put(kind.Namespace, namespace("n"), store.Any))
	if late.Revision() != 4 {
		t.Errorf("with an event to come, all seen up to %d", late.Revision())
	}
	if got := next(t, late); got != "added a/x@5" || late.Revision() != 6 {
		t.Errorf("got %s, then all seen up to %d", got, late.Revision())
	}
	if _, err := h.Watch(kind.ConfigMap, Interest{}, 7); err != ErrFuture {
		t.Errorf("a revision not reached: %v", err)
	}
}

func TestWatchOldObject(t *testing.T) {
	h := newHouse(t)
	w := watch(t, h, kind.ConfigMap, Interest{}, 0)
	h.must(t, put(kind.ConfigMap, configMap("a", "x", "1"), store.Any))
	h.must(t, put(kind.ConfigMap, configMap("a", "x", "2"), store.Any))
	h.must(t, remove(kind.ConfigMap, "a", "x"))
	value := func(obj kind.Object) string {
		if obj == nil {
			return "-"
		}
		return obj.(*corev1.ConfigMap).Data["key"] + "@" + obj.GetResourceVersion()
	}
	for _, want := range []string{"- 1@1", "1@1 2@2", "2@2 2@3"} {
		e, err := w.Next(context.Background())
		if got := value(e.Old) + " " + value(e.Object); err != nil || got != want {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}
	}
}

// TestWatchInterest: a watch hears of what concerns it, before or after a
// change, and nothing else wakes it.
func TestWatchInterest(t *testing.T) {
	h := newHouse(t)
	watches := map[string]*Watch{
		"all": watch(t, h, kind.Pod, Interest{}, 0), "a": watch(t, h, kind.Pod, Interest{Namespace: "a"}, 0),
		"x": watch(t, h, kind.Pod, Interest{Name: "x"}, 0), "b/x": watch(t, h, kind.Pod, Interest{Namespace: "b", Name: "x"}, 0),
		"n1": watch(t, h, kind.Pod, Interest{NodeName: "n1"}, 0), "n2 a": watch(t, h, kind.Pod, Interest{NodeName: "n2", Namespace: "a"}, 0),
	}
	for _, step := range []struct {
		write Write
		want  []string
	}{
		{put(kind.Pod, pod("a", "x", ""), store.Any), []string{"all", "a", "x"}},
		{put(kind.Pod, pod("b", "x", ""), store.Any), []string{"all", "x", "b/x"}},
		{put(kind.Pod, pod("b", "y", ""), store.Any), []string{"all"}},
		{put(kind.Pod, pod("b", "y", "n1"), store.Any), []string{"all", "n1"}},
		{put(kind.Pod, pod("b", "y", "n2"), store.Any), []string{"all", "n1"}},
		{put(kind.Pod, pod("b", "y", "n2"), store.Any), []string{"all"}},
		{put(kind.Pod, pod("a", "x", "n2"), store.Any), []string{"all", "a", "x", "n2 a"}},
		{remove(kind.Pod, "a", "x"), []string{"all", "a", "x", "n2 a"}},
	} {
		h.must(t, step.write)
		woken := map[string]bool{}
		for _, name := range step.want {
			woken[name] = true
		}
		for name, w := range watches {
			select {
			case <-w.Ready():
				if !woken[name] {
					t.Errorf("revision %d woke %s", h.Revision(), name)
				}
				if e, ok, err := w.Poll(); !ok || e.Revision != h.Revision() {
					t.Errorf("%s: %v, %v", name, e, err)
				}
			default:
				if woken[name] {
					t.Errorf("revision %d did not wake %s", h.Revision(), name)
				}
			}
			none(t, w)
		}
	}
}

func TestWatchFallsBehind(t *testing.T) {
	h := open(t, t.TempDir()+"/store.db", Options{Ring: Ring{Events: 4}})
	slow := watch(t, h, kind.ConfigMap, Interest{}, 0)
	other := watch(t, h, kind.ConfigMap, Interest{Name: "other"}, 0)
	for i := range 6 {
		h.must(t, put(kind.ConfigMap, configMap("a", "x", fmt.Sprint(i)), store.Any))
	}
	if _, err := slow.Next(context.Background()); err != ErrExpired {
		t.Errorf("the slow watch: %v", err)
	}
	if _, err := h.Watch(kind.ConfigMap, Interest{}, 1); err != ErrExpired {
		t.Errorf("a watch from before the ring: %v", err)
	}
	if got := next(t, watch(t, h, kind.ConfigMap, Interest{}, 2)); got != "modified a/x@3" {
		t.Errorf("a watch from the ring's floor: %s", got)
	}
	// What fell out of the ring did not concern this one.
	none(t, other)
	h.must(t, put(kind.ConfigMap, configMap("a", "other", "1"), store.Any))
	if got := next(t, other); got != "added a/other@7" {
		t.Errorf("got %s", got)
	}
}

func TestRingBounds(t *testing.T) {
	happening := func(revision store.Revision) *happening {
		h := &happening{bytes: 100}
		h.Revision = revision
		return h
	}
	synctest.Test(t, func(t *testing.T) {
		r := newRing(Ring{Bytes: 350, Age: time.Minute}, 10)
		for i := range 5 {
			r.publish(happenings(happening(store.Revision(11+i))), nil)
		}
		if len(r.events) != 3 || r.floor != 12 || r.first != 2 || r.bytes != 300 {
			t.Errorf("by bytes: %d events after %d", len(r.events), r.floor)
		}
		time.Sleep(2 * time.Minute)
		r.publish(happenings(happening(16)), nil)
		if len(r.events) != 1 || r.floor != 15 || r.bytes != 100 {
			t.Errorf("by age: %d events after %d", len(r.events), r.floor)
		}
	})
}

// TestIdleRingsAreTrimmed: what happens to one kind makes the others forget, too,
// and who has seen all of them misses nothing.
func TestIdleRingsAreTrimmed(t *testing.T) {
	h := newHouse(t)
	for i := range 5 {
		h.must(t, put(kind.Secret, &corev1.Secret{ObjectMeta: configMap("a", fmt.Sprint(i), "").ObjectMeta}, store.Absent))
	}
	last, ring := h.Revision(), h.tables[kind.Secret].ring
	h.trimmed = time.Now().Add(-2 * trimEvery)
	ring.bounds.Age = time.Nanosecond
	h.must(t, put(kind.ConfigMap, configMap("a", "x", "1"), store.Absent))
	if len(ring.events) != 1 {
		t.Errorf("%d Secrets' events are kept", len(ring.events))
	}
	none(t, watch(t, h, kind.Secret, Interest{}, last))
	if _, err := h.Watch(kind.Secret, Interest{}, last-2); err != ErrExpired {
		t.Errorf("from before: %v", err)
	}
}

// TestListedIsNotRepeated: a list may show a revision whose event reaches the
// ring only after the watch that goes with it.
func TestListedIsNotRepeated(t *testing.T) {
	r := newRing(Ring{}, 0)
	w := &Watch{ring: r, ready: make(chan struct{}, 1), after: 5}
	r.subs.add(w)
	for revision := range store.Revision(7) {
		h := &happening{}
		h.Revision = revision
		r.publish(happenings(h), nil)
	}
	if e, ok, err := w.Poll(); !ok || e.Revision != 6 {
		t.Errorf("got %d, %v", e.Revision, err)
	}
	none(t, w)
}

func happenings(h ...*happening) []*happening { return h }

func TestWatchEnds(t *testing.T) {
	h := newHouse(t)
	w := watch(t, h, kind.ConfigMap, Interest{}, 0)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := w.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("context: %v", err)
	}
	w.Stop()
	w.Stop()
	if _, err := w.Next(context.Background()); err != store.ErrClosed {
		t.Errorf("stopped: %v", err)
	}
	w = watch(t, h, kind.Pod, Interest{NodeName: "n"}, 0)
	h.State.Close()
	if _, err := w.Next(context.Background()); err != store.ErrClosed {
		t.Errorf("closed: %v", err)
	}
	if _, w = h.ListWatch(kind.Pod, Interest{}); true {
		if _, err := w.Next(context.Background()); err != store.ErrClosed {
			t.Errorf("after close: %v", err)
		}
	}
	for _, tab := range h.tables {
		if s := tab.ring.subs; len(s.everything)+len(s.byName)+len(s.byNamespace)+len(s.byNode) != 0 {
			t.Errorf("%s still has watches", tab.kind.Kind)
		}
	}
}

// TestListWatch has readers build the state from lists and watches that begin at
// random times while writers go on, and compares with the truth.
func TestListWatch(t *testing.T) {
	h := newHouse(t)
	const writers, writes, readers = 4, 150, 6
	var all sync.WaitGroup
	var mirrors [readers]map[string]string
	for r := range readers {
		all.Go(func() {
			in := Interest{}
			if r%2 == 1 {
				in.NodeName = "n1"
			}
			for h.Revision() < store.Revision(r*50) {
				// A barrier of its own: the first watch event tells of progress.
				_, w := h.ListWatch(kind.Pod, Interest{})
				w.Next(context.Background())
				w.Stop()
			}
			mirrors[r] = mirror(t, h, in)
		})
	}
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for range writes {
				name := fmt.Sprintf("p%d-%d", w, rand.IntN(10))
				write := put(kind.Pod, pod("ns", name, fmt.Sprintf("n%d", rand.IntN(3))), store.Any)
				if rand.IntN(4) == 0 {
					write = remove(kind.Pod, "ns", name)
				}
				var conflict *store.ConflictError
				if _, err := h.Commit(context.Background(), write); err != nil && !errors.As(err, &conflict) {
					t.Error(err)
				}
			}
		})
	}
	writing.Wait()
	// One more on the node that the narrow readers look at, which ends them all.
	h.must(t, put(kind.Pod, pod("ns", "end", "n1"), store.Any))
	all.Wait()
	for r, m := range mirrors {
		in := Interest{}
		if r%2 == 1 {
			in.NodeName = "n1"
		}
		want := map[string]string{}
		for _, p := range List[*corev1.Pod](h.State, kind.Pod, in) {
			want[p.Name] = p.ResourceVersion
		}
		if fmt.Sprint(m) != fmt.Sprint(want) {
			t.Errorf("reader %d has\n%v\nwant\n%v", r, m, want)
		}
	}
}

// mirror follows pods until it has seen the one named end.
func mirror(t *testing.T, h *house, in Interest) map[string]string {
	n, w := h.ListWatch(kind.Pod, in)
	defer w.Stop()
	have := map[string]string{}
	n.Ascend(in, "", func(obj kind.Object) bool {
		have[obj.GetName()] = obj.GetResourceVersion()
		return true
	})
	revision := n.Revision()
	for {
		e, err := w.Next(context.Background())
		if err != nil {
			t.Error(err)
			return nil
		}
		if e.Revision <= revision {
			t.Errorf("revision %d after %d", e.Revision, revision)
		}
		revision = e.Revision
		if _, ok := h.Get(kind.Pod, "ns", e.Object.GetName()); !ok && e.Type != Deleted && h.Revision() < revision {
			t.Errorf("an event of revision %d before reads show it", revision)
		}
		if e.Type == Deleted || in.NodeName != "" && nodeName(e.Object) != in.NodeName {
			delete(have, e.Object.GetName())
		} else {
			have[e.Object.GetName()] = e.Object.GetResourceVersion()
		}
		if e.Object.GetName() == "end" {
			return have
		}
	}
}
