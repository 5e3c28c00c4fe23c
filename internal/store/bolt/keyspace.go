package bolt

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/skiff-sh/skiff/internal/store"
)

const bucketPrefix = "b/"

// metaBucket and the names in it, and the list of lazily written records.
const (
	metaBucket    = "meta"
	metaFormat    = "format"
	metaRevision  = "revision"
	metaReserved  = "reserved"
	lazyBucket    = "lazy"
	storageFormat = 1
)

// keyspace is the stored records as one bbolt transaction sees them.
type keyspace struct {
	tx   *bbolt.Tx
	open map[string]*openBucket
}

type openBucket struct {
	*bbolt.Bucket // nil when it does not exist
	tally         tally
	changed       bool
}

func newKeyspace(tx *bbolt.Tx) *keyspace {
	return &keyspace{tx: tx, open: map[string]*openBucket{}}
}

func (s *keyspace) bucket(name string) *openBucket {
	b, ok := s.open[name]
	if !ok {
		b = &openBucket{Bucket: s.tx.Bucket([]byte(bucketPrefix + name))}
		if b.Bucket != nil {
			b.tally = tally(b.Sequence())
		}
		s.open[name] = b
	}
	return b
}

// header returns the header of a key's record.
func (s *keyspace) header(key store.Key) (h header, ok bool, err error) {
	b := s.bucket(key.Bucket)
	if b.Bucket == nil {
		return header{}, false, nil
	}
	record := b.Get([]byte(key.Name))
	if record == nil {
		return header{}, false, nil
	}
	h, err = readHeader(key, record)
	return h, true, err
}

// put writes a record. One that was ever written lazily stays listed as such
// until it is deleted.
func (s *keyspace) put(key store.Key, lazy bool, revision store.Revision, value []byte) error {
	old, exists, err := s.header(key)
	if err != nil {
		return err
	}
	b := s.bucket(key.Bucket)
	if b.Bucket == nil {
		if b.Bucket, err = s.tx.CreateBucketIfNotExists([]byte(bucketPrefix + key.Bucket)); err != nil {
			return err
		}
	}
	var flags byte
	listed := exists && old.flags&flagLazy != 0
	if lazy || listed {
		flags = flagLazy
	}
	record := encodeRecord(key, flags, revision, value)
	if err := b.Put([]byte(key.Name), record); err != nil {
		return err
	}
	if lazy && !listed {
		if err := s.tx.Bucket([]byte(lazyBucket)).Put(listedKey(key), nil); err != nil {
			return err
		}
	}
	if exists {
		b.tally = b.tally.remove(old)
	}
	h, _ := readHeader(key, record)
	b.tally, b.changed = b.tally.add(h), true
	return nil
}

// remove deletes a record if it is there.
func (s *keyspace) remove(key store.Key) error {
	old, exists, err := s.header(key)
	if err != nil || !exists {
		return err
	}
	b := s.bucket(key.Bucket)
	if err := b.Delete([]byte(key.Name)); err != nil {
		return err
	}
	b.tally, b.changed = b.tally.remove(old), true
	if old.flags&flagLazy != 0 {
		return s.tx.Bucket([]byte(lazyBucket)).Delete(listedKey(key))
	}
	return nil
}

// seal notes what the buckets hold and how far revisions have come.
func (s *keyspace) seal(revision, reserved store.Revision) error {
	for _, b := range s.open {
		if !b.changed {
			continue
		}
		if err := b.SetSequence(uint64(b.tally)); err != nil {
			return err
		}
	}
	meta := s.tx.Bucket([]byte(metaBucket))
	if err := putNumber(meta, metaRevision, uint64(revision)); err != nil {
		return err
	}
	return putNumber(meta, metaReserved, uint64(reserved))
}

// listed returns the keys of all records that may have been written lazily.
func (s *keyspace) listed() ([]store.Key, error) {
	var keys []store.Key
	err := s.tx.Bucket([]byte(lazyBucket)).ForEach(func(k, _ []byte) error {
		bucket, name, ok := bytes.Cut(k, []byte{0})
		if !ok {
			return fmt.Errorf("%w: %q in the list of lazy records names no bucket; restore the last snapshot", store.ErrDamaged, k)
		}
		keys = append(keys, store.Key{Bucket: string(bucket), Name: string(name)})
		return nil
	})
	return keys, err
}

func listedKey(key store.Key) []byte {
	return append(append([]byte(key.Bucket), 0), key.Name...)
}

func putNumber(b *bbolt.Bucket, name string, n uint64) error {
	return b.Put([]byte(name), binary.BigEndian.AppendUint64(nil, n))
}

func number(b *bbolt.Bucket, name string) (uint64, error) {
	v := b.Get([]byte(name))
	if len(v) != 8 {
		return 0, fmt.Errorf("%w: its %s is missing; restore the last snapshot", store.ErrDamaged, name)
	}
	return binary.BigEndian.Uint64(v), nil
}
