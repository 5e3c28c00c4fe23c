package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// bundle is an image as its parts, which need not fit together.
type bundle struct {
	blobs map[digest.Digest][]byte
	root  ocispec.Descriptor // of the manifest or index
}

func (b *bundle) add(mediaType string, data []byte) ocispec.Descriptor {
	if b.blobs == nil {
		b.blobs = map[digest.Digest][]byte{}
	}
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	b.blobs[d.Digest] = data
	return d
}

func (b *bundle) addJSON(mediaType string, v any) ocispec.Descriptor {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b.add(mediaType, data)
}

// newBundle is an image of these layers; change, where there is one, spoils it.
func newBundle(layers [][]byte, change func(*bundle, *ocispec.Image, *ocispec.Manifest)) *bundle {
	b := &bundle{}
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}, RootFS: ocispec.RootFS{Type: "layers"}}
	manifest := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for _, data := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(data))
		manifest.Layers = append(manifest.Layers, b.add(ocispec.MediaTypeImageLayer, data))
	}
	if change != nil {
		change(b, &config, &manifest)
	}
	if manifest.Config.Digest == "" {
		manifest.Config = b.addJSON(ocispec.MediaTypeImageConfig, config)
	}
	b.root = b.addJSON(ocispec.MediaTypeImageManifest, manifest)
	return b
}

// handler serves the bundle under any name, with the tag 1.
func (b *bundle) handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
		d := digest.Digest(name)
		if name == "1" {
			d = b.root.Digest
		}
		data, ok := b.blobs[d]
		if !ok {
			http.NotFound(w, r)
			return
		}
		if d == b.root.Digest {
			w.Header().Set("Content-Type", b.root.MediaType)
			w.Header().Set("Docker-Content-Digest", d.String())
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		_, _ = w.Write(data)
	})
}

// registry serves the bundle on loopback.
func (b *bundle) registry(t *testing.T) (host string) {
	t.Helper()
	server := httptest.NewServer(b.handler())
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// archive is the bundle as an OCI archive.
func (b *bundle) archive(t *testing.T, name string) io.Reader {
	t.Helper()
	root := b.root
	root.Annotations = map[string]string{images.AnnotationImageName: name}
	index, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{root}})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	put := func(name string, data []byte) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	put("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	put("index.json", index)
	for d, data := range b.blobs {
		put("blobs/sha256/"+d.Encoded(), data)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &out
}

// layerWith is an uncompressed layer of one file.
func layerWith(t *testing.T, name, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// expectNothing fails unless all that a store keeps is gone once it is collected.
func expectNothing(t *testing.T, s *Store, meta *metadata.DB) {
	t.Helper()
	ctx := s.scope(context.Background())
	leases, err := s.config.Client.LeasesService().List(ctx)
	if err != nil || len(leases) > 0 {
		t.Errorf("leases are left: %v, %v", leases, err)
	}
	if _, err := meta.GarbageCollect(ctx); err != nil {
		t.Fatal(err)
	}
	if left, err := s.config.Client.ImageService().List(ctx); err != nil || len(left) > 0 {
		t.Errorf("images are left: %v, %v", left, err)
	}
	blobs := s.config.Client.ContentStore()
	if err := blobs.Walk(ctx, func(i content.Info) error { return fmt.Errorf("%s is left", i.Digest) }); err != nil {
		t.Error(err)
	}
	if begun, err := blobs.ListStatuses(ctx); err != nil || len(begun) > 0 {
		t.Errorf("begun blobs are left: %v, %v", begun, err)
	}
	err = s.config.Client.SnapshotService(s.config.Snapshotter).Walk(ctx, func(_ context.Context, i snapshots.Info) error {
		return fmt.Errorf("snapshot %s is left", i.Name)
	})
	if err != nil {
		t.Error(err)
	}
}

// Of an image that does not fit together nothing stays, whether it was pulled or
// imported, and it says why.
func TestImagesThatDoNotFitTogether(t *testing.T) {
	good := layerWith(t, "a", "text")
	for name, test := range map[string]struct {
		bundle         *bundle
		pull, imported string // part of the error; "-": as for pull
	}{
		"garbage in the second layer": {newBundle([][]byte{good, bytes.Repeat([]byte("no archive "), 100)}, nil), "invalid tar header", "-"},
		"a layer that is cut":         {newBundle([][]byte{good, layerWith(t, "b", strings.Repeat("x", 9000))[:5000]}, nil), "unexpected EOF", "-"},
		"a layer that is another": {newBundle([][]byte{good}, func(_ *bundle, c *ocispec.Image, _ *ocispec.Manifest) {
			c.RootFS.DiffIDs[0] = digest.FromString("another")
		}), "wrong diff id", "-"},
		"fewer layers than it says": {newBundle([][]byte{good}, func(_ *bundle, c *ocispec.Image, _ *ocispec.Manifest) {
			c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, digest.FromString("more"))
		}), "layers and diffIDs don't match", "mismatched image rootfs and manifest layers"},
		"a layer of an unknown kind": {newBundle([][]byte{good}, func(_ *bundle, _ *ocispec.Image, m *ocispec.Manifest) {
			m.Layers[0].MediaType = "application/vnd.oci.image.layer.v1.cpio"
		}), "", ""},
		"a layer that is longer than it says": {newBundle([][]byte{good}, func(_ *bundle, _ *ocispec.Image, m *ocispec.Manifest) {
			m.Layers[0].Size = 100
		}), "expected size", "harmless"},
		"a layer that is shorter than it says": {newBundle([][]byte{good}, func(_ *bundle, _ *ocispec.Image, m *ocispec.Manifest) {
			m.Layers[0].Size = 1 << 20
		}), "", "harmless"},
		"a huge configuration": {newBundle([][]byte{good}, func(b *bundle, _ *ocispec.Image, m *ocispec.Manifest) {
			m.Config = b.add(ocispec.MediaTypeImageConfig, []byte("{}"))
			m.Config.Size = 1 << 40
		}), "bytes: more than 8388608 are not taken", "-"},
		"a configuration that is none": {newBundle([][]byte{good}, func(b *bundle, _ *ocispec.Image, m *ocispec.Manifest) {
			m.Config = b.add(ocispec.MediaTypeImageConfig, []byte("[]"))
		}), "unmarshal", "-"},
		"a layer that is missing": {newBundle([][]byte{good}, func(b *bundle, _ *ocispec.Image, m *ocispec.Manifest) {
			delete(b.blobs, m.Layers[0].Digest)
		}), "the registry has no such image", "not found"},
	} {
		t.Run(name, func(t *testing.T) {
			s, meta := newStoreOn(t, t.TempDir())
			ref := test.bundle.registry(t) + "/app:1"
			_, err := s.Pull(t.Context(), ref, nil)
			if err == nil || !strings.Contains(err.Error(), test.pull) {
				t.Errorf("pulled: %v", err)
			}
			if _, ok, err := s.Get(t.Context(), ref); ok || err != nil {
				t.Errorf("it is present: %t, %v", ok, err)
			}
			expectNothing(t, s, meta)

			want := test.imported
			if want == "-" {
				want = test.pull
			}
			_, err = s.Import(t.Context(), test.bundle.archive(t, "example.org/app:1"))
			if want == "harmless" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("imported: %v", err)
			}
			expectNothing(t, s, meta)
		})
	}
}

// An image that fails takes no name away from what has it.
func TestFailedImagesTakeNoNames(t *testing.T) {
	s, _ := newStoreOn(t, t.TempDir())
	good, bad := newBundle([][]byte{layerWith(t, "a", "text")}, nil), newBundle([][]byte{[]byte(strings.Repeat("no archive", 100))}, nil)
	host := good.registry(t)
	was, err := s.Pull(t.Context(), host+"/app:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	*good = *bad
	if _, err := s.Pull(t.Context(), host+"/app:1", nil); err == nil {
		t.Error("pulled")
	}
	if _, err := s.Import(t.Context(), bad.archive(t, host+"/app:1")); err == nil {
		t.Error("imported")
	}
	if is, ok, err := s.Get(t.Context(), host+"/app:1"); !ok || err != nil || is.ID != was.ID {
		t.Errorf("now it is %+v, %t, %v", is, ok, err)
	}
}

// Layers come from the registry, wherever else an image says that they are.
func TestLayersFromElsewhere(t *testing.T) {
	s, _ := newStoreOn(t, t.TempDir())
	asked := false
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked = true
		http.Error(w, "private", http.StatusForbidden)
	}))
	defer elsewhere.Close()
	b := newBundle([][]byte{layerWith(t, "a", "text")}, func(_ *bundle, _ *ocispec.Image, m *ocispec.Manifest) {
		m.Layers[0].URLs = []string{elsewhere.URL + "/private"}
	})
	if _, err := s.Pull(t.Context(), b.registry(t)+"/app:1", nil); err != nil || asked {
		t.Errorf("asked elsewhere: %t, %v", asked, err)
	}
}

// Names in an archive are names and nothing else.
func TestArchivesThatLeadOut(t *testing.T) {
	s, meta := newStoreOn(t, t.TempDir())
	for _, h := range []tar.Header{
		{Name: "../../../etc/shadow", Size: 3}, {Name: "/etc/shadow", Size: 3}, {Name: "manifest.json/../../x", Size: 3},
		{Name: "layer.tar", Typeflag: tar.TypeSymlink, Linkname: "/etc/shadow"}, {Name: "layer.tar", Typeflag: tar.TypeLink, Linkname: "/etc/shadow"},
		{Name: "dev", Typeflag: tar.TypeBlock, Devmajor: 8}, {Name: "pipe", Typeflag: tar.TypeFifo},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			_, _ = io.WriteString(w, "bad")
		}
		manifest := `[{"Config":"` + h.Name + `","RepoTags":["app:1"],"Layers":["` + h.Name + `"]}]`
		_ = w.WriteHeader(&tar.Header{Name: "manifest.json", Size: int64(len(manifest))})
		_, _ = io.WriteString(w, manifest)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Import(t.Context(), &b); err == nil {
			t.Errorf("%+v: imported", h)
		}
		expectNothing(t, s, meta)
	}
}

// A full disk says so, and all that was taken is given back.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s, meta := newStoreOn(t, dir)
	free := func() uint64 {
		var disk unix.Statfs_t
		if err := unix.Statfs(dir, &disk); err != nil {
			t.Fatal(err)
		}
		return disk.Bfree * uint64(disk.Bsize)
	}
	before := free()
	for name, size := range map[string]int{"unpacking": 5 << 20, "fetching": 9 << 20} {
		b := newBundle([][]byte{layerWith(t, "a", "small"), layerWith(t, "b", strings.Repeat("x", size))}, nil)
		for way, do := range map[string]func() error{
			"pull": func() error {
				_, err := s.Pull(t.Context(), b.registry(t)+"/app:1", nil)
				return err
			},
			"import": func() error {
				_, err := s.Import(t.Context(), b.archive(t, "example.org/app:1"))
				return err
			},
		} {
			err := do()
			if !errors.Is(err, ErrFull) || !errors.Is(err, unix.ENOSPC) {
				t.Errorf("%s, %s: %v", name, way, err)
			}
			expectNothing(t, s, meta)
			if now := free(); now+256<<10 < before {
				t.Errorf("%s, %s: %d bytes are free, %d were before", name, way, now, before)
			}
		}
	}
	b := newBundle([][]byte{layerWith(t, "a", "small")}, nil)
	if _, err := s.Pull(t.Context(), b.registry(t)+"/app:1", nil); err != nil {
		t.Errorf("what fits: %v", err)
	}
}
