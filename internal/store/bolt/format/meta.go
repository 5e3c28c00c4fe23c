package format

import (
	"encoding/binary"
	"hash/fnv"
)

// meta is what one of a file's first two pages says: where one state of the
// file begins. bbolt writes them in turn, so that of the state before the last
// one all is still there.
type meta struct {
	root uint64 // page of the tree of buckets
	free uint64 // page of the list of free pages
	high uint64 // pages from here on are not in use
	tx   uint64 // the transaction that wrote it
}

const (
	metaMagic    = 0xED0CDAED
	metaVersion  = 2
	metaRoot     = 16
	metaFree     = 32
	metaHigh     = 40
	metaTx       = 48
	metaChecksum = 56
	metaBytes    = 64

	noFreeList = ^uint64(0)
)

// decodeMeta reads a meta page from behind its header.
func decodeMeta(b []byte) (m meta, ok bool) {
	if len(b) < metaBytes || binary.NativeEndian.Uint32(b) != metaMagic || binary.NativeEndian.Uint32(b[4:]) != metaVersion ||
		binary.NativeEndian.Uint32(b[8:]) != PageSize || binary.NativeEndian.Uint64(b[metaChecksum:]) != sumMeta(b) {
		return meta{}, false
	}
	return meta{
		root: binary.NativeEndian.Uint64(b[metaRoot:]), free: binary.NativeEndian.Uint64(b[metaFree:]),
		high: binary.NativeEndian.Uint64(b[metaHigh:]), tx: binary.NativeEndian.Uint64(b[metaTx:]),
	}, true
}

// encode returns the page for one of the two places.
func (m meta) encode(slot int) []byte {
	page := make([]byte, PageSize)
	binary.NativeEndian.PutUint64(page, uint64(slot))
	binary.NativeEndian.PutUint16(page[8:], pageMeta)
	b := page[pageHeader:]
	binary.NativeEndian.PutUint32(b, metaMagic)
	binary.NativeEndian.PutUint32(b[4:], metaVersion)
	binary.NativeEndian.PutUint32(b[8:], PageSize)
	binary.NativeEndian.PutUint64(b[metaRoot:], m.root)
	binary.NativeEndian.PutUint64(b[metaFree:], m.free)
	binary.NativeEndian.PutUint64(b[metaHigh:], m.high)
	binary.NativeEndian.PutUint64(b[metaTx:], m.tx)
	binary.NativeEndian.PutUint64(b[metaChecksum:], sumMeta(b))
	return page
}

func sumMeta(b []byte) uint64 {
	sum := fnv.New64a()
	sum.Write(b[:metaChecksum])
	return sum.Sum64()
}

// metaSlot is one of the two pages as it was found.
type metaSlot struct {
	meta
	valid  bool
	mended bool // after one wrong byte was put right
}

// readMetas reads the first two pages. A byte that is wrong can be found by
// trying, since the checksum has 64 bits.
func readMetas(pages []byte) (slots [2]metaSlot) {
	for i := range slots {
		if len(pages) < (i+1)*PageSize {
			break
		}
		b := append([]byte(nil), pages[i*PageSize+pageHeader:][:metaBytes]...)
		s := &slots[i]
		if s.meta, s.valid = decodeMeta(b); s.valid {
			continue
		}
		s.mended = mend(b, func() bool {
			s.meta, s.valid = decodeMeta(b)
			return s.valid
		})
	}
	return slots
}

// newest returns the slot that bbolt would use if both were as they were
// written, -1 if there is none.
func newest(slots [2]metaSlot) int {
	at := -1
	for i, s := range slots {
		if s.valid && (at < 0 || s.tx > slots[at].tx) {
			at = i
		}
	}
	return at
}

// mend looks for one byte of b with another value of which the test says that
// all is right, and leaves it so.
func mend(b []byte, right func() bool) bool {
	for i, was := range b {
		for v := range 256 {
			if b[i] = byte(v); b[i] != was && right() {
				return true
			}
		}
		b[i] = was
	}
	return false
}
