package bolt

import (
	"errors"
	"time"

	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt/format"
)

// errNeedsDisk says that a lazy request cannot be acknowledged from memory.
var errNeedsDisk = errors.New("the write has to be made durable")

// batch is a group of requests on its way into one transaction. It changes
// nothing of the engine: what it wants of the lazy writes is staged.
type batch struct {
	engine   *Engine
	space    *keyspace
	durable  bool // the transaction can be written to
	roomy    bool // the file may become larger
	now      time.Time
	revision store.Revision
	// staged shadows the engine's pending writes; nil stands for one that a
	// durable operation of this batch has superseded.
	staged map[store.Key]*lazyWrite
	// before are the keys of the request that was verified last, as they were
	// before it; again says that it names one of them more than once.
	before  []current
	again   bool
	written []*lazyWrite
	changes []store.Change
	done    Transaction // nothing while it is not on disk
	writes  int         // records put and deleted in the transaction
}

// current is a key as of some point of the batch.
type current struct {
	revision store.Revision // Absent when it does not exist
	lazy     bool           // its newest value is not on disk
	// stored is the header of what is on disk, nil when there is nothing; it was
	// looked for unless the newest value is a lazy one.
	stored *format.Header
}

// lookup finds a key as of this point of the batch.
func (b *batch) lookup(key store.Key) (current, error) {
	w, ok := b.staged[key]
	if !ok {
		w, ok = b.engine.pending.get(key)
	}
	if ok && w != nil {
		if w.deleted {
			return current{lazy: true}, nil
		}
		return current{revision: w.revision, lazy: true}, nil
	}
	stored, err := b.space.header(key)
	if err != nil || stored == nil {
		return current{}, err
	}
	return current{revision: stored.Revision, stored: stored}, nil
}

// add applies one request, all or nothing. An error is the request's alone
// unless broken is set: then the transaction is of no use any more.
func (b *batch) add(r *request) (broken, err error) {
	lazy, err := b.verify(r)
	if err != nil {
		return nil, err
	}
	switch {
	case r.lazy && !lazy && !b.durable:
		return errNeedsDisk, nil
	case b.durable && !b.roomy && !lazy && !b.thrifty(r):
		return nil, errKept
	}
	r.revisions = make([]store.Revision, len(r.ops))
	for i := range r.ops {
		op := &r.ops[i]
		if op.Action == store.Check {
			continue
		}
		before := b.before[i]
		if b.again { // an operation before this one may have changed it
			if before, err = b.lookup(op.Key); err != nil {
				return err, nil
			}
		}
		b.revision++
		r.revisions[i] = b.revision
		if lazy {
			b.stage(op)
		} else if err := b.write(op, before); err != nil {
			return err, nil
		}
		b.changes = append(b.changes, store.Change{
			Key: op.Key, Action: op.Action, Revision: b.revision, Previous: before.revision, Value: op.Value, Note: op.Note,
		})
	}
	return nil, nil
}

// verify checks a request's expectations, each against what the operations
// before it would leave, and tells whether memory is enough for it.
func (b *batch) verify(r *request) (lazy bool, err error) {
	var own map[store.Key]store.Revision // which the request itself gives to keys
	if len(r.ops) > 1 {
		own = make(map[store.Key]store.Revision, len(r.ops))
	}
	lazy = r.lazy
	writes := 0
	b.before, b.again = b.before[:0], false
	for i := range r.ops {
		op := &r.ops[i]
		before, err := b.lookup(op.Key)
		if err != nil {
			return false, err
		}
		b.before = append(b.before, before)
		have := before.revision
		if given, again := own[op.Key]; again {
			b.again, have = true, given
		}
		if !holds(op, have) {
			return false, &store.ConflictError{Key: op.Key, Want: op.Expect, Have: have}
		}
		if op.Action == store.Check {
			continue
		}
		writes++
		switch {
		case own == nil:
		case op.Action == store.Put:
			own[op.Key] = b.revision + store.Revision(writes)
		default:
			own[op.Key] = store.Absent
		}
		lazy = lazy && (before.lazy || b.mayBeLazy(before.stored))
	}
	if writes > 0 && b.revision+store.Revision(writes) > b.engine.reserved {
		lazy = false
	}
	return lazy, nil
}

// holds reports whether an operation may be applied to a key at revision have.
func holds(op *store.Op, have store.Revision) bool {
	if op.Action == store.Delete && have == store.Absent {
		return false
	}
	return op.Expect == store.Any || op.Expect == have
}

// mayBeLazy reports whether the first lazy write of a key may stay in memory:
// if the key is not on disk, or listed for a fresh revision after a crash, and
// if there is room.
func (b *batch) mayBeLazy(stored *format.Header) bool {
	if b.engine.pending.bytes > b.engine.options.LazyBytes {
		return false
	}
	return stored == nil || stored.Flags&format.FlagLazy != 0
}

// stage makes an operation a lazy write.
func (b *batch) stage(op *store.Op) {
	b.staged[op.Key] = &lazyWrite{
		key: op.Key, deleted: op.Action == store.Delete, revision: b.revision, value: op.Value, since: b.now,
	}
}

// write applies an operation to the transaction.
func (b *batch) write(op *store.Op, before current) (err error) {
	stored := before.stored
	if before.lazy {
		b.staged[op.Key] = nil
		if stored, err = b.space.header(op.Key); err != nil {
			return err
		}
	}
	b.writes++
	if op.Action == store.Delete {
		return b.space.remove(op.Key, stored)
	}
	return b.space.put(op.Key, stored, b.engine.options.lazy(op) || before.lazy, b.revision, op.Value)
}

// carry writes lazy values that have waited long enough, or all. One that this
// batch has replaced waits for the next.
func (b *batch) carry(all bool) error {
	for _, w := range b.engine.pending.due(b.now, all) {
		if _, replaced := b.staged[w.key]; replaced {
			continue
		}
		if err := b.carryOne(w); err != nil {
			return err
		}
		b.written = append(b.written, w)
	}
	if !all {
		return nil
	}
	for key, w := range b.staged {
		if w == nil {
			continue
		}
		if err := b.carryOne(w); err != nil {
			return err
		}
		b.staged[key] = nil
	}
	return nil
}

func (b *batch) carryOne(w *lazyWrite) error {
	stored, err := b.space.header(w.key)
	if err != nil {
		return err
	}
	b.writes++
	if w.deleted {
		return b.space.remove(w.key, stored)
	}
	return b.space.put(w.key, stored, true, w.revision, w.value)
}

// settle makes the staged changes of lazy writes real.
func (b *batch) settle() {
	p := &b.engine.pending
	defer func() { b.engine.stats.lazy.Store(int64(p.bytes)) }()
	for _, w := range b.written {
		p.drop(w.key)
	}
	for key, w := range b.staged {
		if w == nil {
			p.drop(key)
		} else {
			p.set(w)
		}
	}
}

// note tells a compaction which records on disk are new.
func (b *batch) note(c *changed) {
	for i := range b.changes {
		c.add(b.changes[i].Key, len(b.changes[i].Value))
	}
	for _, w := range b.written {
		c.add(w.key, len(w.value))
	}
}
