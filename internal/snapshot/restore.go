package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/internal/store/bolt"
)

// Restored says what a restore did.
type Restored struct {
	Manifest Manifest
	// Replaced is where what was there before is kept, "" if nothing was.
	Replaced string
	// OtherAuthority: the snapshot's certificate authority is not the one that
	// the server has or will make.
	OtherAuthority bool
}

// Restore makes a snapshot the data of the server whose directory is given. It
// reads and verifies all of the snapshot beside the directory first, then
// exchanges the two in one step, so that whatever ends it early leaves the old
// data in place; the old directory is kept. What a snapshot does not bring (keys
// and tokens, unless it is full) stays as it was. A running server is refused
// with a *bolt.LockedError.
func Restore(ctx context.Context, server string, archive io.Reader, passphrase string) (Restored, error) {
	restored, err := restore(ctx, server, archive, passphrase)
	if err != nil {
		return Restored{}, fmt.Errorf("restore snapshot: %w", err)
	}
	return restored, nil
}

func restore(ctx context.Context, server string, archive io.Reader, passphrase string) (_ Restored, err error) {
	undo, err := makeDirs(server)
	if err != nil {
		return Restored{}, err
	}
	defer func() {
		if err != nil {
			undo()
		}
	}()
	// What is a link stays one: its target is what is replaced.
	if server, err = filepath.EvalSymlinks(server); err != nil {
		return Restored{}, err
	}
	lock, err := bolt.Lock(filepath.Join(server, storeEntry))
	if err != nil {
		return Restored{}, err
	}
	defer lock.Close()
	// One name for all: whoever holds the lock may remove what a restore left
	// that was killed.
	fresh := server + "-restoring"
	if err := os.RemoveAll(fresh); err != nil {
		return Restored{}, err
	}
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return Restored{}, err
	}
	defer os.RemoveAll(fresh)
	if err := rememberRevision(server, fresh); err != nil {
		return Restored{}, err
	}
	r := Restored{}
	if r.Manifest, err = unpack(ctx, fresh, archive, passphrase); err != nil {
		return Restored{}, err
	}
	if err := keep(server, fresh); err != nil {
		return Restored{}, fmt.Errorf("take over what the snapshot does not bring: %w", err)
	}
	if err := syncTree(fresh); err != nil {
		return Restored{}, err
	}
	r.OtherAuthority = r.Manifest.Authority != authority(fresh)
	if r.Replaced, err = exchange(server, fresh); err != nil {
		return Restored{}, err
	}
	return r, nil
}

// makeDirs makes a server's directory. What it made, undo removes again.
func makeDirs(server string) (undo func(), err error) {
	var made []string
	for dir := server; ; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		made = append(made, dir)
	}
	undo = func() {
		if len(made) > 0 {
			_ = os.Remove(filepath.Join(server, storeEntry+".lock")) // what is not there need not go
		}
		for _, dir := range made {
			_ = os.Remove(dir) // stays when there is something in it
		}
	}
	return undo, os.MkdirAll(server, 0o700)
}

// rememberRevision tells the store's restore which revision the last one went
// on from: the same snapshot may be restored twice.
func rememberRevision(server, fresh string) error {
	const name = storeEntry + ".restored"
	f, err := os.Open(filepath.Join(server, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return writeFile(filepath.Join(fresh, name), f)
}

// unpack writes the contents of a snapshot to a new directory.
func unpack(ctx context.Context, dir string, archive io.Reader, passphrase string) (Manifest, error) {
	return read(ctx, archive, passphrase, func(_ Manifest, name string, content io.Reader) error {
		if name == storeEntry {
			return bolt.Restore(ctx, filepath.Join(dir, storeEntry), content)
		}
		below, ok := strings.CutPrefix(name, serverEntries)
		if !ok || !filepath.IsLocal(below) || !belongs(!strings.Contains(below, "/"), below) {
			return fmt.Errorf("%w: %q has no place in a server's directory", errDamaged, name)
		}
		path := filepath.Join(dir, below)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		return writeFile(path, content)
	})
}

func writeFile(path string, content io.Reader) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(f, content); err != nil {
		return err
	}
	return f.Sync()
}

// keep links into the fresh directory what the old one has and the snapshot did
// not bring. Both have the same files then; nothing in a server's directory but
// the store is ever changed in place.
func keep(old, fresh string) error {
	entries, err := os.ReadDir(old)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := entry.Name()
		if strings.HasPrefix(name, storeEntry) {
			continue
		}
		if _, err := os.Lstat(filepath.Join(fresh, name)); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := linkTree(filepath.Join(old, name), filepath.Join(fresh, name)); err != nil {
			return err
		}
	}
	return nil
}

func linkTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := to + strings.TrimPrefix(path, from)
		switch {
		case d.IsDir():
			return os.Mkdir(target, 0o700)
		case d.Type().IsRegular():
			return os.Link(path, target)
		}
		return nil
	})
}

// syncTree makes the names in a directory and those below it durable.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return syncDir(path)
	})
}

// exchange puts fresh in the place of server, and returns where that is now; ""
// if there was nothing in it worth keeping. The fresh directory gets the other's
// later name first: no step leaves the old data under a name that a later
// restore removes.
func exchange(server, fresh string) (replaced string, err error) {
	aside, err := asideName(server)
	if err != nil {
		return "", err
	}
	if err := os.Rename(fresh, aside); err != nil {
		return "", err
	}
	if err := swap(aside, server); err != nil {
		return "", errors.Join(err, os.RemoveAll(aside))
	}
	if err := syncDir(filepath.Dir(server)); err != nil {
		return "", err
	}
	// The snapshots have been taken along: what is aside is what was replaced.
	if err := os.RemoveAll(filepath.Join(aside, snapshotsDir)); err != nil {
		return "", err
	}
	if _, err := os.Lstat(aside); errors.Is(err, fs.ErrNotExist) || empty(aside) {
		return "", os.RemoveAll(aside)
	}
	return aside, nil
}

// swap exchanges two directories in one step.
func swap(fresh, server string) error {
	err := unix.Renameat2(unix.AT_FDCWD, fresh, unix.AT_FDCWD, server, unix.RENAME_EXCHANGE)
	if err == nil {
		return nil
	}
	if err != unix.EINVAL && err != unix.ENOSYS {
		return fmt.Errorf("exchange %s and %s: %w", fresh, server, err)
	}
	return replaceEmpty(fresh, server)
}

// replaceEmpty puts fresh in the place of a directory that has no data, in one
// step on every file system.
func replaceEmpty(fresh, server string) error {
	if !empty(server) {
		return fmt.Errorf("the file system of %s cannot exchange two directories in one step: move %s away, and restore again", server, server)
	}
	// A rename replaces a directory that is empty.
	if err := os.RemoveAll(filepath.Join(server, storeEntry+".lock")); err != nil {
		return err
	}
	return unix.Rename(fresh, server) // os.Rename replaces no directory
}

// empty says whether a server's directory has nothing but the store's lock.
func empty(server string) bool {
	entries, err := os.ReadDir(server)
	if err != nil {
		return false
	}
	for _, entry := range entries {
		if entry.Name() != storeEntry+".lock" {
			return false
		}
	}
	return true
}

// asideName returns a name that is free: SERVER-replaced-TIME.
func asideName(server string) (string, error) {
	base := server + "-replaced-" + time.Now().UTC().Format("20060102-150405")
	name := base
	for n := 2; ; n++ {
		_, err := os.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			return name, nil
		}
		if err != nil {
			return "", err
		}
		name = fmt.Sprintf("%s-%d", base, n)
	}
}
