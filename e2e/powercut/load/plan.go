// Package load is what is written between two power cuts, and what may be found
// after one.
//
// A Plan and what was on disk decide all that each Writer commits, so that the
// host, which hears only how many commits were acknowledged and with which
// revisions, knows every byte. A Model is the host's: it hears acknowledgements,
// and judges what is found after a cut. The invariant it holds the store to:
// what was acknowledged is there, a commit is there in whole or not at all, and
// no revision is handed out twice; a lazy write may be missing until its window
// has passed.
//
// The package does no I/O.
package load

import (
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"time"

	"github.com/skiff-sh/skiff/internal/store"
)

// Plan is what the guest does in one boot.
type Plan struct {
	Seed    uint64
	Boot    int
	Writers int
	// Known is whether the store was open before: while it was being made, the
	// power may leave anything that can be opened.
	Known bool
	// Window and Reserve are the store's for lazy writes.
	Window  time.Duration
	Reserve int64
	// MountOptions are the disk's.
	MountOptions string
	// Beating has nearly all writes lazy, and the writers pause between them.
	Beating bool
	// Commits is how many each writer makes before the store is closed; 0: as
	// many as it can.
	Commits int
	// Compact and Snapshot have one made while the writers write.
	Compact, Snapshot bool
}

// Random returns a source of randomness that is a plan's own for a purpose.
func (p Plan) Random(purpose int) *rand.Rand {
	// Not a PCG: from neighbouring seeds, its first numbers are alike.
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[0:], p.Seed)
	binary.LittleEndian.PutUint64(seed[8:], uint64(p.Boot))
	binary.LittleEndian.PutUint64(seed[16:], uint64(purpose))
	return rand.New(rand.NewChaCha8(seed))
}

// Digest stands for a value.
type Digest uint64

// Absent is the digest of no value.
const Absent Digest = 0

// DigestOf returns a value's digest: its first bytes, which are its own, and the
// checksum of all.
func DigestOf(value []byte) Digest {
	if len(value) < 4 {
		return 1
	}
	return Digest(binary.LittleEndian.Uint32(value))<<32 | Digest(crc32.ChecksumIEEE(value)) | 1
}

// newValue returns a value that no other one equals, of a length as objects
// have it; some need several pages.
func newValue(random *rand.Rand) []byte {
	n := 100 + random.IntN(1400)
	switch random.IntN(10) {
	case 0, 1, 2:
		n = 1500 + random.IntN(3000)
	case 3:
		n = 4500 + random.IntN(16000)
	}
	value := make([]byte, n)
	word := random.Uint64()
	for i := 0; i+8 <= n; i += 8 {
		binary.LittleEndian.PutUint64(value[i:], word)
		word += 0x9e3779b97f4a7c15
	}
	return value
}

// Held is a record as it was found or acknowledged.
type Held struct {
	Digest   Digest
	Revision store.Revision
}
