package snapshot

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// snapshotsDir is where snapshots are kept below the server's directory.
	snapshotsDir = "snapshots"

	lockName   = ".lock"
	workPrefix = ".save-"
)

// Directory is a Place on this machine.
type Directory struct{ path string }

// NewDirectory returns the place at path, which need not be there yet.
func NewDirectory(path string) Directory { return Directory{path: path} }

// List implements Place.
func (d Directory) List(ctx context.Context) ([]File, error) {
	entries, err := os.ReadDir(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	var files []File
	for _, entry := range entries {
		if _, _, ok := number(entry.Name()); !ok || !entry.Type().IsRegular() {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		f, err := d.file(entry.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("list snapshots: %w", err)
		}
		files = append(files, f)
	}
	byNumber(files)
	return files, nil
}

// file describes one snapshot.
func (d Directory) file(name string) (File, error) {
	path := filepath.Join(d.path, name)
	info, err := os.Stat(path)
	if err != nil {
		return File{}, err
	}
	location := url.URL{Scheme: "file", Path: path}
	f := File{Name: name, Location: location.String(), Bytes: info.Size(), Created: info.ModTime().UTC(), Encrypted: encrypted(name)}
	if m, err := peek(path); err == nil {
		f.Manifest = &m
	}
	return f, nil
}

// peek reads a file's manifest and no more. What it says is not verified.
func peek(path string) (Manifest, error) {
	f, err := os.Open(path)
	if err != nil {
		return Manifest{}, err
	}
	defer f.Close()
	plain, release, err := unwrap(f, "")
	if err != nil {
		return Manifest{}, err
	}
	defer release()
	entries := tar.NewReader(plain)
	header, err := entries.Next()
	if err != nil {
		return Manifest{}, err
	}
	if header.Name != manifestEntry {
		return Manifest{}, errDamaged
	}
	data, err := io.ReadAll(io.LimitReader(entries, maxSmallEntry))
	if err != nil {
		return Manifest{}, err
	}
	return decodeManifest(data)
}

// Open implements Place. The name may lack its endings.
func (d Directory) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	name, err := d.find(ctx, name)
	if err != nil {
		return nil, err
	}
	return os.Open(filepath.Join(d.path, name))
}

// Remove implements Place. The name may lack its endings.
func (d Directory) Remove(ctx context.Context, name string) error {
	name, err := d.find(ctx, name)
	if err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(d.path, name)); err != nil {
		return fmt.Errorf("remove snapshot: %w", err)
	}
	return syncDir(d.path)
}

func (d Directory) find(ctx context.Context, name string) (string, error) {
	files, err := d.List(ctx)
	if err != nil {
		return "", err
	}
	return find(files, name)
}

// lock keeps a second process from saving here at the same time.
func (d Directory) lock() (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(d.path, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("another snapshot is being saved in %s: try again when it is done", d.path)
		}
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}

// sweep removes what processes left that were killed while they saved. The
// caller holds the lock.
func (d Directory) sweep() error {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), workPrefix) {
			if err := os.RemoveAll(filepath.Join(d.path, entry.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
