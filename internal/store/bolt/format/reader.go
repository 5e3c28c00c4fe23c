package format

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/internal/store"
)

// Reader reads a store's file page by page and takes nothing of it for granted:
// no page is mapped, and bbolt has no part in it. What it keeps in memory is a
// small part of the file's size: which pages hold what, and never a value longer
// than it takes to look at.
type Reader struct {
	source
	file    *os.File
	size    int64
	meta    meta
	inUse   map[uint64]bool
	state   State
	known   bool // the state could be read
	trees   []*tree
	report  func(d store.Damage, refused bool)
	damaged bool // something was refused
}

// NewReader reads a file of so many bytes, which nobody writes to. Load tells
// report of everything that is not as it was written; refused is what an engine
// must not serve, the rest costs nothing.
func NewReader(f *os.File, size int64, report func(d store.Damage, refused bool)) *Reader {
	return &Reader{
		source: source{f, uint64(size+PageSize-1) / PageSize}, file: f, size: size,
		inUse: map[uint64]bool{}, report: report,
	}
}

func (r *Reader) note(d store.Damage) {
	r.damaged = true
	r.report(d, true)
}

func (r *Reader) mention(d store.Damage) { r.report(d, false) }

// Load reads all of the file but the values, and tells what is damaged.
func (r *Reader) Load(ctx context.Context) error {
	_ = unix.Fadvise(int(r.file.Fd()), 0, readAheadBytes, unix.FADV_WILLNEED)
	found, err := r.choose(ctx)
	if err != nil {
		return err
	}
	r.state, r.known = found.state, found.known
	for _, note := range found.top.notes {
		r.note(note)
	}
	if pages := uint64(r.size / PageSize); r.meta.high > pages {
		r.note(store.Damage{Reason: fmt.Sprintf("the file has %d pages, fewer than the %d it should", pages, r.meta.high)})
	}
	mark(r.inUse, found.top)
	var wants []Tally
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
func (r *Reader) walk(ctx context.Context, e entry, inUse map[uint64]bool) (*tree, error) {
	t := &tree{from: r.source, inUse: inUse, seen: map[uint64]bool{}}
	bucket, records := e.bucket()
	switch {
	case records:
		t.bucket = bucket
	case string(e.name) == LazyBucket:
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
func (r *Reader) compareLazy() {
	var listed, flagged Tally
	found := false
	for _, t := range r.trees {
		if t.listed {
			listed, found = t.have, true
		} else {
			flagged = flagged.Plus(t.lazy)
		}
	}
	switch {
	case r.damaged: // records that are lost are missing here too
	case !found:
		r.note(store.Damage{Reason: "there is no list of lazy records; nothing is lost by that"})
	case listed != flagged:
		r.note(store.Damage{Reason: fmt.Sprintf("%d records are listed as lazy, %d or others are; nothing is lost by that", listed.Count(), flagged.Count())})
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

// Contents is what a file holds.
type Contents struct {
	Revision  store.Revision // the last one on disk
	Reserved  store.Revision // beyond it none was handed out
	Format    byte
	Buckets   map[string]int // whole records
	FileBytes int64
	FreeBytes int64
	Clean     bool // it was stopped cleanly
}

// Contents sums up what Load found.
func (r *Reader) Contents() Contents {
	c := Contents{
		Revision: r.state.Revision, Reserved: r.state.Reserved, Format: Version, Buckets: map[string]int{}, FileBytes: r.size,
		FreeBytes: max(r.size-int64(2+len(r.inUse))*PageSize, 0), Clean: r.known && r.state.Revision == r.state.Reserved,
	}
	for _, t := range r.trees {
		if !t.listed {
			c.Buckets[t.bucket] = int(t.have.Count())
		}
		if !r.known {
			c.Revision = max(c.Revision, t.newest)
		}
	}
	return c
}

// Each calls fn for every whole record by bucket and name. What it gets is its
// own until it returns.
func (r *Reader) Each(ctx context.Context, fn func(key store.Key, record []byte) error) error {
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
