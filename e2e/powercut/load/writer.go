package load

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/skiff-sh/skiff/internal/store"
)

// The buckets of durable and of lazy records.
const (
	buckets     = 4
	leaseBucket = "leases"
	namesPer    = 24 // names a writer has in each bucket
	leasesPer   = 6
)

// Writer makes one writer's commits, one after the other. All names of its
// records begin with its number.
type Writer struct {
	id     int
	plan   Plan
	random *rand.Rand
	held   map[store.Key]Held
}

// NewWriter returns a writer that goes on from what is there.
func NewWriter(plan Plan, id int, there map[store.Key]Held) *Writer {
	w := &Writer{id: id, plan: plan, random: plan.Random(1 + id), held: map[store.Key]Held{}}
	for key, held := range there {
		if w.owns(key) {
			w.held[key] = held
		}
	}
	return w
}

func (w *Writer) owns(key store.Key) bool {
	return strings.HasPrefix(key.Name, fmt.Sprintf("%d/", w.id))
}

// Next returns the next commit, which must succeed, and whether it is lazy.
func (w *Writer) Next() (ops []store.Op, lazy bool) {
	choice := w.random.IntN(20)
	if w.plan.Beating && w.random.IntN(20) > 0 {
		choice = 0
	}
	switch choice {
	case 0, 1, 2, 3:
		op := w.lease()
		op.Lazy = true
		return []store.Op{op}, true
	case 4:
		// A lease that is taken over, or given up.
		return []store.Op{w.lease()}, false
	}
	names := map[store.Key]bool{}
	for range 1 + w.random.IntN(6) {
		key := store.Key{
			Bucket: fmt.Sprintf("bucket%d", w.random.IntN(buckets)),
			Name:   fmt.Sprintf("%d/%d", w.id, w.random.IntN(namesPer)),
		}
		if !names[key] {
			names[key] = true
			ops = append(ops, w.op(key))
		}
	}
	if w.random.IntN(8) == 0 {
		ops = append(ops, w.lease())
	}
	if !slices.ContainsFunc(ops, func(op store.Op) bool { return op.Action != store.Check }) {
		ops = append(ops, w.lease())
	}
	return ops, false
}

// lease returns a write to one of the records that are written lazily.
func (w *Writer) lease() store.Op {
	key := store.Key{Bucket: leaseBucket, Name: fmt.Sprintf("%d/%d", w.id, w.random.IntN(leasesPer))}
	_, exists := w.held[key]
	if exists && w.random.IntN(12) == 0 {
		return store.Op{Key: key, Action: store.Delete, Expect: store.Any}
	}
	return store.Op{Key: key, Action: store.Put, Expect: store.Any, Value: newValue(w.random)}
}

// op returns a write to a key, or a look at it. A writer knows the revisions of
// its records, and often says what it expects.
func (w *Writer) op(key store.Key) store.Op {
	held, exists := w.held[key]
	op := store.Op{Key: key, Expect: store.Any}
	if w.random.IntN(2) == 0 {
		op.Expect = held.Revision // store.Absent if there is none
	}
	switch choice := w.random.IntN(10); {
	case exists && choice < 3:
		op.Action = store.Delete
	case choice == 9:
		op.Action = store.Check
	default:
		op.Action, op.Value = store.Put, newValue(w.random)
	}
	return op
}

// Done notes that a commit was acknowledged.
func (w *Writer) Done(ops []store.Op, revisions []store.Revision) {
	for i, op := range ops {
		switch op.Action {
		case store.Put:
			w.held[op.Key] = Held{DigestOf(op.Value), revisions[i]}
		case store.Delete:
			delete(w.held, op.Key)
		}
	}
}

// Held returns what the writer has written and not deleted.
func (w *Writer) Held() map[store.Key]Held { return maps.Clone(w.held) }
