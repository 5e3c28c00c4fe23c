package bolt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skiff-sh/skiff/internal/store"
)

// TestLazyWindow follows one record that beats every ten seconds.
func TestLazyWindow(t *testing.T) {
	path := filepath.Join(t.TempDir(), testFile)
	synctest.Test(t, func(t *testing.T) {
		e, err := Open(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		commits := func() int64 { synctest.Wait(); return e.Stats().Commits }
		beat := func(op store.Op) {
			if err := commit(e, op); err != nil {
				t.Fatal(err)
			}
		}
		beat(put("lease", []byte("0"))) // durable
		beat(lazily(put("lease", []byte("1"))))
		if n := commits(); n != 2 {
			t.Fatalf("%d transactions; the first lazy write to a durable record must be the second", n)
		}
		for i := range 29 { // nearly half the window
			time.Sleep(10 * time.Second)
			beat(lazily(put("lease", fmt.Append(nil, i))))
		}
		if n := commits(); n != 2 {
			t.Fatalf("%d transactions while the window is open", n)
		}
		beat(put("other", nil))
		if n := len(e.pending.byKey); n != 1 {
			t.Fatalf("%d pending: a durable commit must not carry what is young", n)
		}
		time.Sleep(30 * time.Second)
		beat(put("other", nil))
		if n := len(e.pending.byKey); n != 0 {
			t.Fatalf("%d pending: a durable commit must carry what waited for half the window", n)
		}
		beat(lazily(put("lease", []byte("x"))))
		before := commits()
		time.Sleep(10*time.Minute - time.Second)
		if n := commits(); n != before {
			t.Fatalf("%d transactions before the window's end, want %d", n, before)
		}
		time.Sleep(time.Second)
		if n := commits(); n != before+1 || len(e.pending.byKey) != 0 {
			t.Fatalf("%d transactions at the window's end, want %d", n, before+1)
		}
		time.Sleep(24 * time.Hour)
		if n := commits(); n != before+1 {
			t.Fatalf("%d transactions on an idle day", n-before-1)
		}
	})
}

// TestRestamp compares what a client could have seen with what an unclean stop
// leaves.
func TestRestamp(t *testing.T) {
	path := filepath.Join(t.TempDir(), testFile)
	e := mustOpen(t, path, Options{Reserve: 100})
	ops := []store.Op{
		put("durable", []byte("1")), put("lease", []byte("2")), lazily(put("lease", []byte("3"))), // listed from here
		lazily(put("lease", []byte("4"))), lazily(put("new", []byte("5"))),
	}
	for _, op := range ops {
		if err := commit(e, op); err != nil {
			t.Fatal(err)
		}
	}
	if e.Revision() != 5 {
		t.Fatalf("revision %d", e.Revision())
	}
	left := crashed(t, e)
	got := map[string]string{}
	err := left.Scan(context.Background(), "things", func(r store.Record) error {
		got[r.Key.Name] = fmt.Sprintf("%s@%d", r.Value, r.Revision)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// The third commit was the last transaction and reserved up to 103.
	if fmt.Sprint(got) != "map[durable:1@1 lease:3@104]" || left.Revision() != 104 {
		t.Fatalf("revision %d, %v", left.Revision(), got)
	}
	again := crashed(t, left)
	if again.Revision() != 205 {
		t.Fatalf("revision %d after a second unclean stop", again.Revision())
	}
}

// crashed opens what e has on disk now.
func crashed(t *testing.T, e *Engine) *Engine {
	t.Helper()
	path := filepath.Join(t.TempDir(), testFile)
	copyFile(t, e.path, path)
	return mustOpen(t, path, Options{Reserve: 100})
}

// TestGroupCommit: what comes in while the disk is busy is one transaction.
func TestGroupCommit(t *testing.T) {
	e := mustOpen(t, filepath.Join(t.TempDir(), testFile), Options{})
	release := make(chan struct{})
	goOn := sync.OnceFunc(func() { close(release) })
	t.Cleanup(goOn) // before the engine is closed
	var batches []int
	var once sync.Once
	e.Follow(func(changes []store.Change) {
		batches = append(batches, len(changes))
		once.Do(func() { <-release })
	})
	var all sync.WaitGroup
	for i := range 1 + 50 {
		all.Go(func() {
			if err := commit(e, put(fmt.Sprint(i), nil)); err != nil {
				t.Error(err)
			}
		})
		waitQueued(t, e, i)
	}
	ctx, cancel := context.WithCancel(context.Background())
	all.Go(func() {
		if _, err := e.Commit(ctx, []store.Op{put("withdrawn", nil)}); !errors.Is(err, context.Canceled) {
			t.Errorf("a commit that was not taken when its context ended: %v", err)
		}
	})
	waitQueued(t, e, 51)
	cancel()
	waitQueued(t, e, 50)
	goOn()
	all.Wait()
	if fmt.Sprint(batches) != "[1 50]" {
		t.Fatalf("batches %v, want [1 50]", batches)
	}
}

// TestBackPressure: a queue that is full makes Commit wait, and the context
// ends the wait.
func TestBackPressure(t *testing.T) {
	e := mustOpen(t, filepath.Join(t.TempDir(), testFile), Options{QueueBytes: 1000})
	release := make(chan struct{})
	goOn := sync.OnceFunc(func() { close(release) })
	t.Cleanup(goOn) // before the engine is closed
	e.Follow(func([]store.Change) { <-release })
	var all sync.WaitGroup
	all.Go(func() { commit(e, put("a", make([]byte, 900))) })
	waitQueued(t, e, 0)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := e.Commit(ctx, []store.Op{put("b", make([]byte, 900))}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a commit beyond the bound: %v", err)
	}
	goOn()
	all.Wait()
	if err := commit(e, put("c", make([]byte, 5000))); err != nil {
		t.Errorf("one larger than the queue: %v", err)
	}
}

// waitQueued waits until the committer is busy and n requests wait for it.
func waitQueued(t *testing.T, e *Engine, n int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
		e.queue.mu.Lock()
		queued := len(e.queue.requests)
		e.queue.mu.Unlock()
		if queued == n && e.stats.commits.Load() > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d requests queued, want %d", queued, n)
		}
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestWindowUnderLoad: a queue that is never empty does not keep what is due
// from the disk.
func TestWindowUnderLoad(t *testing.T) {
	durable, enough := make(chan struct{}, 10), make(chan struct{})
	e := mustOpen(t, filepath.Join(t.TempDir(), testFile), Options{
		LazyWindow: 20 * time.Millisecond,
		Reserve:    1 << 40, // so that nothing but the window makes them durable
		Observe: func(Transaction) {
			select {
			case durable <- struct{}{}:
			default:
			}
		},
	})
	e.Follow(func([]store.Change) { // whoever was answered has more already
		select {
		case <-enough:
		default:
			e.queue.add(&request{ops: []store.Op{lazily(put("beat", []byte("x")))}, lazy: true, done: make(chan struct{})})
		}
	})
	defer close(enough)
	if err := commit(e, lazily(put("beat", []byte("x")))); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		select {
		case <-durable:
		case <-time.After(20 * time.Second):
			t.Fatal("what is due stays in memory")
		}
	}
}
