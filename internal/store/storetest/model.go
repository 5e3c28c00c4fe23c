package storetest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/skiff-sh/skiff/internal/store"
)

// simple is the model: what a store is if nothing can go wrong, and what a crash
// may leave of it.
type simple struct {
	revision store.Revision
	records  map[string]record
	// lost are the states that a crash may bring back, for records whose newest
	// one may not be on disk.
	lost map[string][]state
}

type record struct {
	revision store.Revision
	value    string
}

// state is what a name may hold; absent when it holds nothing.
type state struct {
	value  string
	absent bool
}

func newSimple() *simple {
	return &simple{records: map[string]record{}, lost: map[string][]state{}}
}

func (m *simple) clone() *simple {
	return &simple{revision: m.revision, records: maps.Clone(m.records), lost: maps.Clone(m.lost)}
}

func (m *simple) state(name string) state {
	r, ok := m.records[name]
	return state{value: r.value, absent: !ok}
}

// commit is the contract in its shortest form.
func (m *simple) commit(ops []store.Op) (revisions []store.Revision, conflict *store.Key) {
	next, lazy := m.clone(), true
	for _, op := range ops {
		lazy = lazy && (op.Lazy || op.Action == store.Check)
	}
	for _, op := range ops {
		name := op.Key.Name
		have := next.records[name].revision
		if op.Expect != store.Any && op.Expect != have || op.Action == store.Delete && have == store.Absent {
			return nil, &op.Key
		}
		if op.Action == store.Check {
			revisions = append(revisions, 0)
			continue
		}
		next.revision++
		revisions = append(revisions, next.revision)
		if lazy {
			next.lost[name] = append(slices.Clone(next.lost[name]), next.state(name))
		} else {
			delete(next.lost, name)
		}
		if op.Action == store.Put {
			next.records[name] = record{next.revision, string(op.Value)}
		} else {
			delete(next.records, name)
		}
	}
	*m = *next
	return revisions, nil
}

// flush is that all that was lazy is on disk.
func (m *simple) flush() { clear(m.lost) }

// adopt compares what a store holds after an unclean stop with what it may hold,
// and goes on from there. Revisions up to handedOut have been seen by somebody.
func (m *simple) adopt(found map[string]record, revision, handedOut store.Revision) error {
	if revision < handedOut {
		return fmt.Errorf("it is at revision %d, %d had been handed out", revision, handedOut)
	}
	names := slices.Collect(maps.Keys(m.records))
	names = slices.AppendSeq(slices.AppendSeq(names, maps.Keys(m.lost)), maps.Keys(found))
	for _, name := range names {
		got, there := found[name]
		now := state{value: got.value, absent: !there}
		may := append(slices.Clone(m.lost[name]), m.state(name))
		switch {
		case !slices.Contains(may, now):
			return fmt.Errorf("%s is %+v, want one of %+v", name, now, may)
		case there && got.revision <= handedOut && got != m.records[name]:
			// Who has seen this revision has seen something else, or newer.
			return fmt.Errorf("%s is %+v, and %+v was seen", name, got, m.records[name])
		case there && got.revision > revision:
			return fmt.Errorf("%s has revision %d, the store is at %d", name, got.revision, revision)
		}
	}
	*m = *newSimple()
	m.revision, m.records = revision, found
	return nil
}

func (m *simple) String() string {
	var out strings.Builder
	for _, bucket := range modelBuckets {
		for _, name := range slices.Sorted(maps.Keys(m.records)) {
			if modelKey(name).Bucket == bucket {
				fmt.Fprintf(&out, "%s@%d=%s\n", name, m.records[name].revision, m.records[name].value)
			}
		}
	}
	return out.String()
}

// modelBuckets is constant: where the model's records are.
var modelBuckets = [...]string{"others", "things"}

// modelKey puts a third of the names in another bucket.
func modelKey(name string) store.Key {
	if strings.HasPrefix(name, "n2") {
		return store.Key{Bucket: modelBuckets[0], Name: name}
	}
	return store.Key{Bucket: modelBuckets[1], Name: name}
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
		op.Key = modelKey(name)
		op.Lazy = lazy || random.IntN(8) == 0
		ops = append(ops, op)
	}
	return ops
}
