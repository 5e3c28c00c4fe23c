package bolt

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/skiff-sh/skiff/internal/store"
)

// root is where one state of the file begins, of now or of the past: the tree of
// buckets with what it says about revisions.
type root struct {
	page  uint64
	top   *top
	state progress
	known bool   // the state could be read
	high  uint64 // pages from here on are not in use
}

// readable reports whether no bucket is known to be missing.
func (r *root) readable() bool {
	return len(r.top.gaps) == 0 && len(r.top.entries) > 0 && (!r.known || r.top.names().count() == r.state.buckets.count())
}

// complete reports whether all buckets are there that should be.
func (r *root) complete() bool {
	return r.known && len(r.top.gaps) == 0 && r.top.names() == r.state.buckets
}

// newerThan orders states of one file. With one revision a clean stop comes
// last, and what Restore and Salvage do to a file after that.
func (r *root) newerThan(o *root) bool {
	rank := func(p progress) int {
		switch {
		case p.reserved-p.revision >= restoreSkip:
			return 2
		case p.reserved == p.revision:
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(r.state.revision, o.state.revision), cmp.Compare(rank(r.state), rank(o.state))) > 0
}

// choose finds where the file's last state begins. A meta page that was torn by
// a power cut looks like one that was damaged later. In both cases all that it
// led to is on disk, since it is written when that has been synced; so going on
// there loses nothing, while bbolt would go back to the state before.
func (r *reader) choose(ctx context.Context) (*root, error) {
	slots := r.slots()
	var now *root
	if at := newest(slots); at >= 0 {
		r.meta = slots[at].meta
		var err error
		if now, err = r.readRoot(ctx, r.meta.root); err != nil {
			return nil, err
		}
	}
	// A page that says it is another may hold an older state.
	whole := slots[0].valid && slots[1].valid && (now == nil || !now.top.misplaced)
	for i, s := range slots {
		if s.mended || !s.valid && now != nil {
			r.report(store.Damage{Reason: fmt.Sprintf("meta page %d is damaged", i)})
		}
	}
	if whole && now.complete() {
		return now, nil
	}
	if !whole {
		later, all, err := r.later(ctx, now)
		if err != nil {
			return nil, err
		}
		if later != nil {
			r.tellLater(later, now != nil && all && !now.top.misplaced)
			return later, nil
		}
	}
	if now != nil && now.complete() {
		return now, nil
	}
	return r.repair(ctx, now)
}

// tellLater tells that the last state was found by searching.
func (r *reader) tellLater(found *root, all bool) {
	d := store.Damage{Reason: fmt.Sprintf("the last state, to which no page leads, is that of revision %d in page %d", found.state.revision, found.page)}
	if all {
		d.Reason += "; nothing is lost by that"
		r.report(d)
		return
	}
	r.note(d)
}

// slots reads the meta pages.
func (r *reader) slots() [2]metaSlot {
	front, err := r.bytes(0, min(2, r.pages))
	if err != nil {
		return [2]metaSlot{} // what cannot be read is damaged
	}
	return readMetas(front)
}

// readRoot reads a tree of buckets as far as possible.
func (r *reader) readRoot(ctx context.Context, id uint64) (*root, error) {
	t := newTop(r.source, false)
	if _, err := t.visit(ctx, id, nil, nil, 0); err != nil {
		return nil, err
	}
	found := &root{page: id, top: t}
	var err error
	if found.state, err = t.state(); err != nil && !errors.Is(err, store.ErrDamaged) {
		return nil, err // of a later format
	}
	if found.known = err == nil; found.known && len(t.gaps) == 0 && t.names() != found.state.buckets {
		t.rename(found.state.buckets)
	}
	return found, nil
}

// later returns the last state after the one given, nil if none was begun. It may
// not all be there.
func (r *reader) later(ctx context.Context, now *root) (last *root, whole bool, err error) {
	roots, err := r.roots(ctx)
	if err != nil {
		return nil, false, err
	}
	for _, found := range roots {
		if last != nil && last.newerThan(found) {
			break
		}
		all, err := r.whole(ctx, found)
		if err != nil {
			return nil, false, err
		}
		before := last
		if before == nil {
			before = now
		}
		newer := before == nil || !before.known || found.newerThan(before)
		if !newer && !before.newerThan(found) {
			// A transaction of lazy writes alone does not move the revision.
			if newer, err = r.ahead(ctx, found, before, all); err != nil {
				return nil, false, err
			}
		}
		if newer && (all || !whole) {
			last, whole = found, all
		}
	}
	return last, whole, nil
}

// ahead reports whether a has a later revision of some record than b, or, when it
// is all there, more records.
func (r *reader) ahead(ctx context.Context, a, b *root, whole bool) (bool, error) {
	more := 0
	for _, e := range a.top.entries {
		other, there := b.top.find(string(e.name))
		if _, records := e.bucket(); !records || !there || bytes.Equal(e.header, other.header) {
			continue
		}
		revisions, err := r.revisions(ctx, other)
		if err != nil {
			return false, err
		}
		mine, err := r.revisions(ctx, e)
		if err != nil {
			return false, err
		}
		for name, revision := range mine {
			if old, there := revisions[name]; there && revision > old {
				return true, nil
			}
		}
		more += len(mine) - len(revisions)
	}
	return whole && more > 0, nil
}

// revisions returns those of a bucket's whole records.
func (r *reader) revisions(ctx context.Context, e entry) (map[string]store.Revision, error) {
	all := map[string]store.Revision{}
	t, err := r.walk(ctx, e, map[uint64]bool{})
	if err != nil || t == nil {
		return nil, err
	}
	err = t.each(ctx, func(name, record []byte) error {
		h, err := readHeader(store.Key{Bucket: t.bucket, Name: string(name)}, record)
		all[string(name)] = h.revision
		return err
	})
	return all, err
}

// repair makes the best of a tree of buckets that is not complete: with a page
// that nothing refers to; or the state before; or what there is.
func (r *reader) repair(ctx context.Context, now *root) (*root, error) {
	if now == nil || !now.readable() {
		for _, fix := range []func(context.Context, *root) (*root, error){r.patch, r.goBack} {
			if found, err := fix(ctx, now); found != nil || err != nil {
				return found, err
			}
		}
	}
	if now == nil || len(now.top.entries) == 0 {
		return nil, fmt.Errorf("%w: no page leads to its records; %s", store.ErrDamaged, goOn)
	}
	for _, gap := range now.top.gaps {
		now.top.note("page %d %s", gap.page, gap.reason)
	}
	switch {
	case !now.known:
		now.top.note("its last revision cannot be read")
	case now.top.names() != now.state.buckets:
		now.top.note("its buckets are not those that it should have; some of its %d are lost or renamed", now.state.buckets.count())
	}
	return now, nil
}

// patch looks for the one page with which the tree of buckets is complete. Of
// several, all but one belong to the past.
func (r *reader) patch(ctx context.Context, now *root) (best *root, err error) {
	if now == nil || !now.known || len(now.top.gaps) != 1 {
		return nil, nil
	}
	need := now.state.buckets.minus(now.top.names())
	gap := now.top.gaps[0]
	var latest store.Revision
	err = r.orphans(func(id uint64) error {
		part := newTop(r.source, true)
		if ok, err := part.visit(ctx, id, nil, nil, 0); !ok || err != nil || part.names() != need || len(part.gaps)+len(part.notes) > 0 {
			return err
		}
		trial := &root{page: id, top: part}
		ok, err := r.whole(ctx, trial)
		if newest := r.newestOf(ctx, part); ok && newest >= latest && err == nil {
			best, latest = trial, newest
		}
		return err
	})
	if best == nil || err != nil {
		return nil, err
	}
	now.top.gaps = nil
	now.top.note("page %d %s; the buckets that belong there were found in page %d, nothing is lost", gap.page, gap.reason, best.page)
	now.top.entries = slices.Insert(now.top.entries, gap.at, best.top.entries...)
	for id, size := range best.top.sizes {
		now.top.sizes[id] = size
	}
	return now, nil
}

// newestOf is the last revision of the records of some buckets.
func (r *reader) newestOf(ctx context.Context, t *top) (newest store.Revision) {
	for _, e := range t.entries {
		if tree, err := r.walk(ctx, e, map[uint64]bool{}); err == nil && tree != nil {
			newest = max(newest, tree.newest)
		}
	}
	return newest
}

// goBack returns the last state that begins elsewhere.
func (r *reader) goBack(ctx context.Context, now *root) (*root, error) {
	found, _, err := r.later(ctx, nil)
	if found != nil && err == nil {
		r.note(store.Damage{Reason: fmt.Sprintf("the tree of buckets in page %d is damaged; another one, of revision %d, was found in page %d; what was written after that is lost",
			r.meta.root, found.state.revision, found.page)})
	}
	return found, err
}

// roots returns every page where a state begins, the newest first.
func (r *reader) roots(ctx context.Context) ([]*root, error) {
	var all []*root
	slots := r.slots()
	for id := range r.pages {
		if id < 2 && slots[id].valid {
			continue
		}
		t := newTop(r.source, true)
		if ok, err := t.visit(ctx, id, nil, nil, 0); err != nil {
			return nil, err
		} else if !ok || len(t.gaps)+len(t.notes) > 0 {
			continue
		}
		state, err := t.state()
		if err == nil && t.names() == state.buckets && len(t.notes) == 0 {
			all = append(all, &root{page: id, top: t, state: state, known: true})
		}
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
	return all, nil
}

// whole reports whether all that a root leads to is as it was written.
func (r *reader) whole(ctx context.Context, found *root) (bool, error) {
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
