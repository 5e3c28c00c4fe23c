package bolt

import (
	"errors"
	"os"

	"go.etcd.io/bbolt"

	"github.com/skiff-sh/skiff/internal/store"
)

// copyBytes is how much is copied in one step: little, so that writers who sync
// beside it hardly wait for it.
const copyBytes = 1 << 20

// createCopy makes the file that records are copied to, in the place of one that
// was left. Whoever copies syncs it.
func createCopy(path string) (to *database, err error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	err = guard(func() (err error) {
		to, err = openDatabase(path, true)
		return err
	})
	if err != nil {
		return nil, diskError(err)
	}
	to.NoGrowSync = true
	if err := to.Update(layOut); err != nil {
		to.Close()
		os.Remove(path)
		return nil, diskError(err)
	}
	return to, nil
}

// appendTo runs a transaction in which records come in their order.
func appendTo(to *database, fn func(*keyspace) error) error {
	tx, err := to.begin(true)
	if err != nil {
		return err
	}
	defer to.undo(tx)
	space := newKeyspace(tx)
	space.fill = fullFill
	if err := fn(space); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return diskError(err)
	}
	return nil
}

// copier goes through the records of a file.
type copier struct {
	at  store.Key // the last record that was copied; the next ones are behind it
	end bool      // there are none
}

// errPiece ends a piece.
var errPiece = errors.New("enough for now")

// advance copies the next records in order, and the buckets that they are in.
func (c *copier) advance(from *bbolt.Tx, to *keyspace, copyOne func(store.Key, []byte) error) error {
	if c.end {
		return nil
	}
	size := 0
	err := eachBucket(from, func(bucket string, b *bbolt.Bucket) error {
		if bucket < c.at.Bucket {
			return nil
		}
		if _, err := to.ensure(bucket); err != nil {
			return err
		}
		cursor := b.Cursor()
		name, record := cursor.First()
		if bucket == c.at.Bucket {
			if name, record = cursor.Seek([]byte(c.at.Name)); string(name) == c.at.Name {
				name, record = cursor.Next()
			}
		}
		for ; name != nil; name, record = cursor.Next() {
			if size > copyBytes {
				return errPiece
			}
			c.at = store.Key{Bucket: bucket, Name: string(name)}
			if err := copyOne(c.at, record); err != nil {
				return err
			}
			size += len(name) + len(record)
		}
		return nil
	})
	if errors.Is(err, errPiece) {
		return nil
	}
	c.end = err == nil
	return err
}
