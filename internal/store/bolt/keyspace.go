package bolt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"

	"go.etcd.io/bbolt"

	"github.com/skiff-sh/skiff/internal/store"
)

const bucketPrefix = "b/"

// metaBucket with its one name, and the list of lazily written records.
const (
	metaBucket = "meta"
	metaState  = "state"
	lazyBucket = "lazy"
)

// Where a page is split. Names that rise, as those of Events do, leave the first
// part as it is from then on: at bbolt's half, the file would be a third larger.
// Random names cost more writes when the first part is left nearly full.
const (
	usualFill = 0.65
	fullFill  = 1.0 // for records that come in their order
)

// keyspace is the stored records as one bbolt transaction sees them.
type keyspace struct {
	tx   *bbolt.Tx
	open map[string]*openBucket
	lazy *openBucket // nil before it is needed
	fill float64     // how much of a page is used when it is split
	// buckets is the tally of their names, once it is known and while none is
	// created.
	buckets *tally
}

type openBucket struct {
	*bbolt.Bucket // nil when it does not exist
	tally         tally
	changed       bool
}

func newKeyspace(tx *bbolt.Tx) *keyspace {
	return &keyspace{tx: tx, open: map[string]*openBucket{}, fill: usualFill}
}

func (s *keyspace) bucket(name string) *openBucket {
	b, ok := s.open[name]
	if !ok {
		b = &openBucket{Bucket: s.tx.Bucket([]byte(bucketPrefix + name))}
		if b.Bucket != nil {
			b.tally = tally(b.Sequence())
			b.FillPercent = s.fill
		}
		s.open[name] = b
	}
	return b
}

// header returns the header of a key's record, nil when there is none.
func (s *keyspace) header(key store.Key) (*header, error) {
	b := s.bucket(key.Bucket)
	if b.Bucket == nil {
		return nil, nil
	}
	record := b.Get([]byte(key.Name))
	if record == nil {
		return nil, nil
	}
	h, err := readHeader(key, record)
	return &h, err
}

// put writes a record in the place of old, if there is one. One that was ever
// written lazily stays listed as such until it is deleted.
func (s *keyspace) put(key store.Key, old *header, lazy bool, revision store.Revision, value []byte) error {
	var flags byte
	if lazy || old != nil && old.flags&flagLazy != 0 {
		flags = flagLazy
	}
	record := encodeRecord(key, flags, revision, value)
	h, _ := readHeader(key, record)
	return s.replace(key, old, h, record)
}

// adopt takes over a record that was read from another file, once it is found
// to be whole.
func (s *keyspace) adopt(key store.Key, record []byte) error {
	h, err := verifyRecord(key, record)
	if err != nil {
		return err
	}
	old, err := s.header(key)
	if err != nil {
		return err
	}
	return s.replace(key, old, h, record)
}

// replace writes a record in the place of the old one, if there is one.
func (s *keyspace) replace(key store.Key, old *header, h header, record []byte) error {
	b, err := s.ensure(key.Bucket)
	if err != nil {
		return err
	}
	if err := b.Put([]byte(key.Name), record); err != nil {
		return err
	}
	listed := old != nil && old.flags&flagLazy != 0
	switch {
	case h.flags&flagLazy != 0 && !listed:
		err = s.list(key)
	case h.flags&flagLazy == 0 && listed:
		err = s.unlist(key)
	}
	if old != nil {
		b.tally = b.tally.remove(*old)
	}
	b.tally, b.changed = b.tally.add(h), true
	return err
}

// ensure returns a bucket, which it creates when there is none.
func (s *keyspace) ensure(name string) (*openBucket, error) {
	b := s.bucket(name)
	if b.Bucket != nil {
		return b, nil
	}
	var err error
	s.buckets = nil
	if b.Bucket, err = s.tx.CreateBucketIfNotExists([]byte(bucketPrefix + name)); err != nil {
		return nil, err
	}
	b.FillPercent = s.fill
	return b, nil
}

// remove deletes the record whose header is old; nothing when that is nil.
func (s *keyspace) remove(key store.Key, old *header) error {
	if old == nil {
		return nil
	}
	b := s.bucket(key.Bucket)
	if err := b.Delete([]byte(key.Name)); err != nil {
		return err
	}
	b.tally, b.changed = b.tally.remove(*old), true
	if old.flags&flagLazy != 0 {
		return s.unlist(key)
	}
	return nil
}

// list adds a key to those that may have been written lazily.
func (s *keyspace) list(key store.Key) error {
	lazy := s.lazyList()
	lazy.tally, lazy.changed = lazy.tally.add(listedHeader(key)), true
	return lazy.Put(listedKey(key), nil)
}

// unlist takes a key off again.
func (s *keyspace) unlist(key store.Key) error {
	lazy := s.lazyList()
	lazy.tally, lazy.changed = lazy.tally.remove(listedHeader(key)), true
	return lazy.Delete(listedKey(key))
}

func (s *keyspace) lazyList() *openBucket {
	if s.lazy == nil {
		b := s.tx.Bucket([]byte(lazyBucket))
		s.lazy = &openBucket{Bucket: b, tally: tally(b.Sequence())}
	}
	return s.lazy
}

// listed returns the keys of all records that may have been written lazily.
func (s *keyspace) listed() ([]store.Key, error) {
	var keys []store.Key
	var have tally
	lazy := s.lazyList()
	err := lazy.ForEach(func(k, _ []byte) error {
		bucket, name, _ := bytes.Cut(k, []byte{0})
		key := store.Key{Bucket: string(bucket), Name: string(name)}
		keys, have = append(keys, key), have.add(listedHeader(key))
		return nil
	})
	if err == nil && have != lazy.tally {
		err = fmt.Errorf("%w: the list of lazy records is not what it should be; "+goOn, store.ErrDamaged)
	}
	return keys, err
}

func listedKey(key store.Key) []byte {
	return append(append([]byte(key.Bucket), 0), key.Name...)
}

// listedHeader stands for a listed key in the list's tally.
func listedHeader(key store.Key) header {
	return header{checksum: crc32.Checksum(listedKey(key), castagnoli)}
}

// seal notes what the buckets hold and how far revisions have come.
func (s *keyspace) seal(revision, reserved store.Revision) error {
	if err := s.sealBuckets(); err != nil {
		return err
	}
	if s.buckets == nil {
		names := tallyBuckets(s.tx)
		s.buckets = &names
	}
	p := progress{revision, reserved, *s.buckets}
	return s.tx.Bucket([]byte(metaBucket)).Put([]byte(metaState), p.encode())
}

// sealBuckets notes what the buckets hold.
func (s *keyspace) sealBuckets() error {
	for _, b := range s.open {
		if err := b.seal(); err != nil {
			return err
		}
	}
	if s.lazy != nil {
		return s.lazy.seal()
	}
	return nil
}

// tallyBuckets is the tally over the names of all buckets.
func tallyBuckets(tx *bbolt.Tx) (t tally) {
	cursor := tx.Cursor()
	for name, _ := cursor.First(); name != nil; name, _ = cursor.Next() {
		t = t.add(header{checksum: crc32.Checksum(name, castagnoli)})
	}
	return t
}

// eachBucket calls fn for the buckets of the store in order.
func eachBucket(tx *bbolt.Tx, fn func(name string, b *bbolt.Bucket) error) error {
	return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
		bucket, ok := strings.CutPrefix(string(name), bucketPrefix)
		if !ok {
			return nil
		}
		return fn(bucket, b)
	})
}

func (b *openBucket) seal() error {
	if !b.changed {
		return nil
	}
	return b.SetSequence(uint64(b.tally))
}

// progress says how far revisions have come: the last one on disk, and the one
// beyond which none was handed out. And which buckets there are.
type progress struct {
	revision, reserved store.Revision
	buckets            tally
}

const (
	progressFormat = 1
	progressBytes  = 1 + 8 + 8 + 8 + 4
)

func (p progress) encode() []byte {
	b := []byte{progressFormat}
	b = binary.BigEndian.AppendUint64(b, uint64(p.revision))
	b = binary.BigEndian.AppendUint64(b, uint64(p.reserved))
	b = binary.BigEndian.AppendUint64(b, uint64(p.buckets))
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeProgress(b []byte) (p progress, err error) {
	whole := len(b) == progressBytes &&
		crc32.Checksum(b[:progressBytes-4], castagnoli) == binary.BigEndian.Uint32(b[progressBytes-4:])
	switch {
	case whole && b[0] == progressFormat:
		p.revision = store.Revision(binary.BigEndian.Uint64(b[1:]))
		p.reserved = store.Revision(binary.BigEndian.Uint64(b[9:]))
		p.buckets = tally(binary.BigEndian.Uint64(b[17:]))
		return p, nil
	case len(b) > 0 && b[0] > progressFormat && b[0] < 32:
		return p, fmt.Errorf("its format is %d, this program knows %d; use the version of skiff that wrote it", b[0], progressFormat)
	}
	return p, fmt.Errorf("%w: its last revision cannot be read; "+goOn, store.ErrDamaged)
}
