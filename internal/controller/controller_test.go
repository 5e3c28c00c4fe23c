package controller

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt"
)

func name(n string) types.NamespacedName { return types.NamespacedName{Namespace: "default", Name: n} }

func TestKeyIsInWorkOnce(t *testing.T) {
	q := newQueue[types.NamespacedName]()
	q.add(name("a"))
	q.add(name("a"))
	key, _, ok := q.take()
	if !ok || key != name("a") {
		t.Fatalf("took %v, %t", key, ok)
	}
	q.add(name("a"))
	if key, _, ok := q.take(); ok {
		t.Fatalf("took %v while it was in work", key)
	}
	q.done(name("a"), 0, false)
	if _, _, ok := q.take(); !ok {
		t.Fatal("what happened during the work was forgotten")
	}
	q.done(name("a"), 0, false)
	if len(q.entries) != 0 {
		t.Errorf("%d entries are left", len(q.entries))
	}
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue[types.NamespacedName]()
		for _, c := range []struct {
			name  string
			after time.Duration
		}{{"late", time.Minute}, {"early", time.Second}} {
			q.add(name(c.name))
			q.take()
			q.done(name(c.name), c.after, false)
		}
		if _, wait, ok := q.take(); ok || wait != time.Second {
			t.Fatalf("wait %v, %t", wait, ok)
		}
		time.Sleep(time.Second)
		if key, _, ok := q.take(); !ok || key != name("early") {
			t.Fatalf("took %v, %t", key, ok)
		}
	})
}

func TestBackOffGrowsAndEnds(t *testing.T) {
	if got := backOff(0); got != firstRetry {
		t.Errorf("first %v", got)
	}
	if got := backOff(3); got != 8*firstRetry {
		t.Errorf("fourth %v", got)
	}
	if got := backOff(1000); got != lastRetry {
		t.Errorf("last %v", got)
	}
}

// run drives a controller without sources over keys given by hand.
func run(t *testing.T, env Environment, keys []string, reconcile func(context.Context, types.NamespacedName) (time.Duration, error)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &loop[types.NamespacedName]{Controller: Controller[types.NamespacedName]{Name: "test", Reconcile: reconcile}, env: env, queue: newQueue[types.NamespacedName](), log: zap.NewNop()}
	done := make(chan error)
	go func() { done <- l.work(ctx) }()
	for _, k := range keys {
		l.queue.add(name(k))
	}
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

func TestFailuresAreRetriedAndPanicsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var panics, calls atomic.Int64
		succeeded := make(chan time.Time, 1)
		start := time.Now()
		run(t, Environment{Panics: &panics}, []string{"a"}, func(context.Context, types.NamespacedName) (time.Duration, error) {
			switch calls.Add(1) {
			case 1:
				panic("poison")
			case 2:
				return 0, errors.New("no")
			}
			succeeded <- time.Now()
			return 0, nil
		})
		if after := (<-succeeded).Sub(start); after != firstRetry+2*firstRetry {
			t.Errorf("third call after %v", after)
		}
		if panics.Load() != 1 {
			t.Errorf("%d panics counted", panics.Load())
		}
	})
}

// A controller that cannot go on says so: its process ends with it.
func TestFailureEndsRun(t *testing.T) {
	engine, err := bolt.Open(filepath.Join(t.TempDir(), "store"), bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	s, err := state.Open(t.Context(), engine, kind.All, state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	c := Controller[types.NamespacedName]{
		Name:      "test",
		Sources:   []Source[types.NamespacedName]{Own(kind.Pod)},
		Reconcile: func(context.Context, types.NamespacedName) (time.Duration, error) { return 0, nil },
	}
	env := Environment{State: s, Log: zap.NewNop()}
	if err := c.Run(t.Context(), env); !errors.Is(err, store.ErrClosed) {
		t.Errorf("over a closed state: %v", err)
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if err := c.Run(stopped, env); err != nil {
		t.Errorf("after the end: %v", err)
	}
}

func TestAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		times := make(chan time.Time, 3)
		run(t, Environment{}, []string{"a"}, func(context.Context, types.NamespacedName) (time.Duration, error) {
			times <- time.Now()
			return time.Hour, nil
		})
		first := <-times
		if got := (<-times).Sub(first); got != time.Hour {
			t.Errorf("called again after %v", got)
		}
	})
}
