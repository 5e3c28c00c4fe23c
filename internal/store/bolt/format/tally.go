package format

import (
	"hash/crc32"

	"github.com/skiff-sh/skiff/internal/store"
)

// The names in the file: BucketPrefix goes before that of each bucket of the
// store. MetaBucket has the State under the one name MetaState, LazyBucket the
// ListedKey of each record that was ever written lazily.
const (
	BucketPrefix = "b/"
	MetaBucket   = "meta"
	MetaState    = "state"
	LazyBucket   = "lazy"
)

// Tally is a bucket's number of records and the sum of their fingerprints,
// packed into a bbolt sequence number: 24 bits and 40.
type Tally uint64

const (
	tallyOne = Tally(1) << 40
	tallySum = tallyOne - 1
)

// Add and Remove account for one record. The two parts never carry into each
// other.
func (t Tally) Add(h Header) Tally {
	return (t+tallyOne) & ^tallySum | (t+fingerprint(h))&tallySum
}

func (t Tally) Remove(h Header) Tally {
	return (t&^tallySum - tallyOne) | (t-fingerprint(h))&tallySum
}

// Count is the number of records modulo 2^24.
func (t Tally) Count() uint64 { return uint64(t >> 40) }

// Plus and Minus account for many records at once.
func (t Tally) Plus(o Tally) Tally {
	return (t&^tallySum + o&^tallySum) | (t+o)&tallySum
}

func (t Tally) Minus(o Tally) Tally {
	return (t&^tallySum - o&^tallySum) | (t-o)&tallySum
}

// fingerprint spreads a record's revision and checksum over 64 bits
// (splitmix64's finalizer).
func fingerprint(h Header) Tally {
	x := uint64(h.Revision)<<32 ^ uint64(h.Revision)>>32 ^ uint64(h.Checksum)
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return Tally(x ^ x>>31)
}

// TallyBucket is what a bucket counts in the tally of all of them: its name and
// what it holds.
func TallyBucket(name []byte, holds Tally) Tally {
	return Tally(0).Add(Header{Revision: store.Revision(holds), Checksum: crc32.Checksum(name, castagnoli)})
}

// ListedKey is the name under which a record is listed as lazy.
func ListedKey(key store.Key) []byte {
	return append(append([]byte(key.Bucket), 0), key.Name...)
}

// ListedHeader stands for a listed key in the list's tally.
func ListedHeader(key store.Key) Header {
	return Header{Checksum: crc32.Checksum(ListedKey(key), castagnoli)}
}
