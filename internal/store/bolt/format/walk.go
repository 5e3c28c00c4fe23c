package format

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/internal/store"
)

// The parts of bbolt's file format (its internal/common, version 2) that lead
// from page to page. Integers are in the machine's order.
const (
	pageHeader   = 16 // id 8, flags 2, count 2, overflow 4
	pageElement  = 16 // branch: pos 4, ksize 4, page 8; leaf: flags 4, pos 4, ksize 4, vsize 4
	pageBranch   = 0x01
	pageLeaf     = 0x02
	pageMeta     = 0x04
	pageFree     = 0x10
	bucketHeader = 16 // root page 8, sequence 8; an inline bucket's page follows
	bucketFlag   = 0x01
	freshTx      = 1 // the last transaction of a file that bbolt has just made
)

// VerifyPages walks the pages of a file before bbolt does. What bbolt finds on
// its own walk it throws as a panic from a goroutine of its own, which would end
// the process. A file that is not there, is empty or has no meta page is left to
// bbolt, which has errors for these. A bad meta page is put right where nothing
// is lost by that: it is the one thing here that writes.
func VerifyPages(path string) error {
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() == 0 || info.Size() > math.MaxInt {
		return err
	}
	if info.Size() < 2*PageSize {
		return fmt.Errorf("%w: the file has %d bytes, fewer than any store; %s", store.ErrDamaged, info.Size(), GoOn)
	}
	_ = unix.Fadvise(int(f.Fd()), 0, readAheadBytes, unix.FADV_WILLNEED)
	if err := mendMeta(path, f, info.Size()); err != nil {
		return err
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map the file: %w", err)
	}
	defer unix.Munmap(data)
	_, err = Walk(data)
	return err
}

// mendMeta sees to it that bbolt goes on with the last state of the file. With
// one bad meta page it would go back to the one before, and the last transaction
// would be gone without a word.
func mendMeta(path string, f *os.File, size int64) error {
	r := NewReader(f, size, func(store.Damage, bool) {})
	slots := r.slots()
	at := newest(slots)
	if at < 0 || !slots[at].mended && slots[1-at].valid {
		return nil
	}
	if slots[at].mended {
		if err := writeMeta(path, at, slots[at].meta); err != nil {
			return err
		}
	}
	if slots[1-at].valid {
		return nil
	}
	ctx := context.Background()
	r.meta = slots[at].meta
	now, err := r.readRoot(ctx, r.meta.root)
	if err != nil {
		return err
	}
	last, whole, err := r.follow(ctx, now)
	if err != nil {
		return err
	}
	if whole && !last.top.misplaced {
		return writeMeta(path, 1-at, meta{root: last.page, free: noFreeList, high: max(last.high, r.meta.high), tx: last.state.Tx})
	}
	if last != nil {
		return fmt.Errorf("%w: a meta page, and part of what it led to; %s", store.ErrDamaged, GoOn)
	}
	return nil
}

// writeMeta puts a meta page on disk.
func writeMeta(path string, slot int, m meta) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt(m.encode(slot), int64(slot)*PageSize); err != nil {
		return err
	}
	return f.Sync()
}

// Walk finds which pages of a whole file are in use, nil when there is no meta
// page. The error is an ErrDamaged that names the page bbolt would stumble over.
func Walk(data []byte) (inUse []bool, err error) {
	slots := readMetas(data)
	at := newest(slots)
	if at < 0 || slots[at].mended {
		return nil, nil
	}
	m := slots[at].meta
	if m.high > uint64(len(data)/PageSize) {
		return nil, fmt.Errorf("%w: the file has %d pages, fewer than the %d it should; "+GoOn,
			store.ErrDamaged, len(data)/PageSize, m.high)
	}
	w := newWalk(data[:m.high*PageSize])
	if err := w.tree(m.root, nil, nil, true); err != nil {
		return w.seen, err
	}
	if m.tx > freshTx && binary.NativeEndian.Uint16(data[m.root*PageSize+10:]) == 0 {
		// Who opens the file would take it for a new one.
		return w.seen, damagedPage(m.root, "should lead to buckets and is empty")
	}
	return w.seen, w.freeList(m.free)
}

// WalkTree does so for the tree of buckets that begins at a page, of a file that
// may be open.
func WalkTree(data []byte, root uint64) error {
	return newWalk(data).tree(root, nil, nil, true)
}

// freeList checks that what bbolt will take for free is, in a file that skiff has
// not written to yet: later there is no such list.
func (w *walk) freeList(id uint64) error {
	if id == noFreeList {
		return nil
	}
	if id < 2 || id >= w.high || w.seen[id] {
		return damagedPage(id, "cannot be the list of free pages")
	}
	page := w.data[id*PageSize:]
	count, overflow := int(binary.NativeEndian.Uint16(page[10:])), uint64(binary.NativeEndian.Uint32(page[12:]))
	if binary.NativeEndian.Uint64(page) != id || binary.NativeEndian.Uint16(page[8:]) != pageFree || overflow != 0 ||
		count > (PageSize-pageHeader)/8 {
		return damagedPage(id, "is no list of free pages")
	}
	w.seen[id] = true
	for i := range count {
		free := binary.NativeEndian.Uint64(page[pageHeader+8*i:])
		if free < 2 || free >= w.high || w.seen[free] {
			return damagedPage(id, fmt.Sprintf("has page %d as free, which is in use", free))
		}
		w.seen[free] = true
	}
	return nil
}

// readAheadBytes is how much of the file the kernel is asked to read in one go:
// opening and loading visit every page, and bbolt maps them for random access,
// which on a cold SD card is a wait for each.
const readAheadBytes = 256 << 20

// walk is a walk under way over the pages that may be in use.
type walk struct {
	data []byte
	high uint64 // the first page that is not there
	seen []bool
}

func newWalk(data []byte) *walk {
	high := uint64(len(data) / PageSize)
	return &walk{data: data, high: high, seen: make([]bool, high)}
}

// damagedPage is the error for a page that bbolt would stumble over.
func damagedPage(id uint64, reason string) error {
	return fmt.Errorf("%w: page %d %s; "+GoOn, store.ErrDamaged, id, reason)
}

// tree walks the pages below one, whose keys must lie in [from, to); nil is no
// bound. The top tree holds buckets, and the trees of these hold none.
func (w *walk) tree(id uint64, from, to []byte, top bool) error {
	if id < 2 || id >= w.high {
		return damagedPage(id, fmt.Sprintf("is referred to, but the last one is %d", w.high-1))
	}
	page := w.data[id*PageSize:]
	if got := binary.NativeEndian.Uint64(page); got != id {
		return damagedPage(id, fmt.Sprintf("says it is page %d", got))
	}
	overflow := uint64(binary.NativeEndian.Uint32(page[12:]))
	if id+overflow >= w.high {
		return damagedPage(id, "reaches beyond the last one")
	}
	for i := id; i <= id+overflow; i++ {
		if w.seen[i] {
			return damagedPage(i, "is in use twice")
		}
		w.seen[i] = true
	}
	return w.elements(id, page[:(overflow+1)*PageSize], from, to, top)
}

// elements walks what a page, or the page within an inline bucket, holds.
func (w *walk) elements(id uint64, page []byte, from, to []byte, top bool) error {
	flags, count := binary.NativeEndian.Uint16(page[8:]), int(binary.NativeEndian.Uint16(page[10:]))
	branch := flags == pageBranch
	if !branch && flags != pageLeaf {
		return damagedPage(id, fmt.Sprintf("is of the unknown type %#x", flags))
	}
	if pageHeader+count*pageElement > len(page) || branch && count == 0 {
		return damagedPage(id, fmt.Sprintf("cannot hold %d elements", count))
	}
	low := from
	for i := range count {
		at := pageHeader + i*pageElement
		key, value, err := element(id, page, at, branch)
		if err != nil {
			return err
		}
		if bytes.Compare(key, low) < 0 || i > 0 && bytes.Equal(key, low) || to != nil && bytes.Compare(key, to) >= 0 {
			return damagedPage(id, fmt.Sprintf("has its key %q in the wrong place", key))
		}
		low = key
		switch {
		case branch:
			upper := to
			if i+1 < count {
				if upper, _, err = element(id, page, at+pageElement, branch); err != nil {
					return err
				}
			}
			err = w.tree(binary.NativeEndian.Uint64(page[at+8:]), key, upper, top)
		case top != (binary.NativeEndian.Uint32(page[at:])&bucketFlag != 0):
			err = damagedPage(id, "has a record among buckets, or the other way round")
		case top:
			err = w.bucket(id, value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// element returns the key and value of the element at an offset.
func element(id uint64, page []byte, at int, branch bool) (key, value []byte, err error) {
	field := func(n int) int { return int(binary.NativeEndian.Uint32(page[at+4*n:])) }
	pos, keyBytes, valueBytes := field(0), field(1), 0
	if !branch {
		pos, keyBytes, valueBytes = field(1), field(2), field(3)
	}
	start := at + pos
	if start+keyBytes+valueBytes > len(page) || keyBytes == 0 {
		return nil, nil, damagedPage(id, "has an element that reaches beyond it")
	}
	return page[start : start+keyBytes], page[start+keyBytes : start+keyBytes+valueBytes], nil
}

// bucket walks a nested tree.
func (w *walk) bucket(id uint64, value []byte) error {
	if len(value) < bucketHeader {
		return damagedPage(id, "has a bucket without a header")
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return w.tree(root, nil, nil, false)
	}
	if len(value) < bucketHeader+pageHeader {
		return damagedPage(id, "has a bucket without a page")
	}
	return w.elements(id, value[bucketHeader:], nil, nil, false)
}
