package format

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/skiff-sh/skiff/internal/store"
)

// root is where one state of the file begins, of now or of the past: the tree of
// buckets with what it says about revisions.
type root struct {
	page  uint64
	top   *top
	state State
	known bool   // the state could be read
	high  uint64 // pages from here on are not in use
}

// complete reports whether all of it is what that transaction made.
func (r *root) complete(tx uint64) bool {
	return r.known && r.state.Tx == tx && r.top.tally() == r.state.Buckets
}

// readable reports whether no bucket is known to be missing.
func (r *root) readable() bool {
	return len(r.top.gaps) == 0 && len(r.top.entries) > 0 && (!r.known || r.top.tally().Count() == r.state.Buckets.Count())
}

// newerThan orders states of one file. Of two of one transaction the first was
// cut off before it was committed, or is in the free pages that came with a
// snapshot; revisions went on behind all that it may have handed out.
func (r *root) newerThan(o *root) bool {
	a, b := r.state, o.state
	return cmp.Or(cmp.Compare(a.Tx, b.Tx), cmp.Compare(a.Reserved, b.Reserved), cmp.Compare(a.Revision, b.Revision)) > 0
}

// choose finds where the file's last state begins. A meta page that was torn by
// a power cut looks like one that was damaged later. In both cases all that it
// led to is on disk, since it is written when that has been synced; so going on
// there loses nothing, while bbolt would go back to the state before.
func (r *Reader) choose(ctx context.Context) (now *root, err error) {
	slots := r.slots()
	if at := newest(slots); at >= 0 {
		r.meta = slots[at].meta
		if now, err = r.readRoot(ctx, r.meta.root); err != nil {
			return nil, err
		}
	}
	for i, s := range slots {
		if s.mended || !s.valid && now != nil {
			r.mention(store.Damage{Reason: fmt.Sprintf("meta page %d is damaged", i)})
		}
	}
	if !slots[0].valid || !slots[1].valid {
		last, whole, err := r.follow(ctx, now)
		if err != nil || last != nil && last == now {
			return last, err
		}
		if last != nil {
			r.tellLater(last, now != nil && whole && !last.top.misplaced)
			return last, nil
		}
	}
	if now != nil && now.complete(r.meta.tx) {
		return now, nil
	}
	return r.repair(ctx, now)
}

// follow returns the state after the one that the only meta page leads to, nil if
// none was begun. It may not all be there.
func (r *Reader) follow(ctx context.Context, now *root) (last *root, whole bool, err error) {
	if now == nil {
		return r.last(ctx, 0, math.MaxUint64)
	}
	next := r.meta.tx + 1
	copied := now.complete(next) // the second meta page of a copy leads to the same state and is one behind
	if copied {
		next++
	}
	if last, whole, err = r.last(ctx, next, next); last == nil && err == nil && copied {
		return now, true, nil
	}
	return last, whole, err
}

// tellLater tells that the last state was found by searching.
func (r *Reader) tellLater(found *root, all bool) {
	d := store.Damage{Reason: fmt.Sprintf("the last state, to which no page leads, is that of revision %d in page %d", found.state.Revision, found.page)}
	if all {
		d.Reason += "; nothing is lost by that"
		r.mention(d)
		return
	}
	r.note(d)
}

// slots reads the meta pages.
func (r *Reader) slots() [2]metaSlot {
	front, err := r.bytes(0, min(2, r.pages))
	if err != nil {
		return [2]metaSlot{} // what cannot be read is damaged
	}
	return readMetas(front)
}

// readRoot reads a tree of buckets as far as possible.
func (r *Reader) readRoot(ctx context.Context, id uint64) (*root, error) {
	t := newTop(r.source, false)
	if _, err := t.visit(ctx, id, nil, nil, 0); err != nil {
		return nil, err
	}
	found := &root{page: id, top: t}
	var err error
	if found.state, err = t.state(); err != nil && !errors.Is(err, store.ErrDamaged) {
		return nil, err // of a later format
	}
	switch found.known = err == nil; {
	case !found.known:
	case t.tally() == found.state.Buckets:
		for _, gap := range t.gaps {
			t.note("page %d %s; nothing is lost by that", gap.page, gap.reason)
		}
		t.gaps = nil
	case len(t.gaps) == 0:
		t.correct(found.state.Buckets)
	}
	return found, nil
}

// last returns the last of the states of some transactions that is all there; if
// none is, the last one.
func (r *Reader) last(ctx context.Context, from, to uint64) (last *root, whole bool, err error) {
	var all []*root
	err = r.parts(ctx, func(found *root) {
		if tx := found.state.Tx; found.complete(tx) && tx >= from && tx <= to {
			all = append(all, found)
		}
	})
	if err != nil {
		return nil, false, err
	}
	slices.SortStableFunc(all, func(a, b *root) int {
		switch {
		case a.newerThan(b):
			return -1
		case b.newerThan(a):
			return 1
		}
		return 0
	})
	for i, found := range all {
		if whole, err := r.whole(ctx, found); whole || err != nil {
			// After a clean stop the first transaction may have been cut off and
			// another one have taken its number: which of them counts nobody knows.
			twice := i+1 < len(all) && !found.newerThan(all[i+1]) && all[i+1].state != found.state
			return found, whole && !twice, err
		}
	}
	if len(all) == 0 {
		return nil, false, nil
	}
	return all[0], false, nil
}

// parts calls fn for every page that holds buckets and nothing else, together
// with all below it.
func (r *Reader) parts(ctx context.Context, fn func(*root)) error {
	slots := r.slots()
	for id := range r.pages {
		if id < 2 && slots[id].valid {
			continue
		}
		t := newTop(r.source, true)
		if ok, err := t.visit(ctx, id, nil, nil, 0); err != nil {
			return err
		} else if !ok || len(t.gaps) > 0 {
			continue
		}
		state, err := t.state()
		if len(t.notes) == 0 {
			fn(&root{page: id, top: t, state: state, known: err == nil})
		}
	}
	return nil
}

// repair makes the best of a tree of buckets that is not complete: with another
// page; or the state before; or what there is.
func (r *Reader) repair(ctx context.Context, now *root) (*root, error) {
	if now != nil {
		if patched, err := r.patch(ctx, now); patched || err != nil {
			return now, err
		}
	}
	if now == nil || !now.readable() {
		if found, err := r.goBack(ctx); found != nil || err != nil {
			return found, err
		}
	}
	if now == nil || len(now.top.entries) == 0 {
		return nil, fmt.Errorf("%w: no page leads to its records; %s", store.ErrDamaged, GoOn)
	}
	for _, gap := range now.top.gaps {
		now.top.note("page %d %s", gap.page, gap.reason)
	}
	switch {
	case !now.known:
		now.top.note("its last revision cannot be read")
	case now.top.tally() != now.state.Buckets:
		now.top.note("its buckets are not those that it should have; some of its %d are lost, renamed or of the past", now.state.Buckets.Count())
	default:
		now.top.note("its buckets are those of transaction %d, the last one is %d; what was written after that is lost", now.state.Tx, r.meta.tx)
	}
	return now, nil
}

// patch looks for the page with which the tree of buckets is that of the last
// transaction: in a gap, or instead of a page of the past.
func (r *Reader) patch(ctx context.Context, now *root) (bool, error) {
	t, have := now.top, now.top.tally()
	var holes []part
	for _, gap := range t.gaps {
		holes = append(holes, part{gap.page, gap.at, gap.at})
	}
	holes = append(holes, t.parts...)
	var best *root
	var place part
	err := r.parts(ctx, func(found *root) {
		trial := &root{page: found.page, top: found.top, state: now.state}
		if found.known {
			trial.state = found.state
		}
		if trial.state.Tx != r.meta.tx || best != nil && !trial.newerThan(best) {
			return
		}
		counts := found.top.tally()
		for _, hole := range holes {
			if have.Minus(tallyEntries(t.entries[hole.from:hole.to])).Plus(counts) == trial.state.Buckets {
				best, place = trial, hole
				return
			}
		}
	})
	if best == nil || err != nil {
		return false, err
	}
	t.note("page %d does not lead to the buckets that it should; they were found in page %d, nothing is lost", place.page, best.page)
	delete(t.sizes, place.page)
	for id, size := range best.top.sizes {
		t.sizes[id] = size
	}
	t.entries = slices.Replace(t.entries, place.from, place.to, best.top.entries...)
	slices.SortFunc(t.entries, func(a, b entry) int { return bytes.Compare(a.name, b.name) })
	t.gaps, now.state, now.known = nil, best.state, true
	return true, nil
}

// goBack returns the last state that begins elsewhere.
func (r *Reader) goBack(ctx context.Context) (*root, error) {
	found, _, err := r.last(ctx, 0, math.MaxUint64)
	if found != nil && err == nil {
		r.note(store.Damage{Reason: fmt.Sprintf("the tree of buckets in page %d is damaged; another one, of revision %d, was found in page %d; what was written after that is lost",
			r.meta.root, found.state.Revision, found.page)})
	}
	return found, err
}

// whole reports whether all that a root leads to is as it was written.
func (r *Reader) whole(ctx context.Context, found *root) (bool, error) {
	inUse := map[uint64]bool{}
	mark(inUse, found.top)
	for _, e := range found.top.entries {
		t, err := r.walk(ctx, e, inUse)
		if err != nil {
			return false, err
		}
		if t != nil && !t.whole(e.want()) {
			return false, nil
		}
	}
	for id := range inUse {
		found.high = max(found.high, id+1)
	}
	return true, nil
}

// mark notes the pages of a tree of buckets as in use.
func mark(inUse map[uint64]bool, t *top) {
	for id, size := range t.sizes {
		for i := range size {
			inUse[id+i] = true
		}
	}
}
