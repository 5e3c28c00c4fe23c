package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// tree collects a layer's files. What was put at a path last is there. The first
// error is kept, and returned by layer.
type tree struct {
	files map[string]file
	err   error
}

type file struct {
	tar.Header
	data []byte
}

func (t *tree) put(h tar.Header, data []byte) {
	if t.files == nil {
		t.files = map[string]file{}
	}
	// Who owns it and when it was made would differ from one build to the next.
	t.files[h.Name] = file{tar.Header{
		Name: h.Name, Typeflag: h.Typeflag, Mode: h.Mode, Linkname: h.Linkname, Size: int64(len(data)),
	}, data}
}

func (t *tree) file(name string, mode int64, data []byte) {
	t.put(tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: mode}, data)
}

func (t *tree) text(name, data string) { t.file(name, 0o644, []byte(data)) }

// copy puts a file of this machine.
func (t *tree) copy(name string, mode int64, from string) {
	data, err := os.ReadFile(from)
	t.err = errors.Join(t.err, err)
	t.file(name, mode, data)
}

func (t *tree) link(name, to string) {
	t.put(tar.Header{Name: name, Typeflag: tar.TypeSymlink, Mode: 0o777, Linkname: to}, nil)
}

func (t *tree) directory(name string, mode int64) {
	t.put(tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: mode}, nil)
}

// unpack puts the files of a tar archive, but for those below the directories
// that are left out.
func (t *tree) unpack(archive io.Reader, without ...string) error {
	r := tar.NewReader(archive)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		h.Name = strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		if h.Name == "" || slices.ContainsFunc(without, func(dir string) bool { return strings.HasPrefix(h.Name+"/", dir+"/") }) {
			continue
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeLink {
			h.Linkname = strings.TrimPrefix(path.Clean("/"+h.Linkname), "/")
		}
		t.put(*h, data)
	}
}

// copyAll puts what is below a directory of this machine.
func (t *tree) copyAll(dir string) error {
	return filepath.WalkDir(dir, func(at string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, at)
		t.copy(name, 0o644, at)
		return err
	})
}

// write writes an archive in the order of the names, so that the same files give
// the same bytes.
func (t *tree) write(to io.Writer) error {
	if t.err != nil {
		return t.err
	}
	w := tar.NewWriter(to)
	for _, name := range slices.Sorted(maps.Keys(t.files)) {
		f := t.files[name]
		if err := w.WriteHeader(&f.Header); err != nil {
			return err
		}
		if _, err := w.Write(f.data); err != nil {
			return err
		}
	}
	return w.Close()
}

func (t *tree) writeFile(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(t.write(f), f.Close())
}

// layer is not compressed: it never leaves this machine.
func (t *tree) layer() (v1.Layer, error) {
	var b bytes.Buffer
	if err := t.write(&b); err != nil {
		return nil, err
	}
	return static.NewLayer(b.Bytes(), types.OCIUncompressedLayer), nil
}
