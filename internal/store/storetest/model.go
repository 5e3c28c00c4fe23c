package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/skiff-sh/skiff/internal/store"
)

// simple is the model: what a store is if nothing can go wrong.
type simple struct {
	revision store.Revision
	records  map[string]record
}

type record struct {
	revision store.Revision
	value    string
}

// commit is the contract in its shortest form.
func (m *simple) commit(ops []store.Op) (revisions []store.Revision, conflict *store.Key) {
	next := simple{revision: m.revision, records: maps.Clone(m.records)}
	for _, op := range ops {
		have := next.records[op.Key.Name].revision
		if op.Expect != store.Any && op.Expect != have || op.Action == store.Delete && have == store.Absent {
			return nil, &op.Key
		}
		if op.Action == store.Check {
			revisions = append(revisions, 0)
			continue
		}
		next.revision++
		revisions = append(revisions, next.revision)
		if op.Action == store.Put {
			next.records[op.Key.Name] = record{next.revision, string(op.Value)}
		} else {
			delete(next.records, op.Key.Name)
		}
	}
	*m = next
	return revisions, nil
}

func (m *simple) String() string {
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(m.records)) {
		fmt.Fprintf(&out, "%s@%d=%s\n", name, m.records[name].revision, m.records[name].value)
	}
	return out.String()
}

// model runs random commits against the engine and the model, and now and then
// compares all there is, before and after a clean stop.
func (s Suite) model(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	dir := t.TempDir()
	e := s.open(t, dir)
	m := &simple{records: map[string]record{}}
	for step := range 1500 {
		ops := m.randomOps(random)
		want, wantConflict := m.commit(ops)
		got, err := e.Commit(context.Background(), ops)
		var conflict *store.ConflictError
		switch {
		case wantConflict != nil:
			if !errors.As(err, &conflict) || conflict.Key != *wantConflict {
				t.Fatalf("step %d: %v, want a conflict of %s\n%+v", step, err, wantConflict, ops)
			}
		case err != nil || !slices.Equal(got, want):
			t.Fatalf("step %d: %v, %v, want %v\n%+v", step, got, err, want, ops)
		}
		if step%100 == 99 {
			expect(t, e, m.String())
		}
		if step%300 == 299 {
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			e = s.open(t, dir)
			expect(t, e, m.String())
			if e.Revision() != m.revision {
				t.Fatalf("step %d: revision %d after a clean stop, want %d", step, e.Revision(), m.revision)
			}
		}
	}
}

// randomOps returns one to four operations on few names, most of which can
// succeed, half of them lazy.
func (m *simple) randomOps(random *rand.Rand) []store.Op {
	var ops []store.Op
	lazy := random.IntN(2) == 0
	for range 1 + random.IntN(4)*random.IntN(2) {
		name := fmt.Sprintf("n%d/%d", random.IntN(3), random.IntN(12))
		expect := m.records[name].revision
		switch random.IntN(8) {
		case 0:
			expect = store.Any
		case 1:
			expect = store.Revision(random.Int64N(int64(m.revision) + 2))
		}
		op := Put(name, expect, strings.Repeat(string(rune('a'+random.IntN(26))), random.IntN(200)*random.IntN(20)))
		switch random.IntN(5) {
		case 0:
			op = Delete(name, expect)
		case 1:
			op = Check(name, expect)
		}
		op.Lazy = lazy || random.IntN(8) == 0
		ops = append(ops, op)
	}
	return ops
}
