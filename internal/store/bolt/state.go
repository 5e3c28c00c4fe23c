package bolt

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"go.etcd.io/bbolt"

	"github.com/skiff-sh/skiff/internal/store"
)

// progress says how far revisions have come: the last one on disk, and the one
// beyond which none was handed out. And which buckets there are, what they hold,
// and which transaction says so: the tree of buckets has no checksums, and any
// of its pages may be one of the past.
type progress struct {
	revision, reserved store.Revision
	buckets            tally
	tx                 uint64
}

const (
	progressFormat = 1
	progressBytes  = 1 + 8 + 8 + 8 + 8 + 4
)

func (p progress) encode() []byte {
	b := []byte{progressFormat}
	b = binary.BigEndian.AppendUint64(b, uint64(p.revision))
	b = binary.BigEndian.AppendUint64(b, uint64(p.reserved))
	b = binary.BigEndian.AppendUint64(b, uint64(p.buckets))
	b = binary.BigEndian.AppendUint64(b, p.tx)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeProgress(b []byte) (progress, error) {
	p, whole := scanProgress(b)
	switch {
	case whole && b[0] == progressFormat:
		return p, nil
	case !whole && len(b) > 0 && b[0] > progressFormat && b[0] < 32:
		return p, fmt.Errorf("its format is %d, this program knows %d; use the version of skiff that wrote it", b[0], progressFormat)
	}
	return p, fmt.Errorf("%w: its last revision cannot be read; "+goOn, store.ErrDamaged)
}

// scanProgress reads a state as far as it is whole. The checksum tells a format
// of the future from a damaged byte.
func scanProgress(b []byte) (p progress, whole bool) {
	if len(b) != progressBytes {
		return p, false
	}
	sum := crc32.Checksum([]byte{progressFormat}, castagnoli)
	if crc32.Update(sum, castagnoli, b[1:progressBytes-4]) != binary.BigEndian.Uint32(b[progressBytes-4:]) {
		return p, false
	}
	p.revision = store.Revision(binary.BigEndian.Uint64(b[1:]))
	p.reserved = store.Revision(binary.BigEndian.Uint64(b[9:]))
	p.buckets = tally(binary.BigEndian.Uint64(b[17:]))
	p.tx = binary.BigEndian.Uint64(b[25:])
	return p, true
}

// readState returns what a transaction found.
func readState(tx *bbolt.Tx) (progress, error) {
	meta := tx.Bucket([]byte(metaBucket))
	if meta == nil {
		return progress{}, fmt.Errorf("%w: it has records but not their last revision; "+goOn, store.ErrDamaged)
	}
	return decodeProgress(meta.Get([]byte(metaState)))
}

// writeState notes it as of the transaction.
func writeState(tx *bbolt.Tx, p progress) error {
	p.tx = uint64(tx.ID())
	return tx.Bucket([]byte(metaBucket)).Put([]byte(metaState), p.encode())
}

// verifyState reads the state for a reading transaction, and finds out whether
// the tree of buckets, of which it is a part itself, is all of that transaction.
func verifyState(tx *bbolt.Tx) (progress, error) {
	p, err := readState(tx)
	if err != nil {
		return p, err
	}
	if p.tx != uint64(tx.ID()) {
		return p, fmt.Errorf("%w: what it says of itself is of transaction %d, the last one is %d; "+goOn, store.ErrDamaged, p.tx, tx.ID())
	}
	have, err := tallyBuckets(tx)
	if err == nil && have != p.buckets {
		err = fmt.Errorf("%w: its buckets are not those that it should have; "+goOn, store.ErrDamaged)
	}
	return p, err
}
