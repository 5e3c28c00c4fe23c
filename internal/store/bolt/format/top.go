package format

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/skiff-sh/skiff/internal/store"
)

// top is the tree of buckets as it is read. Its records have no checksums; what
// there is to tell right from wrong are the packing of the pages, the form of a
// bucket's header, and the tally of the buckets in the state.
type top struct {
	from   source
	strict bool // nothing is made the best of
	// misplaced: by its own account one of the pages is another.
	misplaced bool
	seen      map[uint64]bool
	sizes     map[uint64]uint64 // of the pages accepted
	entries   []entry
	parts     []part
	gaps      []gap
	notes     []store.Damage
}

func newTop(from source, strict bool) *top {
	return &top{from: from, strict: strict, seen: map[uint64]bool{}, sizes: map[uint64]uint64{}}
}

// part are the buckets under one page.
type part struct {
	page     uint64
	from, to int // of the entries
}

// entry is one bucket of the file.
type entry struct {
	name   []byte
	header []byte  // root page, sequence; of an inline bucket its page too
	in     *layout // … and which element of it says where that lies
	at     int
}

func entryAt(l *layout, i int) (e entry, ok bool) {
	e = entry{in: l, at: i}
	e.name, e.header, ok = l.element(i)
	return e, ok
}

func (e entry) root() uint64 { return binary.NativeEndian.Uint64(e.header) }
func (e entry) want() Tally  { return Tally(binary.NativeEndian.Uint64(e.header[8:])) }

// inline returns the bucket's page if it is within the header.
func (e entry) inline() []byte {
	if len(e.header) == bucketHeader {
		return nil
	}
	return e.header[bucketHeader:]
}

// bucket returns the store's name for it.
func (e entry) bucket() (string, bool) { return strings.CutPrefix(string(e.name), BucketPrefix) }

// counts is what the bucket counts in the tally of all of them.
func (e entry) counts() Tally { return TallyBucket(e.name, e.want()) }

// whole reports whether a bucket within its header holds what it should. Of the
// last bucket of a page nothing else tells how long it is.
func (e entry) whole() bool {
	inline := e.inline()
	bucket, records := e.bucket()
	switch {
	case inline == nil:
		return true
	case !records && string(e.name) != LazyBucket:
		return e.regular()
	}
	t := &tree{bucket: bucket, listed: !records}
	_, reason := t.leaf(newLayout(0, inline, len(inline)), inline, nil, nil)
	return reason == "" && t.whole(e.want())
}

// plausible reports whether it can be a bucket.
func (e entry) plausible(pages uint64) bool {
	if !plausibleName(e.name) || len(e.header) < bucketHeader {
		return false
	}
	inline := e.inline()
	if inline == nil {
		return e.root() >= 2 && e.root() < pages
	}
	if len(inline) < pageHeader {
		return false
	}
	end, ok := chained(inline, false, int(binary.NativeEndian.Uint16(inline[10:])), len(inline))
	return ok && end == len(inline)
}

func plausibleName(name []byte) bool {
	return string(name) == MetaBucket || string(name) == LazyBucket ||
		len(name) > len(BucketPrefix) && bytes.HasPrefix(name, []byte(BucketPrefix)) && bytes.IndexByte(name, 0) < 0
}

func (t *top) note(format string, args ...any) {
	t.notes = append(t.notes, store.Damage{Reason: fmt.Sprintf(format, args...)})
}

// visit walks a page and all below it.
func (t *top) visit(ctx context.Context, id uint64, from, to []byte, depth int) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	miss := gap{at: len(t.entries), page: id, reason: "is referred to twice"}
	if !t.seen[id] && depth <= maxDepth {
		t.seen[id] = true
		l, err := t.from.page(id)
		if err != nil {
			miss.reason = err.Error()
		} else {
			ok, err := t.elements(ctx, l, from, to, depth)
			if ok || err != nil {
				return ok, err
			}
			miss.reason = "holds no buckets, or others"
			t.seen[id] = l.branch // where a leaf belongs it may still be found; branches might go in circles
		}
	}
	t.gaps = append(t.gaps, miss)
	return false, nil
}

// elements takes a page's buckets, or those below it.
func (t *top) elements(ctx context.Context, l *layout, from, to []byte, depth int) (bool, error) {
	if !l.orderly(from, to) {
		l.faults = append(l.faults, "has damaged keys")
	}
	before, parts, gaps, notes, buckets := len(t.entries), len(t.parts), len(t.gaps), len(t.notes), 0
	for i := range l.count {
		if l.branch {
			low, high := l.bounds(i, from, to)
			ok, err := t.visit(ctx, l.child(i), low, high, depth+1)
			if err != nil {
				return false, err
			}
			if ok {
				buckets++
			}
		} else if t.entry(l, i) {
			buckets++
		}
		if t.strict && len(t.gaps)+len(t.notes) > 0 {
			return false, nil
		}
	}
	if buckets == 0 || !l.branch && !t.anyWithin(before, from, to) {
		t.entries, t.parts, t.gaps, t.notes = t.entries[:before], t.parts[:parts], t.gaps[:gaps], t.notes[:notes]
		return false, nil
	}
	t.misplaced = t.misplaced || l.misplaced
	for _, fault := range l.faults {
		if t.strict && l.misplaced && len(l.faults) == 1 {
			break
		}
		t.note("page %d %s; nothing is lost by that", l.id, fault)
	}
	t.sizes[l.id] = l.size
	t.parts = append(t.parts, part{l.id, before, len(t.entries)})
	return true, nil
}

// anyWithin reports whether any of the entries from one on is in [from, to).
func (t *top) anyWithin(first int, from, to []byte) bool {
	return slices.ContainsFunc(t.entries[first:], func(e entry) bool {
		return bytes.Compare(e.name, from) >= 0 && (to == nil || bytes.Compare(e.name, to) < 0)
	})
}

// entry takes one element of a leaf, and reports whether it certainly is a
// bucket.
func (t *top) entry(l *layout, i int) (certain bool) {
	var e entry
	right := func() bool {
		var ok bool
		e, ok = entryAt(l, i)
		return ok && l.fits(i) && e.plausible(t.from.pages)
	}
	switch {
	case right():
		certain = true
	case t.strict:
		t.gaps = append(t.gaps, gap{page: l.id})
		return false
	case e.header != nil && e.plausible(t.from.pages):
		certain = true // it is a neighbour that is not in its place
	case l.mend(i, func() bool { return right() && e.whole() }):
		certain = true
		t.note("page %d: where bucket %s lies is damaged; nothing is lost by that", l.id, e.label())
	default:
		// Its name or its header: both can be told from its records.
		var ok bool
		if e, ok = entryAt(l, i); !ok || len(e.header) < bucketHeader {
			t.gaps = append(t.gaps, gap{at: len(t.entries), page: l.id, reason: fmt.Sprintf("has a bucket that cannot be read, its element %d", i+1)})
			return false
		}
		if inline := e.inline(); inline != nil && len(inline) < pageHeader {
			e.header = e.header[:bucketHeader]
		}
		t.note("page %d: bucket %s is damaged where it begins; what is lost by that is told of its records", l.id, e.label())
	}
	if l.flags(i) != bucketFlag {
		t.note("page %d: bucket %s has the flags %#x; nothing is lost by that", l.id, e.label(), l.flags(i))
	}
	if e.inline() != nil && e.root() != 0 {
		t.note("page %d: the header of bucket %s is damaged; nothing is lost by that", l.id, e.label())
	}
	t.entries = append(t.entries, e)
	return certain
}

// label is the bucket's name for people.
func (e entry) label() string {
	if bucket, ok := e.bucket(); ok {
		return bucket
	}
	return fmt.Sprintf("%q", e.name)
}

// tally is that of the buckets.
func (t *top) tally() Tally { return tallyEntries(t.entries) }

func tallyEntries(entries []entry) (sum Tally) {
	for _, e := range entries {
		sum = sum.Plus(e.counts())
	}
	return sum
}

// state looks for how far revisions have come, in whatever is left of the
// bucket in which it is.
func (t *top) state() (State, error) {
	_, err := DecodeState(nil)
	for _, e := range t.entries {
		if _, records := e.bucket(); records {
			continue
		}
		for at := 0; at+StateBytes <= len(e.header); at++ {
			if p, whole := scanState(e.header[at : at+StateBytes]); whole {
				if !e.regular() {
					t.note("bucket %s is damaged; nothing is lost by that", e.label())
				}
				return p, nil
			}
		}
		if string(e.name) == MetaBucket && len(e.header) > StateBytes {
			_, err = DecodeState(e.header[len(e.header)-StateBytes:]) // maybe it is of a later format
		}
	}
	return State{}, err
}

// regular reports whether the bucket meta has its one record where bbolt finds it.
func (e entry) regular() bool {
	inline := e.inline()
	if string(e.name) != MetaBucket || len(inline) < pageHeader+pageElement {
		return false
	}
	l := newLayout(0, inline, len(inline))
	if l.branch || l.count != 1 || len(l.faults) > 0 || l.flags(0) != 0 || !l.orderly(nil, nil) {
		return false
	}
	name, value, _ := l.element(0)
	_, err := DecodeState(value)
	return string(name) == MetaState && err == nil
}

// correct puts one wrong byte of a name, of what a bucket should hold or of where
// it lies right, by the tally of all of them.
func (t *top) correct(want Tally) bool {
	have := t.tally()
	for i := range t.entries {
		e := &t.entries[i]
		rest := want.Minus(have.Minus(e.counts()))
		was := string(e.name)
		if mend(e.name, func() bool { return e.counts() == rest && plausibleName(e.name) }) {
			t.note("the bucket %q is %q; nothing is lost by that", was, e.name)
			return true
		}
		if mend(e.header[8:bucketHeader], func() bool { return e.counts() == rest }) {
			t.note("what the bucket %s should hold is damaged; nothing is lost by that", e.label())
			return true
		}
		var moved entry
		place := func() (ok bool) {
			moved, ok = entryAt(e.in, e.at)
			return ok && moved.plausible(t.from.pages) && moved.counts() == rest
		}
		if e.in.mend(e.at, place) {
			*e = moved
			t.note("page %d: where bucket %s lies is damaged; nothing is lost by that", e.in.id, e.label())
			return true
		}
	}
	return false
}
