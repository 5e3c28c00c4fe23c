package bolt

import (
	"bytes"
	"context"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt/format"
)

// Scan implements store.Engine. fn must not Commit: while the scan is open, a
// transaction that makes the file grow may have to wait for it.
//
// A record that is not what was written, and a bucket that does not hold what
// it should, are a store.ErrDamaged that names them.
func (e *Engine) Scan(ctx context.Context, bucket string, fn func(store.Record) error) error {
	s := &scan{bucket: bucket}
	e.mu.RLock()
	db, tx, err := e.begin()
	s.tx, s.lazy = tx, e.pending.inBucket(bucket)
	e.mu.RUnlock()
	if err != nil {
		return fmt.Errorf("scan %s: %w", bucket, err)
	}
	defer db.undo(tx)
	for n := 0; ; n++ {
		if n%256 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		var record store.Record
		var ok bool
		err := guard(func() (err error) {
			record, ok, err = s.next()
			return err
		})
		if err != nil {
			return fmt.Errorf("scan %s: %w", bucket, err)
		}
		if !ok {
			return nil
		}
		if err := fn(record); err != nil {
			return err
		}
	}
}

// scan merges a bucket's records on disk with the lazy ones in memory.
type scan struct {
	bucket string
	tx     *bbolt.Tx
	cursor *bbolt.Cursor // nil before the first record, and when there is no bucket
	begun  bool
	want   format.Tally
	have   format.Tally
	name   []byte // the record under the cursor, nil at the end
	value  []byte
	lazy   []*lazyWrite
}

// next returns the record with the lowest name that has not been returned.
func (s *scan) next() (store.Record, bool, error) {
	if !s.begun {
		s.begin()
	}
	for {
		if len(s.lazy) > 0 && (s.name == nil || bytes.Compare([]byte(s.lazy[0].key.Name), s.name) <= 0) {
			w := s.lazy[0]
			s.lazy = s.lazy[1:]
			if s.name != nil && w.key.Name == string(s.name) {
				if _, err := s.fromDisk(); err != nil {
					return store.Record{}, false, err
				}
			}
			if !w.deleted {
				return store.Record{Key: w.key, Revision: w.revision, Value: bytes.Clone(w.value)}, true, nil
			}
			continue
		}
		if s.name == nil {
			if s.have != s.want {
				return store.Record{}, false, fmt.Errorf("%w: bucket %s holds %d records or others than the %d it should; "+format.GoOn,
					store.ErrDamaged, s.bucket, s.have.Count(), s.want.Count())
			}
			return store.Record{}, false, nil
		}
		record, err := s.fromDisk()
		return record, err == nil, err
	}
}

// begin finds the first record on disk.
func (s *scan) begin() {
	s.begun = true
	b := s.tx.Bucket([]byte(format.BucketPrefix + s.bucket))
	if b == nil {
		return
	}
	s.want = format.Tally(b.Sequence())
	s.cursor = b.Cursor()
	s.name, s.value = s.cursor.First()
}

// fromDisk returns the record under the cursor and goes on to the next.
func (s *scan) fromDisk() (store.Record, error) {
	key := store.Key{Bucket: s.bucket, Name: string(s.name)}
	h, value, err := format.DecodeRecord(key, s.value)
	if err != nil {
		return store.Record{}, err
	}
	s.have = s.have.Add(h)
	s.name, s.value = s.cursor.Next()
	return store.Record{Key: key, Revision: h.Revision, Value: value}, nil
}
