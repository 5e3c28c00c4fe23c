package bolt

import (
	"bytes"
	"fmt"
	"strings"

	"go.etcd.io/bbolt"

	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt/format"
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
	tally         format.Tally
	changed       bool
	created       bool
}

func newKeyspace(tx *bbolt.Tx) *keyspace {
	return &keyspace{tx: tx, open: map[string]*openBucket{}, fill: usualFill}
}

func (s *keyspace) bucket(name string) *openBucket {
	b, ok := s.open[name]
	if !ok {
		b = &openBucket{Bucket: s.tx.Bucket([]byte(format.BucketPrefix + name))}
		if b.Bucket != nil {
			b.tally = format.Tally(b.Sequence())
			b.FillPercent = s.fill
		}
		s.open[name] = b
	}
	return b
}

// header returns the header of a key's record, nil when there is none.
func (s *keyspace) header(key store.Key) (*format.Header, error) {
	b := s.bucket(key.Bucket)
	if b.Bucket == nil {
		return nil, nil
	}
	record := b.Get([]byte(key.Name))
	if record == nil {
		return nil, nil
	}
	h, err := format.ReadHeader(key, record)
	return &h, err
}

// put writes a record in the place of old, if there is one. One that was ever
// written lazily stays listed as such until it is deleted.
func (s *keyspace) put(key store.Key, old *format.Header, lazy bool, revision store.Revision, value []byte) error {
	var flags byte
	if lazy || old != nil && old.Flags&format.FlagLazy != 0 {
		flags = format.FlagLazy
	}
	record := format.EncodeRecord(key, flags, revision, value)
	h, _ := format.ReadHeader(key, record)
	return s.replace(key, old, h, record)
}

// adopt takes over a record that was read from another file, once it is found
// to be whole.
func (s *keyspace) adopt(key store.Key, record []byte) error {
	h, err := format.VerifyRecord(key, record)
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
func (s *keyspace) replace(key store.Key, old *format.Header, h format.Header, record []byte) error {
	b, err := s.ensure(key.Bucket)
	if err != nil {
		return err
	}
	if err := b.Put([]byte(key.Name), record); err != nil {
		return err
	}
	listed := old != nil && old.Flags&format.FlagLazy != 0
	switch {
	case h.Flags&format.FlagLazy != 0 && !listed:
		err = s.list(key)
	case h.Flags&format.FlagLazy == 0 && listed:
		err = s.unlist(key)
	}
	if old != nil {
		b.tally = b.tally.Remove(*old)
	}
	b.tally, b.changed = b.tally.Add(h), true
	return err
}

// ensure returns a bucket, which it creates when there is none.
func (s *keyspace) ensure(name string) (*openBucket, error) {
	b := s.bucket(name)
	if b.Bucket != nil {
		return b, nil
	}
	var err error
	if b.Bucket, err = s.tx.CreateBucket([]byte(format.BucketPrefix + name)); err != nil {
		return nil, err
	}
	b.FillPercent, b.created = s.fill, true
	return b, nil
}

// remove deletes the record whose header is old; nothing when that is nil.
func (s *keyspace) remove(key store.Key, old *format.Header) error {
	if old == nil {
		return nil
	}
	b := s.bucket(key.Bucket)
	if err := b.Delete([]byte(key.Name)); err != nil {
		return err
	}
	b.tally, b.changed = b.tally.Remove(*old), true
	if old.Flags&format.FlagLazy != 0 {
		return s.unlist(key)
	}
	return nil
}

// list adds a key to those that may have been written lazily.
func (s *keyspace) list(key store.Key) error {
	lazy := s.lazyList()
	lazy.tally, lazy.changed = lazy.tally.Add(format.ListedHeader(key)), true
	return lazy.Put(format.ListedKey(key), nil)
}

// unlist takes a key off again.
func (s *keyspace) unlist(key store.Key) error {
	lazy := s.lazyList()
	lazy.tally, lazy.changed = lazy.tally.Remove(format.ListedHeader(key)), true
	return lazy.Delete(format.ListedKey(key))
}

func (s *keyspace) lazyList() *openBucket {
	if s.lazy == nil {
		b := s.tx.Bucket([]byte(format.LazyBucket))
		s.lazy = &openBucket{Bucket: b, tally: format.Tally(b.Sequence())}
	}
	return s.lazy
}

// listed returns the keys of all records that may have been written lazily.
func (s *keyspace) listed() ([]store.Key, error) {
	var keys []store.Key
	var have format.Tally
	lazy := s.lazyList()
	err := lazy.ForEach(func(k, _ []byte) error {
		bucket, name, _ := bytes.Cut(k, []byte{0})
		key := store.Key{Bucket: string(bucket), Name: string(name)}
		keys, have = append(keys, key), have.Add(format.ListedHeader(key))
		return nil
	})
	if err == nil && have != lazy.tally {
		err = fmt.Errorf("%w: the list of lazy records is not what it should be; "+format.GoOn, store.ErrDamaged)
	}
	return keys, err
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
	return writeState(s.tx, format.State{Revision: revision, Reserved: reserved, Buckets: before.Buckets.Plus(changed)})
}

// sealBuckets notes what the buckets hold, and returns by how much that changes
// the tally of all buckets.
func (s *keyspace) sealBuckets() (changed format.Tally, err error) {
	for name, b := range s.open {
		t, err := b.seal(format.BucketPrefix + name)
		if err != nil {
			return 0, err
		}
		changed = changed.Plus(t)
	}
	if s.lazy != nil {
		t, err := s.lazy.seal(format.LazyBucket)
		return changed.Plus(t), err
	}
	return changed, nil
}

// seal notes what the bucket of that name in the file holds.
func (b *openBucket) seal(name string) (changed format.Tally, err error) {
	if !b.changed && !b.created {
		return 0, nil
	}
	changed = format.TallyBucket([]byte(name), b.tally)
	if !b.created {
		changed = changed.Minus(format.TallyBucket([]byte(name), format.Tally(b.Sequence())))
	}
	b.changed, b.created = false, false
	return changed, b.SetSequence(uint64(b.tally))
}

// tallyBuckets is the tally of all buckets.
func tallyBuckets(tx *bbolt.Tx) (t format.Tally, err error) {
	err = tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
		if b == nil {
			return fmt.Errorf("%w: it has a record among its buckets; "+format.GoOn, store.ErrDamaged)
		}
		t = t.Plus(format.TallyBucket(name, format.Tally(b.Sequence())))
		return nil
	})
	return t, err
}

// eachBucket calls fn for the buckets of the store in order.
func eachBucket(tx *bbolt.Tx, fn func(name string, b *bbolt.Bucket) error) error {
	return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
		bucket, ok := strings.CutPrefix(string(name), format.BucketPrefix)
		if !ok {
			return nil
		}
		return fn(bucket, b)
	})
}

// readState returns what a transaction found.
func readState(tx *bbolt.Tx) (format.State, error) {
	meta := tx.Bucket([]byte(format.MetaBucket))
	if meta == nil {
		return format.State{}, fmt.Errorf("%w: it has records but not their last revision; "+format.GoOn, store.ErrDamaged)
	}
	return format.DecodeState(meta.Get([]byte(format.MetaState)))
}

// writeState notes it as of the transaction.
func writeState(tx *bbolt.Tx, p format.State) error {
	p.Tx = uint64(tx.ID())
	return tx.Bucket([]byte(format.MetaBucket)).Put([]byte(format.MetaState), p.Encode())
}

// verifyState reads the state for a reading transaction, and finds out whether
// the tree of buckets, of which it is a part itself, is all of that transaction.
func verifyState(tx *bbolt.Tx) (format.State, error) {
	p, err := readState(tx)
	if err != nil {
		return p, err
	}
	if p.Tx != uint64(tx.ID()) {
		return p, fmt.Errorf("%w: what it says of itself is of transaction %d, the last one is %d; "+format.GoOn, store.ErrDamaged, p.Tx, tx.ID())
	}
	have, err := tallyBuckets(tx)
	if err == nil && have != p.Buckets {
		err = fmt.Errorf("%w: its buckets are not those that it should have; "+format.GoOn, store.ErrDamaged)
	}
	return p, err
}
