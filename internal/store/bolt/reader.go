package bolt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/internal/store"
)

// reader reads a store's file page by page and takes nothing of it for granted:
// no page is mapped, and bbolt has no part in it. What it keeps in memory is a
// small part of the file's size: which pages hold what, and never a value longer
// than it takes to look at.
type reader struct {
	source
	file    *os.File
	size    int64
	meta    meta
	inUse   map[uint64]bool
	state   progress
	known   bool // the state could be read
	trees   []*tree
	report  func(store.Damage)
	worse   func(store.Damage) // hears of what Open and Scan do not get over
	damaged bool               // there was such a thing
}

// openReader opens a file at rest. Whoever has the store of that name keeps it
// from us, and we keep it from them.
func openReader(path string, report func(store.Damage)) (*reader, func(), error) {
	lock, err := holdStill(path)
	if err != nil {
		return nil, nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		lock()
		return nil, nil, err
	}
	end := func() { f.Close(); lock() }
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file", path)
	}
	if err != nil {
		end()
		return nil, nil, err
	}
	return newReader(f, info.Size(), report), end, nil
}

func newReader(f *os.File, size int64, report func(store.Damage)) *reader {
	return &reader{
		source: source{f, uint64(size+pageSize-1) / pageSize}, file: f, size: size,
		inUse: map[uint64]bool{}, report: report, worse: func(store.Damage) {},
	}
}

// holdStill takes the lock beside a store, if there is one. Copies have none, and
// on a medium that cannot be written to nobody can change anything.
func holdStill(path string) (free func(), err error) {
	if _, err := os.Stat(path + ".lock"); err != nil {
		return func() {}, nil
	}
	lock, err := lockFile(path)
	if errors.Is(err, unix.EROFS) {
		return func() {}, nil
	}
	if err != nil {
		return nil, err
	}
	return func() { lock.Close() }, nil
}

func (r *reader) note(d store.Damage) {
	r.damaged = true
	r.worse(d)
	r.report(d)
}

// load reads all of the file but the values, and tells what is damaged.
func (r *reader) load(ctx context.Context) error {
	_ = unix.Fadvise(int(r.file.Fd()), 0, readAheadBytes, unix.FADV_WILLNEED)
	found, err := r.choose(ctx)
	if err != nil {
		return err
	}
	r.state, r.known = found.state, found.known
	for _, note := range found.top.notes {
		r.note(note)
	}
	if pages := uint64(r.size / pageSize); r.meta.high > pages {
		r.note(store.Damage{Reason: fmt.Sprintf("the file has %d pages, fewer than the %d it should", pages, r.meta.high)})
	}
	mark(r.inUse, found.top)
	var wants []tally
	for _, e := range found.top.entries {
		t, err := r.walk(ctx, e, r.inUse)
		if err != nil {
			return err
		}
		if t != nil {
			r.trees, wants = append(r.trees, t), append(wants, e.want())
		}
	}
	for i, t := range r.trees {
		if err := r.resolve(ctx, t, wants[i]); err != nil {
			return err
		}
		t.tell(r.note)
	}
	r.compareLazy()
	return nil
}

// walk reads one bucket, nil for what is none of the store's.
func (r *reader) walk(ctx context.Context, e entry, inUse map[uint64]bool) (*tree, error) {
	t := &tree{from: r.source, inUse: inUse, seen: map[uint64]bool{}}
	bucket, records := e.bucket()
	switch {
	case records:
		t.bucket = bucket
	case string(e.name) == lazyBucket:
		t.bucket, t.listed = lazyLabel, true
	default:
		return nil, nil
	}
	inline := e.inline()
	if inline == nil {
		_, err := t.visit(ctx, e.root(), nil, nil, 0)
		return t, err
	}
	if suspects, reason := t.leaf(newLayout(0, inline, len(inline)), inline, nil, nil); reason != "" {
		t.gaps = append(t.gaps, gap{reason: "(where the buckets are) " + reason, lost: suspects})
	}
	return t, nil
}

// lazyLabel is what the list of lazy records is called in reports.
const lazyLabel = "(list of lazy records)"

// compareLazy checks that those are listed, and only those, that say they may
// have been written lazily.
func (r *reader) compareLazy() {
	var listed, flagged tally
	found := false
	for _, t := range r.trees {
		if t.listed {
			listed, found = t.have, true
		} else {
			flagged = flagged.plus(t.lazy)
		}
	}
	switch {
	case r.damaged: // records that are lost are missing here too
	case !found:
		r.note(store.Damage{Reason: "there is no list of lazy records; nothing is lost by that"})
	case listed != flagged:
		r.note(store.Damage{Reason: fmt.Sprintf("%d records are listed as lazy, %d or others are; nothing is lost by that", listed.count(), flagged.count())})
	}
}

// tell reports what was found wrong with a bucket.
func (t *tree) tell(report func(store.Damage)) {
	slices.SortStableFunc(t.lost, func(a, b lost) int { return cmp.Compare(a.key.Name, b.key.Name) })
	for _, l := range t.lost {
		report(store.Damage{Key: l.key, Reason: l.reason})
	}
	for _, note := range t.notes {
		report(note)
	}
}

// contents sums up.
func (r *reader) contents() Contents {
	c := Contents{
		Revision: r.state.revision, Format: progressFormat, Buckets: map[string]int{}, FileBytes: r.size,
		FreeBytes: max(r.size-int64(2+len(r.inUse))*pageSize, 0), Clean: r.known && r.state.revision == r.state.reserved,
	}
	for _, t := range r.trees {
		if !t.listed {
			c.Buckets[t.bucket] = int(t.have.count())
		}
		if !r.known {
			c.Revision = max(c.Revision, t.newest)
		}
	}
	return c
}

// each calls fn for every whole record.
func (r *reader) each(ctx context.Context, fn func(key store.Key, record []byte) error) error {
	for _, t := range r.trees {
		if t.listed {
			continue
		}
		err := t.each(ctx, func(name, record []byte) error {
			return fn(store.Key{Bucket: t.bucket, Name: string(name)}, record)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
