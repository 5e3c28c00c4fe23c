package bolt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt/format"
	"golang.org/x/sys/unix"
)

// Check reads all of the file at rest at path, and tells fn of everything in it
// that is not as it was written, each damaged record by its name. It goes on
// after damage. An error means that it could not be checked: LockedError when
// somebody has it open, ErrDamaged when there is nothing that can be told from
// anything else, the context's.
func Check(ctx context.Context, path string, fn func(store.Damage)) (format.Contents, error) {
	r, end, err := openReader(path, all(fn))
	if err != nil {
		return format.Contents{}, pathError("check", path, err)
	}
	defer end()
	if err := r.Load(ctx); err != nil {
		return format.Contents{}, pathError("check", path, err)
	}
	return r.Contents(), nil
}

// Read calls fn for every record of the file at rest at path, by bucket and name.
// The value is the callee's to keep. Where Open or Scan would fail over damage
// it is an ErrDamaged that names it, before fn is called at all.
func Read(ctx context.Context, path string, fn func(store.Record) error) error {
	var first *store.Damage
	r, end, err := openReader(path, func(d store.Damage, refused bool) {
		if refused && first == nil {
			first = &d
		}
	})
	if err != nil {
		return pathError("read", path, err)
	}
	defer end()
	if err := r.Load(ctx); err != nil {
		return pathError("read", path, err)
	}
	if first != nil {
		return pathError("read", path, format.Damaged(*first))
	}
	return r.Each(ctx, func(key store.Key, record []byte) error {
		h, value, err := format.DecodeRecord(key, record)
		if err != nil {
			return fmt.Errorf("read store %s: %w", path, err)
		}
		return fn(store.Record{Key: key, Revision: h.Revision, Value: value})
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

// openReader opens a file at rest. Whoever has the store of that name keeps it
// from us, and we keep it from them.
func openReader(path string, report func(d store.Damage, refused bool)) (*format.Reader, func(), error) {
	lock, err := holdStill(path)
	if err != nil {
		return nil, nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		lock()
		return nil, nil, err
	}
	end := func() { f.Close(); lock() }
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file", path)
	}
	if err != nil {
		end()
		return nil, nil, err
	}
	return format.NewReader(f, info.Size(), report), end, nil
}

// all reports what is harmless too.
func all(fn func(store.Damage)) func(store.Damage, bool) {
	return func(d store.Damage, _ bool) { fn(d) }
}

// holdStill takes the lock beside a store, if there is one. Copies have none, and
// on a medium that cannot be written to nobody can change anything.
func holdStill(path string) (free func(), err error) {
	if _, err := os.Stat(path + ".lock"); err != nil {
		return func() {}, nil
	}
	lock, err := lockFile(path)
	if errors.Is(err, unix.EROFS) {
		return func() {}, nil
	}
	if err != nil {
		return nil, err
	}
	return func() { lock.Close() }, nil
}
