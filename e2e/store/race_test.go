package main

import (
	"context"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// watched is a keeper that sees who is where.
type watched struct {
	t       *testing.T
	objects []sync.Mutex
	updates atomic.Int64
}

func (w *watched) name() string   { return "watched" }
func (w *watched) commits() int64 { return w.updates.Load() }
func (w *watched) pids() []int    { return nil }

func (w *watched) update(_ context.Context, i int, _ []byte) error {
	if !w.objects[i].TryLock() {
		w.t.Errorf("two writers are at object %d", i)
		return nil
	}
	defer w.objects[i].Unlock()
	w.updates.Add(1)
	return nil
}

// Writers never meet at an object, whether their number divides the objects' or
// not, and each update is counted.
func TestRaceKeepsWritersApart(t *testing.T) {
	for _, writers := range []int{1, 3, 7, 10} {
		k := &watched{t: t, objects: make([]sync.Mutex, 10)}
		left := atomic.Int64{}
		left.Store(20_000)
		r := race{keeper: k, writers: writers, objects: len(k.objects), values: newValues(),
			more: func(time.Duration) bool { return left.Add(-1) >= 0 }}
		result, err := r.run(t.Context())
		if err != nil || len(result.took) != 20_000 || result.commits != 20_000 {
			t.Errorf("%d writers: %d updates, %d commits: %v", writers, len(result.took), result.commits, err)
		}
	}
}

// What is measured in this process does what it is measured for: an update is
// refused when the object is not as the last one left it.
func TestUpdatesAreCompared(t *testing.T) {
	dir := t.TempDir()
	s, err := openSkiff(filepath.Join(dir, "skiff.db"), 10)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	l, err := newLog(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	for _, k := range []keeper{s, l} {
		if err := fill(t.Context(), k, 10, newValues()); err != nil {
			t.Fatal(err)
		}
		r := race{keeper: k, writers: 5, objects: 10, values: newValues(), more: during(20 * time.Millisecond)}
		if result, err := r.run(t.Context()); err != nil || result.commits == 0 || result.commits > int64(len(result.took)) {
			t.Errorf("%s: %+v: %v", k.name(), result, err)
		}
	}
	s.revisions[3]--
	if err := s.update(t.Context(), 3, []byte("x")); err == nil {
		t.Error("an update of an older revision was taken")
	}
}

// Ratios are skiff's figure over the other's, round by round: 2, 3 and 10 here,
// while the medians of 40 and 10 would give 4.
func TestRatioWithinRounds(t *testing.T) {
	updates := func(n int) measured {
		return measured{result: &result{took: make([]time.Duration, n), elapsed: time.Second}}
	}
	rounds := []round{{updates(20), updates(10)}, {updates(90), updates(30)}, {updates(40), updates(4)}}
	perSecond := func(m measured) float64 { return m.perSecond() }
	if got := ratio(rounds, 1, perSecond); got != 3 {
		t.Errorf("ratio %v, want 3", got)
	}
	if got := middle(rounds, 0, perSecond); got != 40 {
		t.Errorf("middle %v, want 40", got)
	}
}
