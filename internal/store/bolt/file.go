package bolt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/skiff-sh/skiff/internal/store"
)

// Contents is what a file holds.
type Contents struct {
	Revision  store.Revision // the last one on disk
	Format    byte
	Buckets   map[string]int // whole records
	FileBytes int64
	FreeBytes int64
	Clean     bool // it was stopped cleanly
}

// Check reads all of the file at rest at path, and tells fn of everything in it
// that is not as it was written, each damaged record by its name. It goes on
// after damage. An error means that it could not be checked: LockedError when
// somebody has it open, ErrDamaged when there is nothing that can be told from
// anything else, the context's.
func Check(ctx context.Context, path string, fn func(store.Damage)) (Contents, error) {
	r, end, err := openReader(path, fn)
	if err != nil {
		return Contents{}, pathError("check", path, err)
	}
	defer end()
	if err := r.load(ctx); err != nil {
		return Contents{}, pathError("check", path, err)
	}
	return r.contents(), nil
}

// Read calls fn for every record of the file at rest at path, by bucket and name.
// The value is the callee's to keep. Where Open or Scan would fail over damage
// it is an ErrDamaged that names it, before fn is called at all.
func Read(ctx context.Context, path string, fn func(store.Record) error) error {
	var first *store.Damage
	r, end, err := openReader(path, func(store.Damage) {})
	if err != nil {
		return pathError("read", path, err)
	}
	defer end()
	r.worse = func(d store.Damage) {
		if first == nil {
			first = &d
		}
	}
	if err := r.load(ctx); err != nil {
		return pathError("read", path, err)
	}
	if first != nil {
		return pathError("read", path, &damageError{*first})
	}
	return r.each(ctx, func(key store.Key, record []byte) error {
		h, value, err := decodeRecord(key, record)
		if err != nil {
			return fmt.Errorf("read store %s: %w", path, err)
		}
		return fn(store.Record{Key: key, Revision: h.revision, Value: value})
	})
}

// Copy writes the file at path as it is to w. The store must not be open: the
// error is a *LockedError then.
func Copy(ctx context.Context, path string, w io.Writer) error {
	if _, err := os.Stat(path); err != nil {
		return pathError("copy", path, err)
	}
	lock, err := lockFile(path)
	if err != nil {
		return err
	}
	defer lock.Close()
	f, err := os.Open(path)
	if err != nil {
		return pathError("copy", path, err)
	}
	defer f.Close()
	if _, err := io.Copy(contextWriter{ctx, w}, f); err != nil {
		return pathError("copy", path, err)
	}
	return nil
}

// pathError names the file that could not be read, and what to do if there is none.
func pathError(verb, path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s store: there is none at %s; name the data directory or the file: %w", verb, path, fs.ErrNotExist)
	}
	return fmt.Errorf("%s store %s: %w", verb, path, err)
}
