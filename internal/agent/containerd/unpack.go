package containerd

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// What a layer may be like: it comes from a stranger.
const (
	maxWindow  = 128 << 20 // bytes that zstd may have us remember, as its own tool does
	maxTrailer = 16 << 20  // bytes after the archive's end, which nobody reads
)

// unpacker unpacks layers into snapshots, in place of containerd's own: that one goes
// on until the disk is full. What leads out of a snapshot, names and links, ends at
// its root (package archive).
type unpacker struct{ blobs content.Provider }

var _ diff.Applier = unpacker{}

// Apply implements diff.Applier. After an error the caller removes the snapshot.
func (u unpacker) Apply(ctx context.Context, layer ocispec.Descriptor, mounts []mount.Mount, opts ...diff.ApplyOpt) (ocispec.Descriptor, error) {
	var config diff.ApplyConfig
	for _, o := range opts {
		if err := o(ctx, layer, &config); err != nil {
			return ocispec.Descriptor{}, err
		}
	}
	compressed, err := images.DiffCompression(ctx, layer.MediaType)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	blob, err := u.blobs.ReaderAt(ctx, layer)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer blob.Close()
	plain := io.NopCloser(content.NewReader(blob))
	if compressed != "" {
		if plain, err = decompress(plain); err != nil {
			return ocispec.Descriptor{}, err
		}
	}
	defer plain.Close()
	sum := digest.Canonical.Digester()
	all := &counter{next: io.TeeReader(plain, sum.Hash())}
	if err := place(ctx, mounts, all, config.SyncFs); err != nil {
		return ocispec.Descriptor{}, err
	}
	if n, err := io.Copy(io.Discard, io.LimitReader(all, maxTrailer+1)); err != nil || n > maxTrailer {
		return ocispec.Descriptor{}, errors.Join(err, errors.New("the layer goes on after its end"))
	}
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Size: all.read, Digest: sum.Digest()}, nil
}

// counter counts what is read.
type counter struct {
	next io.Reader
	read int64
}

// Read implements io.Reader.
func (c *counter) Read(p []byte) (int, error) {
	n, err := c.next.Read(p)
	c.read += int64(n)
	return n, err
}

// decompress looks at the content itself: some say the wrong thing of it.
func decompress(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReader(r)
	head, err := b.Peek(10)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if compression.DetectCompression(head) != compression.Zstd {
		return compression.DecompressStream(b)
	}
	d, err := zstd.NewReader(b, zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, err
	}
	return d.IOReadCloser(), nil
}

// place writes an archive's files where the mounts lead, without mounting an overlay,
// whose uppermost layer can be written to as it is.
func place(ctx context.Context, mounts []mount.Mount, r io.Reader, sync bool) error {
	if len(mounts) == 1 && mounts[0].Type == "overlay" {
		upper, lower := overlayDirs(mounts[0].Options)
		return extract(ctx, upper, r, sync,
			archive.WithConvertWhiteout(archive.OverlayConvertWhiteout), archive.WithParents(lower))
	}
	return mount.WithTempMount(ctx, mounts, func(root string) error { return extract(ctx, root, r, sync) })
}

// overlayDirs reads an overlay's options.
func overlayDirs(options []string) (upper string, lower []string) {
	for _, o := range options {
		if dir, ok := strings.CutPrefix(o, "upperdir="); ok {
			upper = dir
		} else if dirs, ok := strings.CutPrefix(o, "lowerdir="); ok {
			lower = strings.Split(dirs, ":")
		}
	}
	return upper, lower
}

// extract writes the files below root and has them on disk before it returns, where
// that is asked for.
func extract(ctx context.Context, root string, r io.Reader, sync bool, opts ...archive.ApplyOpt) error {
	if root == "" {
		return errors.New("the snapshot has no directory to unpack to")
	}
	fits := func(h *tar.Header) (bool, error) { return true, room(root, h.Size) }
	if _, err := archive.Apply(ctx, root, r, append(opts, archive.WithFilter(fits))...); err != nil {
		return err
	}
	if !sync {
		return nil
	}
	dir, err := os.Open(root)
	if err != nil {
		return err
	}
	defer dir.Close()
	return unix.Syncfs(int(dir.Fd()))
}

// What images leave free of a disk, however large they are, for Pods and for us.
const (
	keepShare = 100       // one part in so many
	keepBytes = 100 << 20 // … but no more
	keepFiles = 10_000
)

// room is an error, ENOSPC, unless a file of so many bytes can be written in the
// directory.
func room(dir string, size int64) error {
	var disk unix.Statfs_t
	if err := unix.Statfs(dir, &disk); err != nil {
		return fmt.Errorf("look at the disk of %s: %w", dir, err)
	}
	free := int64(disk.Bavail)*disk.Bsize - min(int64(disk.Blocks)*disk.Bsize/keepShare, keepBytes)
	if size > max(free, 0) || free <= 0 {
		return fmt.Errorf("%d bytes more would leave too little of the disk of %s, %d may be used: %w", size, dir, max(free, 0), unix.ENOSPC)
	}
	if disk.Files > 0 && disk.Ffree < min(disk.Files/keepShare, keepFiles) {
		return fmt.Errorf("one file more would leave too few on the disk of %s: %w", dir, unix.ENOSPC)
	}
	return nil
}

// roomy is a content store that takes no blob for which the disk has no room.
type roomy struct {
	content.Store
	dir string // on the disk
}

// Writer implements content.Ingester.
func (s roomy) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	var asked content.WriterOpts
	for _, o := range opts {
		if err := o(&asked); err != nil {
			return nil, err
		}
	}
	w, err := s.Store.Writer(ctx, opts...)
	if err != nil {
		return nil, err
	}
	begun, err := w.Status()
	if err == nil {
		err = room(s.dir, asked.Desc.Size-begun.Offset)
	}
	if err != nil {
		return nil, errors.Join(err, w.Close(), s.Abort(ctx, asked.Ref))
	}
	return w, nil
}
