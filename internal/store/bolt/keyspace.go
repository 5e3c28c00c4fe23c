package bolt

import (
	"bytes"
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
}

type openBucket struct {
	*bbolt.Bucket // nil when it does not exist
	tally         tally
	changed       bool
	created       bool
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
	if b.Bucket, err = s.tx.CreateBucket([]byte(bucketPrefix + name)); err != nil {
		return nil, err
	}
	b.FillPercent, b.created = s.fill, true
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
	before, err := readState(s.tx)
	if err != nil {
		return err
	}
	changed, err := s.sealBuckets()
	if err != nil {
		return err
	}
	return writeState(s.tx, progress{revision: revision, reserved: reserved, buckets: before.buckets.plus(changed)})
}

// sealBuckets notes what the buckets hold, and returns by how much that changes
// the tally of all buckets.
func (s *keyspace) sealBuckets() (changed tally, err error) {
	for name, b := range s.open {
		t, err := b.seal(bucketPrefix + name)
		if err != nil {
			return 0, err
		}
		changed = changed.plus(t)
	}
	if s.lazy != nil {
		t, err := s.lazy.seal(lazyBucket)
		return changed.plus(t), err
	}
	return changed, nil
}

// seal notes what the bucket of that name in the file holds.
func (b *openBucket) seal(name string) (changed tally, err error) {
	if !b.changed && !b.created {
		return 0, nil
	}
	changed = tallyBucket([]byte(name), b.tally)
	if !b.created {
		changed = changed.minus(tallyBucket([]byte(name), tally(b.Sequence())))
	}
	b.changed, b.created = false, false
	return changed, b.SetSequence(uint64(b.tally))
}

// tallyBucket is what a bucket counts in the tally of all of them: its name and
// what it holds.
func tallyBucket(name []byte, holds tally) tally {
	return tally(0).add(header{revision: store.Revision(holds), checksum: crc32.Checksum(name, castagnoli)})
}

// tallyBuckets is the tally of all buckets.
func tallyBuckets(tx *bbolt.Tx) (t tally, err error) {
	err = tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
		if b == nil {
			return fmt.Errorf("%w: it has a record among its buckets; "+goOn, store.ErrDamaged)
		}
		t = t.plus(tallyBucket(name, tally(b.Sequence())))
		return nil
	})
	return t, err
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
