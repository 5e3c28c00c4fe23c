package bolt

import (
	"path/filepath"

	"go.etcd.io/bbolt"

	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt/format"
)

// recover reads how far revisions have come; it lays out a new file, and stamps
// lazy records afresh after an unclean stop.
func (e *Engine) recover() error {
	var found format.State
	var fresh bool
	err := e.db.View(func(tx *bbolt.Tx) (err error) {
		if first, _ := tx.Cursor().First(); first == nil {
			fresh = true
			return nil
		}
		found, err = verifyState(tx)
		return err
	})
	if err != nil {
		return err
	}
	if fresh {
		return e.create()
	}
	e.revision, e.reserved = found.Reserved, found.Reserved
	if found.Revision != found.Reserved {
		if err := e.restamp(); err != nil {
			return err
		}
	}
	e.published.Store(int64(e.revision))
	return nil
}

// create lays out a new file, and sees to it that a power cut cannot take its
// name away.
func (e *Engine) create() error {
	if err := e.db.Update(layOut); err != nil {
		return diskError(err)
	}
	return syncDir(filepath.Dir(e.path))
}

// layOut makes what every file has.
func layOut(tx *bbolt.Tx) error {
	if _, err := tx.CreateBucketIfNotExists([]byte(format.MetaBucket)); err != nil {
		return err
	}
	if _, err := tx.CreateBucketIfNotExists([]byte(format.LazyBucket)); err != nil {
		return err
	}
	buckets, err := tallyBuckets(tx)
	if err != nil {
		return err
	}
	return writeState(tx, format.State{Buckets: buckets})
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
			_, value, err := format.DecodeRecord(key, b.Get([]byte(key.Name)))
			if err != nil {
				// The scan that follows names it.
				continue
			}
			old, err := space.header(key)
			if err != nil {
				return err
			}
			revision++
			if err := space.put(key, old, true, revision, value); err != nil {
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
