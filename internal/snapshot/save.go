package snapshot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt"
	"github.com/skiff-sh/skiff/internal/version"
)

// Source is what a snapshot is made of.
type Source struct {
	Copy       func(ctx context.Context, w io.Writer) error // writes a consistent copy of the store
	Server     string                                       // the server's directory
	Node       string
	Full       bool // keys, certificates and tokens, too
	Compress   bool
	Passphrase string // "": not encrypted
}

// Save makes a snapshot in the directory and returns it once it has been read
// back. Its name begins with name, followed by the node's and a number that is
// the Unix time, or one more than that of the newest one where the clock has
// gone back. It needs room for a copy of the store and of the snapshot for a
// moment; whatever ends it early leaves nothing behind, a killed process
// nothing that outlasts the next Save.
func (d Directory) Save(ctx context.Context, name string, source Source) (File, error) {
	file, err := d.save(ctx, Base(name, source.Node), source)
	if err != nil {
		return File{}, fmt.Errorf("save snapshot: %w", d.full(err))
	}
	return file, nil
}

func (d Directory) save(ctx context.Context, base string, source Source) (File, error) {
	if err := os.MkdirAll(d.path, 0o700); err != nil {
		return File{}, err
	}
	unlock, err := d.lock()
	if err != nil {
		return File{}, err
	}
	defer unlock()
	if err := d.sweep(); err != nil {
		return File{}, err
	}
	work, err := os.MkdirTemp(d.path, workPrefix)
	if err != nil {
		return File{}, err
	}
	defer os.RemoveAll(work)
	now := time.Now()
	name, err := d.next(ctx, base, now)
	if err != nil {
		return File{}, err
	}
	name += endings(source)
	written := filepath.Join(work, name)
	if err := d.write(ctx, source, work, written, now); err != nil {
		return File{}, err
	}
	if err := verify(ctx, written, source.Passphrase); err != nil {
		return File{}, fmt.Errorf("read the new snapshot back: %w", err)
	}
	if err := os.Rename(written, filepath.Join(d.path, name)); err != nil {
		return File{}, err
	}
	if err := syncDir(d.path); err != nil {
		return File{}, err
	}
	return d.file(name)
}

func endings(source Source) string {
	ending := ".tar"
	if source.Compress {
		ending += ".zst"
	}
	if source.Passphrase != "" {
		ending += ".age"
	}
	return ending
}

// next returns a name that sorts behind all of the same base.
func (d Directory) next(ctx context.Context, base string, now time.Time) (string, error) {
	files, err := d.List(ctx)
	if err != nil {
		return "", err
	}
	n := now.Unix()
	for _, f := range files {
		if other, last, ok := number(f.Name); ok && other == base {
			n = max(n, last+1)
		}
	}
	return fmt.Sprintf("%s-%d", base, n), nil
}

// write makes the file at path, with its working files in the directory work.
func (d Directory) write(ctx context.Context, s Source, work, path string, now time.Time) error {
	copied := filepath.Join(work, storeEntry)
	size, err := copyStore(ctx, copied, s.Copy)
	if err != nil {
		return err
	}
	contents, err := examine(ctx, copied)
	if err != nil {
		return err
	}
	m := Manifest{
		Format: layout, Skiff: version.Git(), Kubernetes: version.Kubernetes,
		Taken: now.UTC().Truncate(time.Second), Node: s.Node,
		Revision: contents.Revision, Objects: contents.Buckets, StoreBytes: size,
		Full: s.Full, Authority: authority(s.Server),
	}
	maps.DeleteFunc(m.Objects, func(bucket string, _ int) bool {
		return strings.HasPrefix(bucket, "!") // tables of what is allocated
	})
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := d.archive(ctx, s, bolt.Spread(out), copied, m); err != nil {
		return err
	}
	return out.Sync()
}

func (d Directory) archive(ctx context.Context, s Source, out io.Writer, copied string, m Manifest) error {
	a, err := newArchiver(out, s.Compress, s.Passphrase, m.Taken)
	if err != nil {
		return err
	}
	err = a.manifest(m)
	if err == nil {
		err = addFile(ctx, a, storeEntry, copied)
	}
	if err == nil && s.Full {
		err = s.addServer(ctx, a, d.path)
	}
	if err != nil {
		_ = a.abandon() // the file is of no use already
		return err
	}
	return a.close()
}

// addServer adds what the server's directory has beside the store and the
// snapshots.
func (s Source) addServer(ctx context.Context, a *archiver, snapshots string) error {
	return filepath.WalkDir(s.Server, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if path == snapshots || path != s.Server && !belongs(filepath.Dir(path) == s.Server, d.Name()) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		below, err := filepath.Rel(s.Server, path)
		if err != nil {
			return err
		}
		return addFile(ctx, a, serverEntries+filepath.ToSlash(below), path)
	})
}

// belongs says whether something in the server's directory is part of a full
// snapshot: all but the store with what lies beside it, the snapshots
// themselves and temporary files.
func belongs(top bool, name string) bool {
	if strings.HasPrefix(name, ".") {
		return false
	}
	return !top || !strings.HasPrefix(name, storeEntry) && name != snapshotsDir
}

func addFile(ctx context.Context, a *archiver, name, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return a.entry(name, info.Size(), &contextReader{ctx, f})
}

// copyStore writes a copy of the store to a new file.
func copyStore(ctx context.Context, path string, copyTo func(context.Context, io.Writer) error) (int64, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if err := copyTo(ctx, bolt.Spread(f)); err != nil {
		return 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), f.Close()
}

// verify reads a file that was written.
func verify(ctx context.Context, path, passphrase string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = Inspect(ctx, f, passphrase)
	return err
}

// authority returns the fingerprint of the cluster's certificate authority, ""
// if the server's directory has none.
func authority(server string) string {
	data, err := os.ReadFile(filepath.Join(server, "tls", "ca.crt"))
	if err != nil {
		return ""
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return ""
	}
	sum := sha256.Sum256(block.Bytes)
	return hex.EncodeToString(sum[:])
}

// full says what to do about a full disk.
func (d Directory) full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, store.ErrFull) {
		return fmt.Errorf("%w: there must be room for a copy of the store and for the snapshot; free some space in %s, or choose another place with --etcd-snapshot-dir", err, d.path)
	}
	return err
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
