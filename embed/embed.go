// Package embed is what the skiff executable carries for its own architecture:
// helper programs and the hello image, compressed. Unpack writes a helper to
// disk under the hash of its content, once, and whole or not at all, so that
// helpers of several skiff versions live beside each other and a program that
// runs is never written to. It never builds or downloads anything: the files
// come from scripts/build-helpers.sh.
package embed

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/klauspost/compress/zstd"
)

// The helpers that Unpack knows.
const (
	Shim    = "shim"
	Runc    = "runc"
	Kubectl = "kubectl"
)

// ErrNotCarried says that the executable was built without a helper.
var ErrNotCarried = errors.New("this executable was built without it: run make")

// info is what the build says of a carried file.
type info struct {
	sha256, version string
}

// Version returns the version of a carried file, "" if it is not carried.
func Version(name string) string {
	i, err := readInfo(name)
	if err != nil {
		return ""
	}
	return i.version
}

// Unpack makes sure that dir/SHA256/NAME is the executable of that helper and
// returns that path. It may be called concurrently, by several processes too.
func Unpack(dir, name string) (string, error) {
	i, err := readInfo(name)
	if err != nil {
		return "", fmt.Errorf("unpack %s: %w", name, err)
	}
	target := filepath.Join(dir, i.sha256, executableName(name))
	if _, err := os.Stat(target); err == nil {
		return target, nil
	}
	if err := unpackTo(target, name); err != nil {
		return "", fmt.Errorf("unpack %s to %s: %w", name, target, err)
	}
	return target, nil
}

// executableName is how a helper shows in a process list.
func executableName(name string) string {
	if name == Shim {
		return "skiff-shim"
	}
	return name
}

func unpackTo(target, name string) error {
	r, err := open(name)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	// A fork while the file is open for writing would keep it open for a
	// moment in the child, and executing it would fail with "text file busy".
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	f, err := os.CreateTemp(filepath.Dir(target), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := writeAll(f, r); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), target)
}

func writeAll(f *os.File, r io.Reader) error {
	if _, err := io.Copy(f, r); err != nil {
		return err
	}
	if err := f.Chmod(0o755); err != nil {
		return err
	}
	return f.Sync()
}

// open returns a carried file's content, decompressed.
func open(name string) (io.ReadCloser, error) {
	packed, err := files.Open(filePath(name + ".zst"))
	if err != nil {
		return nil, fmt.Errorf("%s for %s: %w", name, runtime.GOARCH, ErrNotCarried)
	}
	d, err := zstd.NewReader(packed, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, err
	}
	return d.IOReadCloser(), nil
}

func readInfo(name string) (info, error) {
	data, err := fs.ReadFile(files, filePath(name+".info"))
	if err != nil {
		return info{}, fmt.Errorf("%s for %s: %w", name, runtime.GOARCH, ErrNotCarried)
	}
	var i info
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch key {
		case "sha256":
			i.sha256 = value
		case "version":
			i.version = value
		}
	}
	if len(i.sha256) != 64 {
		return info{}, fmt.Errorf("%s.info has no sha256: run make again", name)
	}
	return i, nil
}

func filePath(name string) string {
	return path.Join("files", runtime.GOARCH, name)
}
