package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"

	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt/format"
)

// A file in an older format is read with what oldFormats says and written to a
// new one, which is read back as a whole before it takes the name. The old file
// stays beside it, as "store.db.format-" and its format, until the first clean
// stop. At each moment there is a whole file under the store's name, so that an
// upgrade that was cut off begins anew.

// oldFormat reads what an earlier version of this program wrote. Its buckets
// have the names that they have now.
type oldFormat struct {
	// progress reads the state in the bucket meta; its tally is not needed.
	progress func(state []byte) (format.State, error)
	// record verifies a record, and tells what was put, and if it was lazily.
	record func(key store.Key, record []byte) (lazy bool, revision store.Revision, value []byte, err error)
}

// oldFormats are by the first byte of the state. There has been one so far.
func oldFormats() map[byte]oldFormat { return nil }

const (
	upgradeSuffix = ".upgrade" // the directory in which the new file is made
	formatSuffix  = ".format-" // … and the old file
)

// upgrade brings the open file to the format of today, if it has an older one
// that is known.
func (e *Engine) upgrade(formats map[byte]oldFormat) error {
	var state []byte
	err := e.db.View(func(tx *bbolt.Tx) error {
		if meta := tx.Bucket([]byte(format.MetaBucket)); meta != nil {
			state = bytes.Clone(meta.Get([]byte(format.MetaState)))
		}
		return nil
	})
	if err != nil || len(state) == 0 {
		return err
	}
	old, known := formats[state[0]]
	if !known || state[0] == format.Version {
		return nil
	}
	if err := e.upgradeFrom(old, state); err != nil {
		return fmt.Errorf("upgrade it from format %d to %d: %w", state[0], format.Version, err)
	}
	return nil
}

func (e *Engine) upgradeFrom(old oldFormat, state []byte) error {
	found, err := old.progress(state)
	if err != nil {
		return err
	}
	dir := e.path + upgradeSuffix
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	upgraded := filepath.Join(dir, "store.db")
	if err := rewrite(e.db, upgraded, old, found); err != nil {
		return err
	}
	if err := verify(context.Background(), upgraded); err != nil {
		return err
	}
	if err := e.db.Close(); err != nil {
		return err
	}
	e.db = nil
	if err := keep(e.path, fmt.Sprint(e.path, formatSuffix, state[0])); err != nil {
		return err
	}
	if err := os.Rename(upgraded, e.path); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(e.path)); err != nil {
		return err
	}
	e.db, err = openDatabase(e.path, e.options.NoSync)
	return err
}

// rewrite copies all records to a new file.
func rewrite(from *database, path string, old oldFormat, found format.State) error {
	to, err := createCopy(path)
	if err != nil {
		return err
	}
	defer to.Close()
	var c copier
	for !c.end {
		err := from.View(func(tx *bbolt.Tx) error {
			return appendTo(to, func(space *keyspace) error {
				err := c.advance(tx, space, func(key store.Key, record []byte) error {
					lazy, revision, value, err := old.record(key, record)
					if err != nil {
						return err
					}
					return space.put(key, nil, lazy, revision, value)
				})
				if err != nil {
					return err
				}
				return space.seal(found.Revision, found.Reserved)
			})
		})
		if err != nil {
			return err
		}
	}
	return to.Sync()
}

// keep gives a file a second name; where there is no such thing, a copy.
func keep(path, kept string) error {
	if err := os.Remove(kept); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if os.Link(path, kept) == nil {
		return syncDir(filepath.Dir(kept))
	}
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	if err := writeSynced(context.Background(), kept, from); err != nil {
		return err
	}
	return syncDir(filepath.Dir(kept))
}

// dropOldFormats removes what keep has kept.
func dropOldFormats(path string) {
	kept, _ := filepath.Glob(path + formatSuffix + "*") // the pattern is right
	for _, old := range kept {
		_ = os.Remove(old) // the next stop tries again
	}
}
