package format

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// PageSize is the same on every machine, so that files can move.
const PageSize = 4096

// maxPage bounds what is read in one go for one page and what belongs to it: no
// record comes near.
const maxPage = 64 << 20

// layout is a page as it is found in a file that may be damaged, together with
// those that carry on its last record. bbolt packs pages: the elements' table, then
// keys and values in order without a gap. So what one damaged field says can be
// told from the others.
type layout struct {
	id     uint64
	data   []byte
	branch bool
	count  int
	size   uint64 // pages it takes
	// misplaced: by its own account it is another page, which cannot be told
	// from damage to that account without the digest of what it belongs to.
	misplaced bool
	faults    []string // what is wrong with it without any loss
}

// source are the pages of a file.
type source struct {
	io.ReaderAt
	pages uint64 // the last one may be cut
}

// bytes returns n pages from id on. What the file does not have is zero.
func (s source) bytes(id, n uint64) ([]byte, error) {
	data := make([]byte, n*PageSize)
	got, err := s.ReadAt(data, int64(id*PageSize))
	if got == 0 && errors.Is(err, io.EOF) {
		return nil, errors.New("is beyond the end of the file")
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	return data, nil
}

// page reads a page.
func (s source) page(id uint64) (*layout, error) {
	if id >= s.pages {
		return nil, fmt.Errorf("is not one of the file's %d pages", s.pages)
	}
	data, err := s.bytes(id, 1)
	if err != nil {
		return nil, err
	}
	most := min(s.pages-id, maxPage/PageSize)
	said := 1 + uint64(binary.NativeEndian.Uint32(data[12:]))
	if !headed(id, data) {
		said = 1 // part of another page, or of none: what it says means nothing
	}
	if said > 1 && said <= most {
		if data, err = s.bytes(id, said); err != nil {
			return nil, err
		}
	}
	l := newLayout(id, data, int(most*PageSize))
	reach := max(l.size, min(said, most))
	if l.size == 0 {
		l.size = min(said, most)
	} else if said != l.size {
		l.faults = append(l.faults, fmt.Sprintf("says that it takes %d pages, its records %d", said, l.size))
		l.size = min(said, l.size)
	}
	if int(reach*PageSize) > len(data) {
		l.data, err = s.bytes(id, reach)
	}
	if got := binary.NativeEndian.Uint64(data); got != id {
		l.misplaced = true
		l.faults = append(l.faults, fmt.Sprintf("says it is page %d", got))
	}
	return l, err
}

// headed reports whether a page begins as pages do, with a number or a type that
// can be its own.
func headed(id uint64, data []byte) bool {
	flags := binary.NativeEndian.Uint16(data[8:])
	return binary.NativeEndian.Uint64(data) == id || flags == pageBranch || flags == pageLeaf
}

// newLayout finds out what kind of page it is and how many elements it has, of
// which there are two accounts each: the header, and where the first element
// has its key.
func newLayout(id uint64, data []byte, most int) *layout {
	l := &layout{id: id, data: data}
	flags, count := binary.NativeEndian.Uint16(data[8:]), int(binary.NativeEndian.Uint16(data[10:]))
	if flags == pageBranch || flags == pageLeaf {
		if end, ok := chained(data, flags == pageBranch, count, most); ok {
			l.branch, l.count, l.size = flags == pageBranch, count, pagesFor(end)
			return l
		}
	}
	if (flags == pageBranch || flags == pageLeaf) && supported(data, flags == pageBranch, count) {
		l.branch, l.count = flags == pageBranch, count
		return l
	}
	for _, branch := range []bool{flags == pageBranch, flags != pageBranch} {
		for _, n := range []int{count, tableSize(data, branch)} {
			if end, ok := chained(data, branch, n, most); ok && n > 0 {
				l.branch, l.count, l.size = branch, n, pagesFor(end)
				l.faults = append(l.faults, "has a damaged header")
				return l
			}
		}
	}
	l.branch, l.count = flags == pageBranch, min(count, (len(data)-pageHeader)/pageElement)
	if flags != pageBranch && flags != pageLeaf {
		l.faults = append(l.faults, fmt.Sprintf("is of the unknown type %#x", flags))
	}
	return l
}

func pagesFor(bytes int) uint64 { return uint64(bytes+PageSize-1) / PageSize }

// tableSize is the number of elements by the place of the first one's key.
func tableSize(data []byte, branch bool) int {
	if len(data) < pageHeader+pageElement {
		return 0
	}
	first := data[pageHeader:]
	if !branch {
		first = first[4:]
	}
	return int(binary.NativeEndian.Uint32(first)) / pageElement
}

// chained reports whether keys and values follow the table and each other
// without a gap, and where they end.
func chained(data []byte, branch bool, count, most int) (end int, ok bool) {
	end = pageHeader + count*pageElement
	if end > len(data) || count == 0 && (branch || tableSize(data, branch) != 0) {
		return 0, false
	}
	for i := range count {
		start, key, value := extent(data, branch, i)
		if start != end || key == 0 || start+key+value > most {
			return 0, false
		}
		end = start + key + value
	}
	return end, true
}

// supported reports whether the number of elements is borne out by the place of
// any of them, as it is when only some are damaged.
func supported(data []byte, branch bool, count int) bool {
	end := pageHeader + count*pageElement
	if end > len(data) {
		return false
	}
	for i := range count {
		start, key, value := extent(data, branch, i)
		if start == end {
			return true
		}
		end += key + value
	}
	return false
}

// extent is where an element says that its key begins, and how long key and
// value are.
func extent(data []byte, branch bool, i int) (start, key, value int) {
	at := pageHeader + i*pageElement
	field := func(n int) int { return int(binary.NativeEndian.Uint32(data[at+4*n:])) }
	if branch {
		return at + field(0), field(1), 0
	}
	return at + field(1), field(2), field(3)
}

// element returns an element's key and value, if they lie within the page.
func (l *layout) element(i int) (key, value []byte, ok bool) {
	start, k, v := extent(l.data, l.branch, i)
	if k == 0 || start < pageHeader+l.count*pageElement || start+k+v > len(l.data) {
		return nil, nil, false
	}
	return l.data[start : start+k], l.data[start+k : start+k+v], true
}

// fits reports whether an element lies between its neighbours without a gap.
// Of the last one only where it begins can be told.
func (l *layout) fits(i int) bool {
	start, key, value := extent(l.data, l.branch, i)
	before := pageHeader + l.count*pageElement
	if i > 0 {
		s, k, v := extent(l.data, l.branch, i-1)
		before = s + k + v
	}
	if start != before {
		return false
	}
	if i+1 == l.count {
		return true
	}
	next, _, _ := extent(l.data, l.branch, i+1)
	return start+key+value == next
}

// orderly reports whether the keys are where they should be, ascending and in
// [from, to).
func (l *layout) orderly(from, to []byte) bool {
	var last []byte
	for i := range l.count {
		key, _, ok := l.element(i)
		if !ok || !l.fits(i) || i > 0 && bytes.Compare(key, last) <= 0 || bytes.Compare(key, from) < 0 || to != nil && bytes.Compare(key, to) >= 0 {
			return false
		}
		last = key
	}
	return true
}

// mend puts one wrong byte of an element's lengths and place right, if the
// test can tell.
func (l *layout) mend(i int, right func() bool) bool {
	at := pageHeader + i*pageElement
	return mend(l.data[at+4:at+pageElement], right)
}

// flags and child are an element's other fields: of a leaf, and of a branch.
func (l *layout) flags(i int) uint32 {
	return binary.NativeEndian.Uint32(l.data[pageHeader+i*pageElement:])
}

func (l *layout) child(i int) uint64 {
	return binary.NativeEndian.Uint64(l.data[pageHeader+i*pageElement+8:])
}

// bounds returns the keys between which those of a branch's child lie; nil is
// no bound. A key that is not in its place is none.
func (l *layout) bounds(i int, from, to []byte) (low, high []byte) {
	low, high = from, to
	for j := i; j >= 0; j-- {
		if key, _, ok := l.element(j); ok && l.fits(j) && bytes.Compare(key, from) >= 0 {
			low = key
			break
		}
	}
	for j := i + 1; j < l.count; j++ {
		if key, _, ok := l.element(j); ok && l.fits(j) && (to == nil || bytes.Compare(key, to) < 0) {
			high = key
			break
		}
	}
	return low, high
}
