// Package format is the store's file, and a reader of it that takes nothing for
// granted.
//
// Header, Tally and State are what skiff itself writes into a bbolt file. Reader
// finds them again page by page without bbolt, which panics over damage: it tells
// what is damaged, and puts right what checksums prove. Walk is for the start of
// every server: are the pages such that bbolt can be let loose on them? The
// invariant: of a damaged file no record comes out that was not written, and none
// is missing without a word. This package never writes, but for a meta page that
// can be told from the rest.
//
// # The file
//
// Each bucket of the store is a top-level bbolt bucket named "b/" + its name.
// A value is a record, integers big-endian:
//
//	byte  0      format version, 1
//	byte  1      flags: bit 0 lazy, bits 4–7 how the value is transformed (0: not at all)
//	bytes 2–9    revision
//	bytes 10–13  CRC32C over bucket, 0, name, bytes 0–9, value
//	bytes 14–    value
//
// The sequence number of a bbolt bucket, which costs nothing to keep, says what
// the bucket holds: its upper 24 bits are the number of records (modulo 2^24),
// its lower 40 bits the sum of the records' fingerprints (each derived from
// revision and checksum). A scan compares, so that a lost record cannot pass
// unnoticed.
//
// The bucket "meta" has "state": format (1 byte, 1), the last revision on disk
// (8), the one beyond which none has been handed out (8), number and
// fingerprints of the buckets (8; of a bucket the name and the sequence number),
// the number of the transaction (8), and the CRC32C of these (4). So with the
// state nothing of the tree of buckets, which has no checksums, can be of the
// past.
// The revisions are equal after a clean Close. When they are not, the process
// ended early: revisions go on behind the second one, and every record that may
// have been written lazily since is stamped with a fresh revision. The bucket
// "lazy" lists those records by bucket, 0, name, under a sequence number of the
// same kind.
package format

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/skiff-sh/skiff/internal/store"
)

const (
	recordFormat = 1
	HeaderBytes  = 14

	FlagLazy      = 1 << 0
	flagTransform = 0xf0
)

// castagnoli is constant: the polynomial that processors have an instruction for.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Header is the front of a stored record.
type Header struct {
	Flags    byte
	Revision store.Revision
	Checksum uint32
	Size     int // of the whole record
}

// EncodeRecord returns the stored form of a value.
func EncodeRecord(key store.Key, flags byte, revision store.Revision, value []byte) []byte {
	record := make([]byte, HeaderBytes+len(value))
	record[0] = recordFormat
	record[1] = flags
	binary.BigEndian.PutUint64(record[2:], uint64(revision))
	copy(record[HeaderBytes:], value)
	binary.BigEndian.PutUint32(record[10:], checksum(key, record))
	return record
}

// ReadHeader reads a record's front without looking at the value.
func ReadHeader(key store.Key, record []byte) (Header, error) {
	if len(record) < HeaderBytes {
		return Header{}, damaged(key, fmt.Sprintf("its record has %d bytes, fewer than a header", len(record)))
	}
	if record[0] != recordFormat {
		return Header{}, damaged(key, fmt.Sprintf("its record has format %d, this program knows %d", record[0], recordFormat))
	}
	return Header{
		Flags:    record[1],
		Revision: store.Revision(binary.BigEndian.Uint64(record[2:])),
		Checksum: binary.BigEndian.Uint32(record[10:]),
		Size:     len(record),
	}, nil
}

// VerifyRecord reads a record's front and checks that all of it is as written.
func VerifyRecord(key store.Key, record []byte) (Header, error) {
	h, err := ReadHeader(key, record)
	if err != nil {
		return h, err
	}
	if got := checksum(key, record); got != h.Checksum {
		return h, damaged(key, fmt.Sprintf("its checksum is %08x, expected %08x", got, h.Checksum))
	}
	return h, nil
}

// DecodeRecord verifies a record and returns its header and a copy of its value.
func DecodeRecord(key store.Key, record []byte) (Header, []byte, error) {
	h, err := VerifyRecord(key, record)
	if err != nil {
		return h, nil, err
	}
	if h.Flags&flagTransform != 0 {
		return h, nil, damaged(key, fmt.Sprintf("its value is transformed in way %d, which this program does not know", h.Flags>>4))
	}
	value := make([]byte, len(record)-HeaderBytes)
	copy(value, record[HeaderBytes:])
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
	return crc32.Update(sum, castagnoli, record[HeaderBytes:])
}
