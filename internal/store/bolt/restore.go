package bolt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"go.etcd.io/bbolt"

	"github.com/skiff-sh/skiff/internal/store"
)

// restoreSkip is how many revisions a restore leaves out: more than can have
// been handed out since the snapshot was taken, few enough that numbers stay
// exact in clients that keep them as floating point (2^53) for a million
// restores.
const restoreSkip = 1 << 32

// restoredSuffix is behind the store's name in that of a file which holds the
// revision that the last restore went on from. The same snapshot may be restored
// again, and must not hand out again what was handed out in between.
const restoredSuffix = ".restored"

// restoreSuffix begins what is behind the store's name in that of the directory
// in which a restore works.
const restoreSuffix = ".restore-"

// Restore makes a snapshot the store at path, once all of it has been read and
// found whole. Revisions go on far behind those of the snapshot and those that
// the last restore to this path went on from, so that no client takes anything
// for what it knew. It fails when there is a store at
// path already, and leaves nothing behind when it fails.
func Restore(ctx context.Context, path string, snapshot io.Reader) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("restore store %s: %w", path, err)
		}
	}()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	lock, err := lockFile(path)
	if err != nil {
		return err
	}
	defer lock.Close()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return errors.New("there is a store already; move it away first")
	}
	// A directory of its own, so that its lock file goes with it.
	dir, err := os.MkdirTemp(filepath.Dir(path), filepath.Base(path)+restoreSuffix)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	copied := filepath.Join(dir, "store.db")
	if err := writeSynced(ctx, copied, snapshot); err != nil {
		return err
	}
	if err := verify(ctx, copied); err != nil {
		return err
	}
	var last store.Revision
	err = guard(func() (err error) {
		last, err = skipRevisions(copied, lastRestore(path))
		return err
	})
	if err != nil {
		return err
	}
	if err := noteRestore(path, last); err != nil {
		return err
	}
	if err := os.Rename(copied, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// writeSynced copies a stream to a new file on disk.
func writeSynced(ctx context.Context, path string, from io.Reader) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := io.Copy(contextWriter{ctx, f}, from)
	if err != nil {
		return diskError(err)
	}
	if size == 0 {
		return fmt.Errorf("%w: the snapshot is empty; take another one", store.ErrDamaged)
	}
	return f.Sync()
}

// verify reads all records of a store.
func verify(ctx context.Context, path string) error {
	e, err := Open(path, Options{})
	if err != nil {
		return err
	}
	defer e.Close()
	buckets, err := e.Buckets(ctx)
	if err != nil {
		return err
	}
	for _, bucket := range buckets {
		if err := e.Scan(ctx, bucket, func(store.Record) error { return nil }); err != nil {
			return err
		}
	}
	return nil
}

// skipRevisions has the next Open go on with later revisions, as after an
// unclean stop, and returns the last one that is skipped.
func skipRevisions(path string, floor store.Revision) (last store.Revision, err error) {
	db, err := openDatabase(path, false)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	err = db.Update(func(tx *bbolt.Tx) error {
		found, err := readState(tx)
		if err != nil {
			return err
		}
		last = max(found.Reserved, floor) + restoreSkip
		return newKeyspace(tx).seal(found.Revision, last)
	})
	if err != nil {
		return 0, diskError(err)
	}
	return last, nil
}

// lastRestore returns the revision that the last restore to a path went on from,
// 0 when there was none. What cannot be read must not keep anybody from
// restoring.
func lastRestore(path string) store.Revision {
	text, _ := os.ReadFile(path + restoredSuffix)
	revision, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return store.Revision(revision)
}

// noteRestore writes down what lastRestore returns.
func noteRestore(path string, last store.Revision) error {
	whole := path + restoreSuffix + "revision"
	defer os.Remove(whole)
	if err := writeSynced(context.Background(), whole, strings.NewReader(fmt.Sprintln(last))); err != nil {
		return err
	}
	if err := os.Rename(whole, path+restoredSuffix); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes the names in a directory durable.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
