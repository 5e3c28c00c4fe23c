// Package storetest is the suite that every engine of the store must pass.
//
// Run takes how to open an engine on a directory. The invariant it checks is
// the contract in package store, observed through store.Engine only. It never
// looks into an engine.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/skiff-sh/skiff/internal/store"
)

// Open opens the engine that lives in a directory, or makes one there.
type Open func(dir string) (store.Engine, error)

// Suite is an engine under test.
type Suite struct {
	Open Open
	// File is the name of the file in the directory that a snapshot can
	// take the place of; "" when the engine has no such thing.
	File string
	// Restore makes a snapshot the store of a directory from which File was
	// removed; nil when the engine cannot.
	Restore func(dir string, snapshot io.Reader) error
}

// Run runs the suite.
func Run(t *testing.T, suite Suite) {
	t.Run("revisions", suite.revisions)
	t.Run("expectations", suite.expectations)
	t.Run("all or nothing", suite.atomic)
	t.Run("one conflict fails alone", suite.conflictAlone)
	t.Run("followers", suite.followers)
	t.Run("scan", suite.scan)
	t.Run("lazy", suite.lazy)
	t.Run("reopen", suite.reopen)
	t.Run("snapshot", suite.snapshot)
	t.Run("restore", suite.restore)
	t.Run("compact, check and stats", suite.compact)
	t.Run("closed", suite.closed)
	t.Run("context", suite.context)
	t.Run("model", suite.model)
}

// open opens an engine that is closed with the test.
func (s Suite) open(t *testing.T, dir string) store.Engine {
	t.Helper()
	e, err := s.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// Put, Delete and Check build operations on bucket "things".
func Put(name string, expect store.Revision, value string) store.Op {
	return store.Op{Key: key(name), Action: store.Put, Expect: expect, Value: []byte(value)}
}

// Delete returns the operation.
func Delete(name string, expect store.Revision) store.Op {
	return store.Op{Key: key(name), Action: store.Delete, Expect: expect}
}

// Check returns the operation.
func Check(name string, expect store.Revision) store.Op {
	return store.Op{Key: key(name), Action: store.Check, Expect: expect}
}

// Lazy returns op as a lazy one.
func Lazy(op store.Op) store.Op {
	op.Lazy = true
	return op
}

func key(name string) store.Key { return store.Key{Bucket: "things", Name: name} }

func mustCommit(t *testing.T, e store.Engine, ops ...store.Op) []store.Revision {
	t.Helper()
	revisions, err := e.Commit(context.Background(), ops)
	if err != nil {
		t.Fatal(err)
	}
	return revisions
}

// contents returns a bucket as "name@revision=value" lines.
func contents(t *testing.T, e store.Engine, bucket string) string {
	t.Helper()
	var out bytes.Buffer
	err := e.Scan(context.Background(), bucket, func(r store.Record) error {
		fmt.Fprintf(&out, "%s@%d=%s\n", r.Key.Name, r.Revision, r.Value)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func expect(t *testing.T, e store.Engine, want string) {
	t.Helper()
	if got := contents(t, e, "things"); got != want {
		t.Fatalf("the bucket holds\n%swant\n%s", got, want)
	}
}

func (s Suite) revisions(t *testing.T) {
	e := s.open(t, t.TempDir())
	if e.Revision() != 0 {
		t.Fatalf("a new store is at revision %d", e.Revision())
	}
	got := mustCommit(t, e, Put("a", store.Absent, "1"), Check("a", store.Any), Put("b", store.Absent, "1"), Delete("a", store.Any))
	if fmt.Sprint(got) != "[1 0 2 3]" {
		t.Fatalf("revisions %v, want [1 0 2 3]", got)
	}
	barrier, err := e.Barrier(context.Background())
	if err != nil || barrier != 3 || e.Revision() != 3 {
		t.Fatalf("barrier %d, %v; revision %d; want 3", barrier, err, e.Revision())
	}
}

func (s Suite) expectations(t *testing.T) {
	e := s.open(t, t.TempDir())
	mustCommit(t, e, Put("a", store.Absent, "1"))
	for _, test := range []struct {
		name string
		op   store.Op
		have store.Revision // -2: no conflict
	}{
		{"put, absent expected, there", Put("a", store.Absent, "2"), 1},
		{"put, other revision", Put("a", 7, "2"), 1},
		{"put, revision of what is absent", Put("b", 7, "2"), 0},
		{"delete of what is absent", Delete("b", store.Any), 0},
		{"delete, other revision", Delete("a", 7), 1},
		{"check, other revision", Check("a", 7), 1},
		{"check, absent expected, there", Check("a", store.Absent), 1},
		{"check of what is absent", Check("b", store.Absent), -2},
		{"check of any", Check("b", store.Any), -2},
		{"check, right revision", Check("a", 1), -2},
		{"put, right revision", Put("a", 1, "2"), -2},
		{"delete, right revision", Delete("a", 2), -2},
	} {
		_, err := e.Commit(context.Background(), []store.Op{test.op})
		if test.have == -2 {
			if err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
			continue
		}
		want := store.ConflictError{Key: test.op.Key, Want: test.op.Expect, Have: test.have}
		var conflict *store.ConflictError
		if !errors.As(err, &conflict) || *conflict != want {
			t.Errorf("%s: got %v, want %v", test.name, err, &want)
		}
	}
}

func (s Suite) atomic(t *testing.T) {
	e := s.open(t, t.TempDir())
	mustCommit(t, e, Put("a", store.Absent, "1"))
	_, err := e.Commit(context.Background(), []store.Op{
		Put("b", store.Absent, "x"), Delete("a", 1), Put("a", store.Absent, "x"), Put("c", 9, "x"),
	})
	var conflict *store.ConflictError
	if !errors.As(err, &conflict) || conflict.Key != key("c") {
		t.Fatalf("got %v, want a conflict of c", err)
	}
	expect(t, e, "a@1=1\n")
	if got := mustCommit(t, e, Delete("a", 1), Put("a", store.Absent, "2"), Put("a", store.Any, "3")); fmt.Sprint(got) != "[2 3 4]" {
		t.Fatalf("revisions %v: a failed commit must not use any", got)
	}
	expect(t, e, "a@4=3\n")
	_, err = e.Commit(context.Background(), []store.Op{Put("d", store.Absent, "x"), Put("e", store.Absent, "x"), Put("e", 5, "x")})
	if want := (store.ConflictError{Key: key("e"), Want: 5, Have: 6}); !errors.As(err, &conflict) || *conflict != want {
		t.Fatalf("a revision that another operation of the commit gets: %v, want %v", err, &want)
	}
}

// conflictAlone lets many writers race for the same keys: of each round one
// wins, and what it wrote is what is there.
func (s Suite) conflictAlone(t *testing.T) {
	e := s.open(t, t.TempDir())
	const writers, rounds = 16, 20
	var mu sync.Mutex
	won := map[string]string{}
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for round := range rounds {
				name, value := fmt.Sprintf("r%02d", round), fmt.Sprintf("w%d", w)
				_, err := e.Commit(context.Background(), []store.Op{
					Put(fmt.Sprintf("%s-of-%s", name, value), store.Absent, value), Put(name, store.Absent, value),
				})
				var conflict *store.ConflictError
				switch {
				case err == nil:
					mu.Lock()
					if won[name] != "" {
						t.Errorf("%s was won by %s and %s", name, won[name], value)
					}
					won[name] = value
					mu.Unlock()
				case !errors.As(err, &conflict):
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	records := map[string]string{}
	e.Scan(context.Background(), "things", func(r store.Record) error {
		records[r.Key.Name] = string(r.Value)
		return nil
	})
	if len(won) != rounds || len(records) != 2*rounds {
		t.Fatalf("%d rounds won, %d records; want %d and %d", len(won), len(records), rounds, 2*rounds)
	}
	for name, value := range won {
		if records[name] != value || records[name+"-of-"+value] != value {
			t.Errorf("%s: won by %s, holds %s", name, value, records[name])
		}
	}
}

func (s Suite) followers(t *testing.T) {
	e := s.open(t, t.TempDir())
	var mu sync.Mutex
	var changes []store.Change
	e.Follow(func(c []store.Change) {
		mu.Lock()
		defer mu.Unlock()
		changes = append(changes, c...)
	})
	// Every commit must have been published when it is acknowledged.
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			for i := range 25 {
				op := Put(fmt.Sprintf("k%d", w), store.Any, fmt.Sprint(i))
				op.Note, op.Lazy = i, i%3 == 2
				revisions, err := e.Commit(context.Background(), []store.Op{op})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if n := len(changes); changes[n-1].Revision < revisions[0] || e.Revision() > changes[n-1].Revision {
					t.Errorf("revision %d acknowledged, %d published", revisions[0], changes[n-1].Revision)
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	mustCommit(t, e, Delete("k0", store.Any))
	last := map[string]store.Revision{}
	for i, c := range changes {
		if c.Revision != store.Revision(i+1) || c.Previous != last[c.Key.Name] {
			t.Fatalf("change %d: revision %d, previous %d; want %d, %d", i, c.Revision, c.Previous, i+1, last[c.Key.Name])
		}
		if c.Action == store.Put && fmt.Sprint(c.Note) != string(c.Value) {
			t.Fatalf("change %d: note %v, value %s", i, c.Note, c.Value)
		}
		last[c.Key.Name] = c.Revision
	}
	if c := changes[len(changes)-1]; c.Action != store.Delete || c.Value != nil || len(changes) != 201 {
		t.Fatalf("last of %d changes: %+v", len(changes), c)
	}
}

func (s Suite) scan(t *testing.T) {
	e := s.open(t, t.TempDir())
	mustCommit(t, e, Put("b/x", store.Absent, "1"), Put("a-b/x", store.Absent, "2"), Put("a/x", store.Absent, "3"),
		store.Op{Key: store.Key{Bucket: "others", Name: "a/y"}, Value: []byte("4")})
	expect(t, e, "a-b/x@2=2\na/x@3=3\nb/x@1=1\n")
	stop := errors.New("stop")
	seen := 0
	err := e.Scan(context.Background(), "things", func(r store.Record) error {
		seen++
		clear(r.Value) // it is ours
		return stop
	})
	if err != stop || seen != 1 {
		t.Fatalf("%d records, %v", seen, err)
	}
	expect(t, e, "a-b/x@2=2\na/x@3=3\nb/x@1=1\n")
	if got := contents(t, e, "unknown"); got != "" {
		t.Fatalf("an unknown bucket holds %q", got)
	}
	buckets, err := e.Buckets(context.Background())
	if err != nil || fmt.Sprint(buckets) != "[others things]" {
		t.Fatalf("buckets %v, %v", buckets, err)
	}
}

// lazy mixes lazy and durable writes of the same keys.
func (s Suite) lazy(t *testing.T) {
	dir := t.TempDir()
	e := s.open(t, dir)
	mustCommit(t, e, Put("durable", store.Absent, "1"))
	mustCommit(t, e, Lazy(Put("new", store.Absent, "2")))
	mustCommit(t, e, Lazy(Put("durable", 1, "3")))
	mustCommit(t, e, Lazy(Put("durable", 3, "4")))
	mustCommit(t, e, Lazy(Put("gone", store.Absent, "5")))
	mustCommit(t, e, Lazy(Delete("gone", 5)))
	if _, err := e.Commit(context.Background(), []store.Op{Lazy(Put("durable", 3, "x"))}); err == nil {
		t.Fatal("a lazy write does not check its expectation")
	}
	expect(t, e, "durable@4=4\nnew@2=2\n")
	mustCommit(t, e, Put("new", 2, "7"), Lazy(Put("mixed", store.Absent, "8")))
	mustCommit(t, e, Lazy(Delete("durable", 4)))
	expect(t, e, "mixed@8=8\nnew@7=7\n")
	mustCommit(t, e, Put("durable", store.Absent, "10"), Lazy(Put("late", store.Absent, "11")))
	mustCommit(t, e, Lazy(Delete("late", 11)))
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = s.open(t, dir)
	expect(t, e, "durable@10=10\nmixed@8=8\nnew@7=7\n")
	if e.Revision() != 12 {
		t.Fatalf("revision %d after a clean stop, want 12", e.Revision())
	}
}

func (s Suite) reopen(t *testing.T) {
	dir := t.TempDir()
	for i := range 5 {
		e := s.open(t, dir)
		if e.Revision() != store.Revision(2*i) {
			t.Fatalf("opened at revision %d, want %d", e.Revision(), 2*i)
		}
		mustCommit(t, e, Put("a", store.Any, fmt.Sprint(i)))
		mustCommit(t, e, Lazy(Put("b", store.Any, fmt.Sprint(i))))
		for range 2 {
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	expect(t, s.open(t, dir), "a@9=4\nb@10=4\n")
}

func (s Suite) snapshot(t *testing.T) {
	if s.File == "" {
		t.Skip("this engine's snapshots take no file's place")
	}
	e := s.open(t, t.TempDir())
	mustCommit(t, e, Put("a", store.Absent, "1"))
	mustCommit(t, e, Lazy(Put("b", store.Absent, "2")))
	var copied bytes.Buffer
	if err := e.Snapshot(context.Background(), &copied); err != nil {
		t.Fatal(err)
	}
	mustCommit(t, e, Put("a", 1, "3"))
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, s.File), copied.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	restored := s.open(t, dir)
	values := map[string]string{}
	restored.Scan(context.Background(), "things", func(r store.Record) error {
		values[r.Key.Name] = string(r.Value)
		return nil
	})
	if fmt.Sprint(values) != "map[a:1 b:2]" {
		t.Fatalf("the copy holds %v", values)
	}
	if revisions := mustCommit(t, restored, Put("c", store.Absent, "x")); revisions[0] <= e.Revision() {
		t.Fatalf("the copy hands out revision %d, the original is at %d", revisions[0], e.Revision())
	}
}

// restore brings a snapshot back, behind every revision of who went on from it.
func (s Suite) restore(t *testing.T) {
	if s.Restore == nil {
		t.Skip("this engine cannot")
	}
	dir := t.TempDir()
	e := s.open(t, dir)
	mustCommit(t, e, Put("a", store.Absent, "1"))
	var copied bytes.Buffer
	if err := e.Snapshot(context.Background(), &copied); err != nil {
		t.Fatal(err)
	}
	mustCommit(t, e, Put("a", 1, "2"), Put("b", store.Absent, "2"))
	seen := e.Revision()
	if err := s.Restore(t.TempDir(), bytes.NewReader(copied.Bytes()[:copied.Len()/2])); err == nil {
		t.Error("half a snapshot was restored")
	}
	e.Close()
	if err := os.Remove(filepath.Join(dir, s.File)); err != nil {
		t.Fatal(err)
	}
	if err := s.Restore(dir, &copied); err != nil {
		t.Fatal(err)
	}
	e = s.open(t, dir)
	expect(t, e, "a@1=1\n")
	if got := mustCommit(t, e, Put("c", store.Absent, "3")); got[0] <= seen {
		t.Errorf("revision %d after a restore, %d had been handed out", got[0], seen)
	}
}

// compact deletes most of what there is: the rest stays, nothing is found wrong,
// and what is counted rises.
func (s Suite) compact(t *testing.T) {
	e := s.open(t, t.TempDir())
	before := e.Stats()
	for i := range 300 {
		mustCommit(t, e, Put(fmt.Sprintf("%03d", i), store.Absent, fmt.Sprintf("%04000d", i)))
	}
	full := e.Stats()
	if commits, operations := full.Commits-before.Commits, full.Operations-before.Operations; operations != 300 || commits < 1 ||
		full.WrittenBytes <= before.WrittenBytes || full.FreeBytes > full.FileBytes {
		t.Errorf("300 commits of one operation are %d with %d: %+v", commits, operations, full)
	}
	for i := 1; i < 300; i++ {
		mustCommit(t, e, Delete(fmt.Sprintf("%03d", i), store.Any))
	}
	want := contents(t, e, "things")
	if err := e.Compact(context.Background()); err != nil {
		t.Fatal(err)
	}
	if after := e.Stats(); after.FileBytes > full.FileBytes || after.FreeBytes > after.FileBytes {
		t.Errorf("before %+v\nafter %+v", full, after)
	}
	expect(t, e, want)
	if err := e.Check(context.Background(), func(d store.Damage) { t.Errorf("found: %s", d) }); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := e.Compact(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("compact with a context that has ended: %v", err)
	}
	if err := e.Check(ctx, func(store.Damage) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("check with a context that has ended: %v", err)
	}
	if got := mustCommit(t, e, Put("000", store.Any, "x")); got[0] != 600 {
		t.Errorf("revision %d", got[0])
	}
}

func (s Suite) closed(t *testing.T) {
	e := s.open(t, t.TempDir())
	mustCommit(t, e, Put("a", store.Absent, "1"))
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Commit(context.Background(), []store.Op{Put("a", store.Any, "2")}); !errors.Is(err, store.ErrClosed) {
		t.Errorf("commit: %v", err)
	}
	if err := e.Scan(context.Background(), "things", func(store.Record) error { return nil }); !errors.Is(err, store.ErrClosed) {
		t.Errorf("scan: %v", err)
	}
	if err := e.Snapshot(context.Background(), &bytes.Buffer{}); !errors.Is(err, store.ErrClosed) {
		t.Errorf("snapshot: %v", err)
	}
	if err := e.Compact(context.Background()); !errors.Is(err, store.ErrClosed) {
		t.Errorf("compact: %v", err)
	}
	if err := e.Check(context.Background(), func(store.Damage) {}); !errors.Is(err, store.ErrClosed) {
		t.Errorf("check: %v", err)
	}
}

// context: one that has ended before leaves no trace.
func (s Suite) context(t *testing.T) {
	e := s.open(t, t.TempDir())
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := e.Commit(ctx, []store.Op{Put("a", store.Any, "1")}); !errors.Is(err, context.Canceled) {
		t.Fatalf("commit: %v", err)
	}
	mustCommit(t, e, Put("b", store.Absent, "2"))
	expect(t, e, "b@1=2\n")
}
