package format

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/skiff-sh/skiff/internal/store"
)

// maxDepth is more than any tree of bbolt's has: each level multiplies by two
// at least, by a hundred usually.
const maxDepth = 24

// tree is one bucket as it is read: which leaves hold its records, what is
// damaged, and where something is missing. It keeps no values.
//
// A page is taken for the bucket's when it is where the tree refers to, when its
// keys lie where they should, and when a record in it is whole, of which the
// checksum covers the bucket's name. All others are left for the search.
type tree struct {
	from   source
	bucket string
	listed bool            // the list of lazy records: names without values
	inUse  map[uint64]bool // pages of what was accepted before; nil on a trial, which mends nothing
	seen   map[uint64]bool // pages visited on this walk

	leaves []leaf
	units  []unit
	gaps   []gap
	lost   []lost
	loose  []loose // records found apart from their pages
	notes  []store.Damage
	have   Tally
	lazy   Tally // of the records that should be listed
	newest store.Revision
}

// leaf is a page with records.
type leaf struct {
	page        uint64
	inline      []byte // the page itself, in a bucket's header
	first, last string
	tally       Tally
}

// unit are the leaves under one page.
type unit struct {
	from, to int
	page     uint64
	tally    Tally
}

// gap is a place in the tree under which nothing was accepted.
type gap struct {
	at     int // before this leaf
	page   uint64
	reason string
	lost   []lost // what may have been there
}

// lost is a record that is not whole.
type lost struct {
	key    store.Key
	tally  Tally // by its header, zero if that cannot be read
	reason string
	behind string // the name of the last whole one before it
}

// loose is a whole record in a page that nothing refers to.
type loose struct {
	name string
	page uint64
	Header
}

func (t *tree) note(format string, args ...any) {
	t.notes = append(t.notes, store.Damage{Key: store.Key{Bucket: t.bucket}, Reason: fmt.Sprintf(format, args...)})
}

// visit walks the page id and all below it, whose keys must lie in [from, to).
// Unless something of it is accepted, there is a gap.
func (t *tree) visit(ctx context.Context, id uint64, from, to []byte, depth int) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	miss := gap{at: len(t.leaves), page: id}
	switch {
	case id < 2 && t.inUse != nil:
		miss.reason = "is no page for records"
	case t.seen[id] || t.inUse[id]:
		miss.reason = "is referred to twice"
	case depth > maxDepth:
		miss.reason = "is too deep in the tree"
	}
	if miss.reason == "" {
		t.seen[id] = true
		l, err := t.from.page(id)
		switch {
		case err != nil:
			miss.reason = err.Error()
		case l.misplaced && t.inUse != nil:
			miss.reason = l.faults[len(l.faults)-1]
		case l.branch:
			if ok, err := t.branch(ctx, l, from, to, depth); ok || err != nil {
				return ok, err
			}
			miss.reason = "leads to nothing that belongs there"
		default:
			if miss.lost, miss.reason = t.leaf(l, nil, from, to); miss.reason == "" {
				return true, nil
			}
		}
	}
	t.gaps = append(t.gaps, miss)
	return false, nil
}

// branch walks what a page refers to.
func (t *tree) branch(ctx context.Context, l *layout, from, to []byte, depth int) (bool, error) {
	leaves, gaps, lost, notes, have := len(t.leaves), len(t.gaps), len(t.lost), len(t.notes), t.have
	any := false
	for i := range l.count {
		low, high := l.bounds(i, from, to)
		ok, err := t.visit(ctx, l.child(i), low, high, depth+1)
		if err != nil {
			return false, err
		}
		any = any || ok
	}
	if !any {
		t.gaps, t.lost, t.notes = t.gaps[:gaps], t.lost[:lost], t.notes[:notes]
		return false, nil
	}
	if !l.orderly(from, to) {
		l.faults = append(l.faults, "has damaged keys")
	}
	t.accept(l, unit{from: leaves, to: len(t.leaves), page: l.id, tally: t.have.Minus(have)}, false)
	return true, nil
}

// accept takes a page for one of the bucket's; broken: not all of its records are
// whole.
func (t *tree) accept(l *layout, u unit, broken bool) {
	t.units = append(t.units, u)
	for _, fault := range l.faults {
		t.note("page %d %s; nothing is lost by that", l.id, fault)
	}
	if t.inUse != nil && l.id >= 2 { // not within a bucket's header
		size := l.size
		if broken {
			size = 1 // what carries it on may be anything
		}
		for i := range size {
			t.inUse[l.id+i] = true
		}
	}
}

// leaf takes the records of a page, unless it says why they do not belong
// there.
func (t *tree) leaf(l *layout, inline []byte, from, to []byte) (suspects []lost, reason string) {
	var got leaf
	var damaged []lost
	var notes []string
	var have, lazy Tally
	newest, whole := t.newest, 0
	var last []byte
	for i := range l.count {
		f := t.read(l, i, last)
		switch {
		case f.err != nil:
			loss := t.loss(f, last)
			if n := len(damaged); n > 0 && loss.key.Name != "" && loss.key.Name <= damaged[n-1].key.Name {
				loss.unname()
			}
			damaged = append(damaged, loss)
			continue
		case bytes.Compare(f.name, from) < 0 || to != nil && bytes.Compare(f.name, to) >= 0:
			return nil, fmt.Sprintf("has the key %q in the wrong place", f.name)
		case f.note != "":
			notes = append(notes, f.note)
		}
		if whole == 0 {
			got.first = string(f.name)
		}
		for i := range damaged {
			if name := damaged[i].key.Name; name >= string(f.name) {
				damaged[i].unname()
			}
		}
		whole++
		last = f.name
		have, newest = have.Add(f.Header), max(newest, f.Revision)
		if f.Flags&FlagLazy != 0 {
			lazy = lazy.Add(ListedHeader(store.Key{Bucket: t.bucket, Name: string(f.name)}))
		}
	}
	if whole == 0 && (l.count > 0 || inline == nil) {
		return damaged, "has nothing that is whole"
	}
	got.page, got.inline, got.last, got.tally = l.id, inline, string(last), have
	t.have, t.lazy, t.newest = t.have.Plus(have), t.lazy.Plus(lazy), newest
	t.lost = append(t.lost, damaged...)
	t.accept(l, unit{from: len(t.leaves), to: len(t.leaves) + 1, page: l.id, tally: have}, len(damaged) > 0)
	for _, note := range notes {
		t.note("page %d: %s; nothing is lost by that", l.id, note)
	}
	t.leaves = append(t.leaves, got)
	return nil, ""
}

// loss is a record that is not whole. If its name cannot be right either, it is
// told where it was.
func (t *tree) loss(f found, last []byte) lost {
	l := lost{key: store.Key{Bucket: t.bucket, Name: string(f.name)}, tally: f.tally, reason: Reason(f.err)}
	if last == nil && len(t.leaves) > 0 {
		last = []byte(t.leaves[len(t.leaves)-1].last)
	}
	l.behind = string(last)
	strange := func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }
	if l.key.Name == "" || strings.ContainsFunc(l.key.Name, strange) || l.key.Name <= l.behind {
		l.unname()
	}
	return l
}

// unname tells where a record was instead of its name.
func (l *lost) unname() {
	where := "at the beginning"
	if l.behind != "" {
		where = fmt.Sprintf("behind %q", l.behind)
	}
	l.reason = fmt.Sprintf("a record %s is lost, its name is now %q: %s", where, l.key.Name, l.reason)
	l.key.Name = ""
}

// found is one element of a leaf.
type found struct {
	name, record []byte
	Header
	tally Tally // zero if the header cannot be read
	note  string
	err   error
}

// read reads an element, whose name must be behind last.
func (t *tree) read(l *layout, i int, last []byte) found {
	f := t.try(l, i, last)
	if fits := l.fits(i); t.inUse != nil && (!fits || f.err != nil && i+1 == l.count) {
		// Damage to where it lies may have led to another record that is whole: so
		// the place between its neighbours comes first.
		if l.mend(i, func() bool { return l.fits(i) && t.right(l, i, last) }) ||
			f.err != nil && l.mend(i, func() bool { return t.right(l, i, last) }) {
			f = t.try(l, i, last)
			f.note = fmt.Sprintf("where the record %q lies is damaged", f.name)
			return f
		}
	}
	if f.err == nil && l.flags(i) != 0 {
		f.note = fmt.Sprintf("the record %q has unknown flags %#x", f.name, l.flags(i))
	}
	return f
}

// right reports whether an element is whole, without a word.
func (t *tree) right(l *layout, i int, last []byte) bool {
	name, record, ok := l.element(i)
	if !ok || last != nil && bytes.Compare(name, last) <= 0 {
		return false
	}
	if t.listed {
		return len(record) == 0 && bytes.IndexByte(name, 0) > 0 && l.fits(i)
	}
	return len(record) >= HeaderBytes && record[0] == recordFormat &&
		checksum(store.Key{Bucket: t.bucket, Name: string(name)}, record) == binary.BigEndian.Uint32(record[10:])
}

func (t *tree) try(l *layout, i int, last []byte) (f found) {
	name, record, ok := l.element(i)
	if !ok {
		f.err = fmt.Errorf("record %d of page %d reaches beyond it", i+1, l.id)
		return f
	}
	f.name, f.record = name, record
	key := store.Key{Bucket: t.bucket, Name: string(name)}
	if t.listed {
		f.Header = Header{Checksum: crc32.Checksum(name, castagnoli)}
		if len(record) != 0 || bytes.IndexByte(name, 0) < 1 {
			f.err = fmt.Errorf("%q is not the name of a record", name)
		}
	} else if f.Header, f.err = VerifyRecord(key, record); f.err != nil && f.Checksum != 0 {
		f.tally = Tally(0).Add(f.Header)
	}
	if f.err == nil && last != nil && bytes.Compare(name, last) <= 0 {
		f.err = fmt.Errorf("it is behind %q", last)
	}
	return f
}

// each calls fn for every whole record of the bucket, in order unless some had
// to be searched.
func (t *tree) each(ctx context.Context, fn func(name, record []byte) error) error {
	for _, leaf := range t.leaves {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := t.records(leaf, func(f found) error { return fn(f.name, f.record) }); err != nil {
			return err
		}
	}
	for _, loose := range t.loose {
		err := t.records(leaf{page: loose.page}, func(f found) error {
			if string(f.name) != loose.name || f.Header != loose.Header {
				return nil
			}
			return fn(f.name, f.record)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// records calls fn for the whole records of a leaf.
func (t *tree) records(leaf leaf, fn func(found) error) error {
	var l *layout
	if leaf.inline != nil {
		l = newLayout(0, leaf.inline, len(leaf.inline))
	} else {
		var err error
		if l, err = t.from.page(leaf.page); err != nil {
			return fmt.Errorf("page %d %w", leaf.page, err)
		}
	}
	var last []byte
	for i := range l.count {
		f := t.read(l, i, last)
		if f.err != nil {
			continue
		}
		last = f.name
		if err := fn(f); err != nil {
			return err
		}
	}
	return nil
}

// whole reports whether the tree is all as it was written.
func (t *tree) whole(want Tally) bool {
	return t.have == want && len(t.gaps) == 0 && len(t.lost) == 0 && len(t.notes) == 0
}
