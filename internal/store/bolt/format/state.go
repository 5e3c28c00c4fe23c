package format

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/skiff-sh/skiff/internal/store"
)

// State says how far revisions have come: the last one on disk, and the one
// beyond which none was handed out. And which buckets there are, what they hold,
// and which transaction says so: the tree of buckets has no checksums, and any
// of its pages may be one of the past.
type State struct {
	Revision, Reserved store.Revision
	Buckets            Tally  // of TallyBucket
	Tx                 uint64 // bbolt's number of the transaction that wrote it
}

// Version is the format that this package reads and writes: the first byte of a
// State, which has StateBytes.
const (
	Version    = 1
	StateBytes = 1 + 8 + 8 + 8 + 8 + 4
)

// Encode returns the stored form.
func (p State) Encode() []byte {
	b := []byte{Version}
	b = binary.BigEndian.AppendUint64(b, uint64(p.Revision))
	b = binary.BigEndian.AppendUint64(b, uint64(p.Reserved))
	b = binary.BigEndian.AppendUint64(b, uint64(p.Buckets))
	b = binary.BigEndian.AppendUint64(b, p.Tx)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// DecodeState reads the stored form. The error is an ErrDamaged, or says that
// a later version of the program wrote it.
func DecodeState(b []byte) (State, error) {
	p, whole := scanState(b)
	switch {
	case whole && b[0] == Version:
		return p, nil
	case !whole && len(b) > 0 && b[0] > Version && b[0] < 32:
		return p, fmt.Errorf("its format is %d, this program knows %d; use the version of skiff that wrote it", b[0], Version)
	}
	return p, fmt.Errorf("%w: its last revision cannot be read; "+GoOn, store.ErrDamaged)
}

// scanState reads a state as far as it is whole. The checksum tells a format
// of the future from a damaged byte.
func scanState(b []byte) (p State, whole bool) {
	if len(b) != StateBytes {
		return p, false
	}
	sum := crc32.Checksum([]byte{Version}, castagnoli)
	if crc32.Update(sum, castagnoli, b[1:StateBytes-4]) != binary.BigEndian.Uint32(b[StateBytes-4:]) {
		return p, false
	}
	p.Revision = store.Revision(binary.BigEndian.Uint64(b[1:]))
	p.Reserved = store.Revision(binary.BigEndian.Uint64(b[9:]))
	p.Buckets = Tally(binary.BigEndian.Uint64(b[17:]))
	p.Tx = binary.BigEndian.Uint64(b[25:])
	return p, true
}
