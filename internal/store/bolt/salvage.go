package bolt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt/format"
)

// salvageBytes is how much of the records one transaction of the new file takes.
const salvageBytes = 4 << 20

// Salvage copies all that is intact in the file at rest at from into a new store
// at to, which Open accepts, and tells fn of what is not. Records keep their
// revisions; new ones go on far behind all that can have been handed out, as
// after Restore. It fails when there is a file at to, which comes there whole or
// not at all, and says what the new file holds.
func Salvage(ctx context.Context, from, to string, fn func(store.Damage)) (format.Contents, error) {
	r, end, err := openReader(from, all(fn))
	if err != nil {
		return format.Contents{}, pathError("salvage", from, err)
	}
	defer end()
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return format.Contents{}, fmt.Errorf("salvage store %s: there is a file at %s already; move it away first", from, to)
	}
	c, err := salvage(ctx, r, to, func(temporary string) error { return os.Rename(temporary, to) })
	if err != nil {
		return format.Contents{}, pathError("salvage", from, err)
	}
	return c, nil
}

// SalvageInPlace puts what is intact in the place of the store at path, and keeps
// the damaged file under the name it returns.
func SalvageInPlace(ctx context.Context, path string, fn func(store.Damage)) (kept string, _ format.Contents, err error) {
	r, end, err := openReader(path, all(fn))
	if err != nil {
		return "", format.Contents{}, pathError("salvage", path, err)
	}
	defer end()
	kept = path + ".damaged-" + time.Now().UTC().Format("20060102T150405Z")
	c, err := salvage(ctx, r, path, func(temporary string) error {
		// At no time is there no store of that name: a server that starts would
		// make an empty one.
		if err := os.Link(path, kept); err != nil {
			return fmt.Errorf("keep the damaged file: %w; write to another file instead, with --output", err)
		}
		if err := os.Rename(temporary, path); err != nil {
			return errors.Join(err, os.Remove(kept))
		}
		return nil
	})
	if err != nil {
		return "", format.Contents{}, pathError("salvage", path, err)
	}
	return kept, c, nil
}

// salvage writes a new store beside to, which place then gives its name.
func salvage(ctx context.Context, r *format.Reader, to string, place func(temporary string) error) (format.Contents, error) {
	if err := r.Load(ctx); err != nil {
		return format.Contents{}, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(to), filepath.Base(to)+restoreSuffix) // Open removes what a crash leaves
	if err != nil {
		return format.Contents{}, err
	}
	defer os.RemoveAll(dir)
	temporary := filepath.Join(dir, "store.db")
	if err := guard(func() error { return writeNew(ctx, r, temporary) }); err != nil {
		return format.Contents{}, err
	}
	var wrong error
	c, err := Check(ctx, temporary, func(d store.Damage) { wrong = format.Damaged(d) })
	if err = errors.Join(err, wrong); err == nil && !maps.Equal(c.Buckets, r.Contents().Buckets) {
		err = errors.New("it is not what was copied; check the disk")
	}
	if err != nil {
		return format.Contents{}, fmt.Errorf("read back what was written: %w", err)
	}
	if err := place(temporary); err != nil {
		return format.Contents{}, err
	}
	return c, syncDir(filepath.Dir(to))
}

// writeNew makes the new file and brings it to disk.
func writeNew(ctx context.Context, r *format.Reader, path string) error {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, PageSize: pageSize, NoSync: true, NoGrowSync: true,
	})
	if err != nil {
		return diskError(err)
	}
	defer db.Close()
	w := &writer{db: db}
	err = w.fill(ctx, r)
	if w.tx != nil {
		_ = w.tx.Rollback()
	}
	if err == nil {
		err = db.Sync()
	}
	if err != nil {
		return diskError(err)
	}
	return nil
}

// writer fills a new store in transactions of bounded size.
type writer struct {
	db    *bbolt.DB
	tx    *bbolt.Tx
	space *keyspace
	bytes int
}

func (w *writer) fill(ctx context.Context, r *format.Reader) error {
	if err := w.begin(); err != nil {
		return err
	}
	if err := layOut(w.tx); err != nil {
		return err
	}
	// Buckets without records are still among those that have or had some.
	has := r.Contents()
	for _, bucket := range slices.Sorted(maps.Keys(has.Buckets)) {
		if _, err := w.space.ensure(bucket); err != nil {
			return err
		}
	}
	if err := r.Each(ctx, w.put); err != nil {
		return err
	}
	if err := w.space.seal(has.Revision, max(has.Reserved, has.Revision)+restoreSkip); err != nil {
		return err
	}
	return w.commit()
}

func (w *writer) begin() (err error) {
	if w.tx, err = w.db.Begin(true); err != nil {
		return err
	}
	w.space, w.bytes = newKeyspace(w.tx), 0
	w.space.fill = fullFill
	return nil
}

func (w *writer) commit() error {
	err := w.tx.Commit()
	if err == nil {
		w.tx = nil
	}
	return err
}

// put writes one record.
func (w *writer) put(key store.Key, record []byte) error {
	if w.bytes > salvageBytes {
		if err := w.space.seal(0, 0); err != nil {
			return err
		}
		if err := w.commit(); err != nil {
			return err
		}
		if err := w.begin(); err != nil {
			return err
		}
	}
	w.bytes += len(key.Name) + len(record)
	return w.space.adopt(key, record)
}
