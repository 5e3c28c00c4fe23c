package bolt

import (
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/skiff-sh/skiff/internal/store"
)

// recover reads how far revisions have come; it lays out a new file, and stamps
// lazy records afresh after an unclean stop.
func (e *Engine) recover() error {
	var last, reserved store.Revision
	var fresh bool
	err := e.db.View(func(tx *bbolt.Tx) error {
		meta := tx.Bucket([]byte(metaBucket))
		if fresh = meta == nil; fresh {
			return nil
		}
		format, err := number(meta, metaFormat)
		if err != nil {
			return err
		}
		if format != storageFormat {
			return fmt.Errorf("its format is %d, this program knows %d: use the version of skiff that wrote it", format, storageFormat)
		}
		r, err := number(meta, metaRevision)
		if err != nil {
			return err
		}
		v, err := number(meta, metaReserved)
		last, reserved = store.Revision(r), store.Revision(v)
		return err
	})
	if err != nil {
		return err
	}
	if fresh {
		return diskErrorOrNil(e.db.Update(layOut))
	}
	e.revision, e.reserved = reserved, reserved
	if last != reserved {
		if err := e.restamp(); err != nil {
			return err
		}
	}
	e.published.Store(int64(e.revision))
	return nil
}

// layOut makes what every file has.
func layOut(tx *bbolt.Tx) error {
	meta, err := tx.CreateBucketIfNotExists([]byte(metaBucket))
	if err != nil {
		return err
	}
	if _, err := tx.CreateBucketIfNotExists([]byte(lazyBucket)); err != nil {
		return err
	}
	if err := putNumber(meta, metaFormat, storageFormat); err != nil {
		return err
	}
	return newKeyspace(tx).seal(0, 0)
}

// restamp gives every record that may have been written lazily a revision that
// nobody has seen: a newer value under a revision in between may have been
// lost, and no client may take the old value for what it knew.
func (e *Engine) restamp() error {
	revision := e.revision
	err := e.db.Update(func(tx *bbolt.Tx) error {
		space := newKeyspace(tx)
		keys, err := space.listed()
		if err != nil {
			return err
		}
		for _, key := range keys {
			b := space.bucket(key.Bucket)
			if b.Bucket == nil {
				continue
			}
			_, value, err := decodeRecord(key, b.Get([]byte(key.Name)))
			if err != nil {
				// The scan that follows names it.
				continue
			}
			revision++
			if err := space.put(key, true, revision, value); err != nil {
				return err
			}
		}
		return space.seal(revision, revision+store.Revision(e.options.Reserve))
	})
	if err != nil {
		return diskError(err)
	}
	e.revision, e.reserved = revision, revision+store.Revision(e.options.Reserve)
	return nil
}

func diskErrorOrNil(err error) error {
	if err == nil {
		return nil
	}
	return diskError(err)
}
