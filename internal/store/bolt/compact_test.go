package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt/format"
)

// fill writes records of a kilobyte, so many at a time.
func fill(t testing.TB, e *Engine, records int) {
	t.Helper()
	for i := 0; i < records; i += 500 {
		var ops []store.Op
		for j := i; j < min(i+500, records); j++ {
			ops = append(ops, put(benchName(j), make([]byte, benchBytes)))
		}
		if err := commit(e, ops...); err != nil {
			t.Fatal(err)
		}
	}
}

// thin deletes all but every tenth of the records that fill wrote.
func thin(t testing.TB, e *Engine, records int) {
	t.Helper()
	for i := 0; i < records; i += 500 {
		var ops []store.Op
		for j := i; j < min(i+500, records); j++ {
			if j%10 != 0 {
				op := put(benchName(j), nil)
				op.Action = store.Delete
				ops = append(ops, op)
			}
		}
		if err := commit(e, ops...); err != nil {
			t.Fatal(err)
		}
	}
}

// everything is all that can be seen of a store.
func everything(t testing.TB, e *Engine) string {
	t.Helper()
	var text strings.Builder
	buckets, err := e.Buckets(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, bucket := range buckets {
		err := e.Scan(context.Background(), bucket, func(r store.Record) error {
			fmt.Fprintf(&text, "%s@%d=%x\n", r.Key, r.Revision, r.Value[:min(len(r.Value), 8)])
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	fmt.Fprintln(&text, buckets, e.Revision())
	return text.String()
}

// TestCompact: the file shrinks to what is in it, and nothing else changes.
func TestCompact(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, testFile)
	e := mustOpen(t, path, Options{CompactBytes: -1})
	fill(t, e, 5000)
	for i := range 20 {
		if err := commit(e, lazily(put(fmt.Sprintf("lease-%d", i), []byte("x")))); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	// A bucket that is empty, and one with a record that is lazy no more.
	empty := store.Op{Key: store.Key{Bucket: "empty", Name: "x"}, Expect: store.Any}
	gone := empty
	gone.Action = store.Delete
	if err := commit(e, empty, gone, put("lease-3", []byte("durable"))); err != nil {
		t.Fatal(err)
	}
	thin(t, e, 5000)
	want, before := everything(t, e), e.Stats()
	if before.FreeBytes < before.FileBytes/2 {
		t.Fatalf("most of the file should be free: %+v", before)
	}
	if err := e.Compact(context.Background()); err != nil {
		t.Fatal(err)
	}
	after := e.Stats()
	if got := everything(t, e); got != want {
		t.Errorf("the store holds\n%s\nwant\n%s", got, want)
	}
	if used := before.FileBytes - before.FreeBytes; after.FileBytes > used+growBy || after.FreeBytes > after.FileBytes/10 || after.Compactions != 1 {
		t.Errorf("before %+v\nafter %+v", before, after)
	}
	left := crashed(t, e)
	if !strings.Contains(everything(t, left), "lease-0@") || left.Revision() <= e.Revision() {
		t.Errorf("after a crash the store is at revision %d:\n%s", left.Revision(), everything(t, left))
	}
	if err := commit(e, put("after", []byte("x"))); err != nil {
		t.Fatal(err)
	}
	want = everything(t, e)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if got := everything(t, mustOpen(t, path, Options{})); got != want {
		t.Errorf("opened again the store holds\n%s\nwant\n%s", got, want)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "*")); len(files) != 2 {
		t.Errorf("left behind: %v", files)
	}
}

// TestCompactUnderLoad compacts again and again while others write, scan and
// take snapshots, and compares what they know with what is there.
func TestCompactUnderLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), testFile)
	e := mustOpen(t, path, Options{LazyWindow: time.Millisecond, CompactBytes: -1})
	fill(t, e, 3000)
	const writers = 4
	stop := make(chan struct{})
	known := make([]map[string]string, writers)
	var all sync.WaitGroup
	for w := range writers {
		known[w] = map[string]string{}
		all.Go(func() { writeUntil(t, e, stop, w, known[w]) })
	}
	all.Go(func() { readUntil(t, e, stop) })
	for range 6 {
		if err := e.Compact(context.Background()); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	all.Wait()
	if e.Stats().Compactions != 6 {
		t.Errorf("%d compactions", e.Stats().Compactions)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	err := mustOpen(t, path, Options{}).Scan(context.Background(), "things", func(r store.Record) error {
		got[r.Key.Name] = fmt.Sprintf("%d %s", r.Revision, r.Value)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for w := range writers {
		for name, want := range known[w] {
			if got[name] != want {
				t.Errorf("%s: %.20q, want %.20q", name, got[name], want)
			}
		}
	}
}

// writeUntil writes, deletes and writes lazily among names of its own, new ones
// and those that were there.
func writeUntil(t *testing.T, e *Engine, stop <-chan struct{}, w int, known map[string]string) {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		i := rand.IntN(3000/4)*4 + w
		name := benchName(i)
		if rand.IntN(3) == 0 {
			name += "-new"
		}
		op := put(name, fmt.Appendf(nil, "%d %0*d", n, rand.IntN(3000), 0))
		op.Lazy = rand.IntN(3) == 0
		if known[name] != "" && rand.IntN(4) == 0 {
			op.Action, op.Value = store.Delete, nil
		}
		revisions, err := e.Commit(context.Background(), []store.Op{op})
		if err != nil {
			t.Error(err)
			return
		}
		known[name] = ""
		if op.Action == store.Put {
			known[name] = fmt.Sprintf("%d %s", revisions[0], op.Value)
		}
	}
}

// readUntil checks that what can be read is whole, whichever file it comes from.
func readUntil(t *testing.T, e *Engine, stop <-chan struct{}) {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		if err := e.Scan(context.Background(), "things", func(store.Record) error { return nil }); err != nil {
			t.Error(err)
			return
		}
		if n%4 != 0 {
			continue
		}
		var copied bytes.Buffer
		if err := e.Snapshot(context.Background(), &copied); err != nil {
			t.Error(err)
			return
		}
		if _, err := format.Walk(copied.Bytes()); err != nil {
			t.Errorf("snapshot: %v", err)
		}
	}
}

// TestCompactCatchesUp changes much of what is copied already, and of what is not,
// after each step.
func TestCompactCatchesUp(t *testing.T) {
	e := mustOpen(t, filepath.Join(t.TempDir(), testFile), Options{CompactBytes: -1})
	const records = 4000
	fill(t, e, records)
	c := newCompaction(e)
	var err error
	if c.to, err = createCopy(c.path); err != nil {
		t.Fatal(err)
	}
	c.watch(c.changed)
	ctx := context.Background()
	steps := 0
	for ; !c.end || !c.restIsSmall(); steps++ {
		if err := c.step(ctx); err != nil {
			t.Fatal(err)
		}
		if steps > 3 {
			continue
		}
		var ops []store.Op
		for i := steps; i < records; i += 3 {
			op := put(benchName(i), fmt.Appendf(nil, "%d %01200d", steps, 0))
			if i%7 == 0 {
				op = put(benchName(i)+"-new", nil)
			}
			ops = append(ops, op)
		}
		if err := commit(e, ops...); err != nil {
			t.Fatal(err)
		}
		gone := put(benchName(records-1-steps), nil)
		gone.Action = store.Delete
		if err := commit(e, gone); err != nil {
			t.Fatal(err)
		}
	}
	if steps < 5 {
		t.Errorf("only %d steps", steps)
	}
	want := everything(t, e)
	if inPlace, err := c.place(ctx); !inPlace || err != nil {
		t.Fatal(inPlace, err)
	}
	if got := everything(t, e); got != want {
		t.Error("the copy holds something else")
	}
}

// TestCompactByItself: when most of the file is free, it shrinks.
func TestCompactByItself(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	e := mustOpen(t, filepath.Join(t.TempDir(), testFile), Options{CompactBytes: 1 << 20, Log: zap.New(core)})
	fill(t, e, 2000)
	thin(t, e, 2000)
	for deadline := time.Now().Add(20 * time.Second); e.Stats().Compactions == 0; {
		if time.Now().After(deadline) {
			t.Fatalf("not compacted: %+v, %v", e.Stats(), logs.All())
		}
		if err := commit(e, put("other", []byte("x"))); err != nil {
			t.Fatal(err)
		}
	}
	e.Close()
	if logs.FilterMessage("compacted the store").Len() == 0 {
		t.Errorf("logged: %v", logs.All())
	}
}

// TestCompactWithoutRoom fills the disk before and during a compaction: it
// fails, and the store is what it was.
func TestCompactWithoutRoom(t *testing.T) {
	dir := smallDisk(t, "24m")
	path := filepath.Join(dir, testFile)
	e := mustOpen(t, path, Options{CompactBytes: 1 << 20})
	fill(t, e, 4000)
	want := everything(t, e)
	c := newCompaction(e)
	var err error
	if c.to, err = createCopy(c.path); err != nil {
		t.Fatal(err)
	}
	if err := c.step(context.Background()); err != nil {
		t.Fatal(err)
	}
	fillDisk(t, dir)
	if err := c.step(context.Background()); !errors.Is(err, store.ErrFull) {
		t.Errorf("a step with little room: %v", err)
	}
	for err == nil && !c.end {
		err = c.transact(func(from *bbolt.Tx, space *keyspace) error { return c.advance(from, space, space.adopt) })
	}
	if !errors.Is(err, store.ErrFull) {
		t.Errorf("a step with no room: %v", err)
	}
	c.to.Close()
	os.Remove(c.path)
	if err := e.Compact(context.Background()); !errors.Is(err, store.ErrFull) || !strings.Contains(err.Error(), "free some space") {
		t.Errorf("on a full disk: %v", err)
	}
	if got := everything(t, e); got != want {
		t.Errorf("the store holds\n%s\nwant\n%s", got, want)
	}
	if err := e.Err(); err != nil {
		t.Error(err)
	}
	os.Remove(filepath.Join(dir, "rest"))
	if err := commit(e, put("with room", nil)); err != nil {
		t.Errorf("with room: %v", err)
	}
}

// TestCompactNotAgain: what failed for want of room is not tried after each commit.
func TestCompactNotAgain(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	e := mustOpen(t, filepath.Join(smallDisk(t, "12m"), testFile), Options{CompactBytes: 1 << 20, Log: zap.New(core)})
	fill(t, e, 2000)
	thin(t, e, 2000)
	for i := range 50 {
		if err := commit(e, put(fmt.Sprint("other", i%3), []byte("x"))); err != nil {
			t.Fatal(err)
		}
	}
	e.Close()
	if logs.Len() != 1 || !strings.Contains(fmt.Sprint(logs.All()[0].ContextMap()), "free some space first") {
		t.Errorf("logged: %v", logs.All())
	}
}

// TestCompactDamage: a copy that is not what the store should hold is not put in
// place.
func TestCompactDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), testFile)
	e := mustOpen(t, path, Options{})
	fill(t, e, 10)
	e.Close()
	behind(t, path, func(b *bbolt.Bucket) error { return b.Delete([]byte(benchName(3))) })
	e = mustOpen(t, path, Options{})
	if err := e.Compact(context.Background()); !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), "things holds 9") {
		t.Errorf("with a lost record: %v", err)
	}
	e.Close()
	if _, err := os.Stat(path + compactSuffix); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
}

// TestCompactLeftovers: what a crash leaves is removed.
func TestCompactLeftovers(t *testing.T) {
	path := filepath.Join(t.TempDir(), testFile)
	for _, name := range []string{path + compactSuffix, path + restoreSuffix + "123"} {
		if err := os.WriteFile(name, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mustOpen(t, path, Options{})
	if files, _ := filepath.Glob(path + "?*"); len(files) != 1 {
		t.Errorf("left behind: %v", files)
	}
}

// TestCompactClosed: Close does not wait for a copy to be complete.
func TestCompactClosed(t *testing.T) {
	e := mustOpen(t, filepath.Join(t.TempDir(), testFile), Options{})
	fill(t, e, 3000)
	result := make(chan error, 1)
	go func() { result <- e.Compact(context.Background()) }()
	for e.stats.compactions.Load() == 0 && len(e.compacting) == 0 {
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if err := <-result; err != nil && !errors.Is(err, store.ErrClosed) {
		t.Error(err)
	}
	if err := e.Compact(context.Background()); !errors.Is(err, store.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
