package bolt

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/skiff-sh/skiff/internal/store"
)

const (
	recordFormat = 1
	headerBytes  = 14

	flagLazy      = 1 << 0
	flagTransform = 0xf0
)

// castagnoli is constant: the polynomial that processors have an instruction for.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// header is the front of a stored record.
type header struct {
	flags    byte
	revision store.Revision
	checksum uint32
	size     int // of the whole record
}

// encodeRecord returns the stored form of a value.
func encodeRecord(key store.Key, flags byte, revision store.Revision, value []byte) []byte {
	record := make([]byte, headerBytes+len(value))
	record[0] = recordFormat
	record[1] = flags
	binary.BigEndian.PutUint64(record[2:], uint64(revision))
	copy(record[headerBytes:], value)
	binary.BigEndian.PutUint32(record[10:], checksum(key, record))
	return record
}

// readHeader reads a record's front without looking at the value.
func readHeader(key store.Key, record []byte) (header, error) {
	if len(record) < headerBytes {
		return header{}, damaged(key, fmt.Sprintf("its record has %d bytes, fewer than a header", len(record)))
	}
	if record[0] != recordFormat {
		return header{}, damaged(key, fmt.Sprintf("its record has format %d, this program knows %d", record[0], recordFormat))
	}
	return header{
		flags:    record[1],
		revision: store.Revision(binary.BigEndian.Uint64(record[2:])),
		checksum: binary.BigEndian.Uint32(record[10:]),
		size:     len(record),
	}, nil
}

// verifyRecord reads a record's front and checks that all of it is as written.
func verifyRecord(key store.Key, record []byte) (header, error) {
	h, err := readHeader(key, record)
	if err != nil {
		return h, err
	}
	if got := checksum(key, record); got != h.checksum {
		return h, damaged(key, fmt.Sprintf("its checksum is %08x, expected %08x", got, h.checksum))
	}
	return h, nil
}

// decodeRecord verifies a record and returns its header and a copy of its value.
func decodeRecord(key store.Key, record []byte) (header, []byte, error) {
	h, err := verifyRecord(key, record)
	if err != nil {
		return h, nil, err
	}
	if h.flags&flagTransform != 0 {
		return h, nil, damaged(key, fmt.Sprintf("its value is transformed in way %d, which this program does not know", h.flags>>4))
	}
	value := make([]byte, len(record)-headerBytes)
	copy(value, record[headerBytes:])
	return h, value, nil
}

// checksum covers the key and all of the record but the checksum itself.
func checksum(key store.Key, record []byte) uint32 {
	var scratch [256]byte
	front := append(scratch[:0], key.Bucket...)
	front = append(front, 0)
	front = append(front, key.Name...)
	front = append(front, record[:10]...)
	sum := crc32.Update(0, castagnoli, front)
	return crc32.Update(sum, castagnoli, record[headerBytes:])
}

// tally is a bucket's number of records and the sum of their fingerprints,
// packed into a bbolt sequence number.
type tally uint64

const (
	tallyOne = tally(1) << 40
	tallySum = tallyOne - 1
)

// add and remove account for one record. The two parts never carry into each
// other.
func (t tally) add(h header) tally {
	return (t+tallyOne) & ^tallySum | (t+fingerprint(h))&tallySum
}

func (t tally) remove(h header) tally {
	return (t&^tallySum - tallyOne) | (t-fingerprint(h))&tallySum
}

func (t tally) count() uint64 { return uint64(t >> 40) }

// fingerprint spreads a record's revision and checksum over 64 bits
// (splitmix64's finalizer).
func fingerprint(h header) tally {
	x := uint64(h.revision)<<32 ^ uint64(h.revision)>>32 ^ uint64(h.checksum)
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return tally(x ^ x>>31)
}
