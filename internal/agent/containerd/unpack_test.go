package containerd

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// blob is a layer's content; it provides itself.
type blob struct{ *bytes.Reader }

func (b blob) ReaderAt(context.Context, ocispec.Descriptor) (content.ReaderAt, error) { return b, nil }
func (b blob) Close() error                                                           { return nil }

// file is an entry of a layer.
type file struct {
	tar.Header
	text string
}

func tarOf(t *testing.T, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		if f.Mode == 0 {
			f.Mode = 0o755
		}
		f.Size = int64(len(f.text))
		if err := w.WriteHeader(&f.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// unpackTo unpacks a layer as into an overlay on the lower directory.
func unpackTo(t *testing.T, upper, lower, mediaType string, data []byte) (ocispec.Descriptor, error) {
	t.Helper()
	over := mount.Mount{Type: "overlay", Options: []string{"upperdir=" + upper, "lowerdir=" + lower}}
	return unpacker{blob{bytes.NewReader(data)}}.Apply(t.Context(), ocispec.Descriptor{MediaType: mediaType, Size: int64(len(data))},
		[]mount.Mount{over}, diff.WithSyncFs(true))
}

// dirs makes the directories of a test, each with one file: what is not to be touched,
// a layer below, and the one that is written.
func dirs(t *testing.T) (outside, lower, upper string) {
	t.Helper()
	top := t.TempDir()
	outside, lower, upper = filepath.Join(top, "outside"), filepath.Join(top, "lower"), filepath.Join(top, "upper")
	for _, dir := range []string{outside, lower, upper} {
		if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "there"), []byte("as it was"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink("../outside", filepath.Join(lower, "out")), os.Symlink("../outside", filepath.Join(upper, "out"))); err != nil {
		t.Fatal(err)
	}
	return outside, lower, upper
}

// tree is what lies below a directory, with contents and modes.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		b.WriteString(path + " " + info.Mode().String())
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			b.Write(data)
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Whatever a layer's names and links say, nothing outside of the snapshot is written.
func TestLayersThatLeadOut(t *testing.T) {
	for name, test := range map[string]struct {
		files []file
		want  string // made, in the snapshot; "": it is refused
	}{
		"climbs":                           {[]file{{tar.Header{Name: "../../outside/there"}, "bad"}}, "outside/there"},
		"climbs from within":               {[]file{{tar.Header{Name: "a/../../outside/there"}, "bad"}}, "outside/there"},
		"absolute":                         {[]file{{tar.Header{Name: "/outside/there"}, "bad"}}, "outside/there"},
		"through a link that was there":    {[]file{{tar.Header{Name: "out/there"}, "bad"}}, "outside/there"},
		"through a link of its own":        {[]file{{tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../outside"}, ""}, {tar.Header{Name: "l/there"}, "bad"}}, "outside/there"},
		"through an absolute link":         {[]file{{tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/outside"}, ""}, {tar.Header{Name: "l/new"}, "bad"}}, "outside/new"},
		"in place of a link":               {[]file{{tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../outside/there"}, ""}, {tar.Header{Name: "l"}, "bad"}}, "l"},
		"hard link that climbs":            {[]file{{tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "../outside/there"}, ""}, {tar.Header{Name: "h"}, "bad"}}, ""},
		"hard link, absolute":              {[]file{{tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "/outside/there"}, ""}}, ""},
		"hard link through a link":         {[]file{{tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../outside"}, ""}, {tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "l/there"}, ""}}, ""},
		"whiteout that climbs":             {[]file{{tar.Header{Name: "../outside/.wh.there"}, ""}}, "outside/there"},
		"whiteout of everything above":     {[]file{{tar.Header{Name: ".wh..."}, ""}}, ""},
		"opaque through a link":            {[]file{{tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../outside"}, ""}, {tar.Header{Name: "l/.wh..wh..opq"}, ""}}, "outside"},
		"mode through a link":              {[]file{{tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../outside"}, ""}, {tar.Header{Name: "l/", Typeflag: tar.TypeDir, Mode: 0o777}, ""}}, "l"},
		"the root itself":                  {[]file{{tar.Header{Name: "../", Typeflag: tar.TypeDir, Mode: 0o777}, ""}}, "there"},
		"a kind that nobody knows":         {[]file{{tar.Header{Name: "x", Typeflag: 'Z'}, ""}}, ""},
		"a device":                         {[]file{{tar.Header{Name: "disk", Typeflag: tar.TypeBlock, Devmajor: 1, Devminor: 0, Mode: 0o666}, ""}}, "disk"},
		"attributes that overlayfs trusts": {[]file{{tar.Header{Name: "d/", Typeflag: tar.TypeDir, PAXRecords: map[string]string{"SCHILY.xattr.trusted.overlay.redirect": "/outside"}}, ""}}, "d"},
	} {
		t.Run(name, func(t *testing.T) {
			outside, lower, upper := dirs(t)
			was := tree(t, outside) + tree(t, lower)
			_, err := unpackTo(t, upper, lower, ocispec.MediaTypeImageLayer, tarOf(t, test.files...))
			if now := tree(t, outside) + tree(t, lower); now != was {
				t.Fatalf("outside it was\n%s\nand is\n%s", was, now)
			}
			if test.want == "" {
				if err == nil {
					t.Errorf("it is not refused; the snapshot has\n%s", tree(t, upper))
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := os.Lstat(filepath.Join(upper, test.want)); err != nil {
				t.Errorf("%v; the snapshot has\n%s", err, tree(t, upper))
			}
			if n, err := unix.Lgetxattr(filepath.Join(upper, test.want), "trusted.overlay.redirect", make([]byte, 99)); n > 0 {
				t.Errorf("overlayfs would trust it: %v", err)
			}
		})
	}
}

// smallDisk mounts a file system of so many bytes.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func used(t *testing.T, dir string) int64 {
	t.Helper()
	var disk unix.Statfs_t
	if err := unix.Statfs(dir, &disk); err != nil {
		t.Fatal(err)
	}
	return int64(disk.Blocks-disk.Bfree) * disk.Bsize
}

// sparse is an archive of one file that has so many bytes, and takes none.
func sparse(t *testing.T, size string) []byte {
	t.Helper()
	text := "0\n" // no piece of it has data
	text += strings.Repeat("\x00", 512-len(text))
	w := file{tar.Header{Name: "GNUSparseFile.0/hole", Format: tar.FormatPAX}, text}
	data := tarOf(t, w)
	// The writer refuses records that make a file sparse: put them in front.
	record := func(name, value string) string {
		line := " " + name + "=" + value + "\n"
		for n := len(line); ; n++ {
			if whole := string(rune('0'+n/10)) + string(rune('0'+n%10)) + line; len(whole) == n {
				return whole
			}
		}
	}
	records := record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") + record("GNU.sparse.name", "hole") + record("GNU.sparse.realsize", size)
	head := tarOf(t, file{tar.Header{Name: "x", Typeflag: tar.TypeReg}, records})
	head = head[:1024]
	head[156] = tar.TypeXHeader
	copy(head[148:156], "        ")
	sum := 0
	for _, b := range head[:512] {
		sum += int(b)
	}
	copy(head[148:156], []byte{byte('0' + sum>>15&7), byte('0' + sum>>12&7), byte('0' + sum>>9&7), byte('0' + sum>>6&7), byte('0' + sum>>3&7), byte('0' + sum&7), 0, ' '})
	return append(head, data...)
}

// What is larger than the disk is refused before it has filled it.
func TestLayersThatAreTooLarge(t *testing.T) {
	var zeros bytes.Buffer
	w := gzip.NewWriter(&zeros)
	if _, err := w.Write(tarOf(t, file{tar.Header{Name: "small"}, "text"}, file{tar.Header{Name: "zeros"}, strings.Repeat("\x00", 64<<20)})); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		mediaType string
		data      []byte
	}{
		"a bomb":          {ocispec.MediaTypeImageLayerGzip, zeros.Bytes()},
		"a file of holes": {ocispec.MediaTypeImageLayer, sparse(t, "1000000000000000")},
	} {
		t.Run(name, func(t *testing.T) {
			disk := smallDisk(t, "32m")
			_, err := unpackTo(t, disk, t.TempDir(), test.mediaType, test.data)
			if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "would leave too little of the disk of") {
				t.Errorf("unpacked: %v", err)
			}
			if n := used(t, disk); n > 1<<20 {
				t.Errorf("%d bytes were written, of %d that it took", n, len(test.data))
			}
		})
	}
}

// Nothing makes us remember much, or work on for long when all is done.
func TestLayersThatCost(t *testing.T) {
	_, lower, upper := dirs(t)
	// A frame that says it needs 512 MiB to be read.
	window := append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 19 << 3}, 0x01, 0x00, 0x00)
	if _, err := unpackTo(t, upper, lower, ocispec.MediaTypeImageLayerZstd, window); !errors.Is(err, zstd.ErrWindowSizeExceeded) {
		t.Errorf("a large window: %v", err)
	}
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(append(tarOf(t, file{tar.Header{Name: "a"}, "text"}), make([]byte, maxTrailer+1<<20)...)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := unpackTo(t, upper, lower, ocispec.MediaTypeImageLayerZstd, b.Bytes()); err == nil || !strings.Contains(err.Error(), "goes on after its end") {
		t.Errorf("a long trailer: %v", err)
	}
	if _, err := unpackTo(t, upper, lower, "application/zip", nil); err == nil {
		t.Error("a layer of an unknown kind is not refused")
	}
}

// The digest is that of the archive, however it came.
func TestLayersOfEachKind(t *testing.T) {
	plain := tarOf(t, file{tar.Header{Name: "a"}, "text"})
	var zipped, packed bytes.Buffer
	z := gzip.NewWriter(&zipped)
	p, err := zstd.NewWriter(&packed)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []io.WriteCloser{z, p} {
		if _, err := w.Write(plain); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	skippable := append([]byte{0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 7}, packed.Bytes()...)
	for _, test := range []struct {
		mediaType string
		data      []byte
	}{
		{ocispec.MediaTypeImageLayer, plain}, {ocispec.MediaTypeImageLayerGzip, zipped.Bytes()}, {ocispec.MediaTypeImageLayerZstd, packed.Bytes()},
		{ocispec.MediaTypeImageLayerZstd, skippable},
		{images.MediaTypeDockerSchema2Layer, plain}, {images.MediaTypeDockerSchema2LayerGzip, zipped.Bytes()}, {images.MediaTypeDockerSchema2LayerZstd, packed.Bytes()},
		{images.MediaTypeDockerSchema2Layer, zipped.Bytes()}, {ocispec.MediaTypeImageLayerGzip, packed.Bytes()}, // who says the wrong thing
	} {
		_, lower, upper := dirs(t)
		got, err := unpackTo(t, upper, lower, test.mediaType, test.data)
		if err != nil || got.Digest != digest.FromBytes(plain) || got.Size != int64(len(plain)) {
			t.Errorf("%s: %+v, %v", test.mediaType, got, err)
		}
		if data, err := os.ReadFile(filepath.Join(upper, "a")); string(data) != "text" {
			t.Errorf("%s: %q, %v", test.mediaType, data, err)
		}
	}
}

// A store takes no blob that is larger than its disk.
func TestRoomForContent(t *testing.T) {
	disk := smallDisk(t, "32m")
	if err := room(disk, 1<<20); err != nil {
		t.Error(err)
	}
	if err := room(disk, 32<<20); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("all of it: %v", err)
	}
}
