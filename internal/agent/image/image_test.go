package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	api "github.com/containerd/containerd/api/services/introspection/v1"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/diff/apply"
	"github.com/containerd/containerd/v2/core/events/exchange"
	"github.com/containerd/containerd/v2/core/introspection"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/containerd/v2/plugins/diff/walking"
	"github.com/containerd/containerd/v2/plugins/snapshots/native"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	bolt "go.etcd.io/bbolt"
	"go.uber.org/zap/zaptest"

	"github.com/skiff-sh/skiff/embed"
	"github.com/skiff-sh/skiff/internal/agent"
)

// newStore returns a store over containerd's own parts in a directory that
// goes with the test.
func newStore(t *testing.T) *Store {
	t.Helper()
	s, _ := newStoreOn(t, t.TempDir())
	return s
}

// newStoreOn is newStore in a given directory. It returns who can collect, too.
func newStoreOn(t *testing.T, dir string) (*Store, *metadata.DB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("these tests mount file systems: run them as root")
	}
	blobs, err := local.NewStore(filepath.Join(dir, "content"))
	if err != nil {
		t.Fatal(err)
	}
	snapshotter, err := native.NewSnapshotter(filepath.Join(dir, "native"))
	if err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(filepath.Join(dir, "meta.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	meta := metadata.NewDB(db, blobs, map[string]snapshots.Snapshotter{"native": snapshotter})
	if err := meta.Init(t.Context()); err != nil {
		t.Fatal(err)
	}
	blobs = meta.ContentStore()
	c, err := client.New("", client.WithServices(
		client.WithContentStore(blobs), client.WithImageStore(metadata.NewImageStore(meta)),
		client.WithLeasesService(metadata.NewLeaseManager(meta)), client.WithSnapshotters(meta.Snapshotters()),
		client.WithDiffService(struct {
			diff.Comparer
			diff.Applier
		}{walking.NewWalkingDiff(blobs), syncing{apply.NewFileSystemApplier(blobs)}}),
		client.WithEventService(exchange.NewExchange()), client.WithIntrospectionService(plain{}),
	))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(c.Close(), db.Close(), snapshotter.Close()); err != nil {
			t.Error(err)
		}
	})
	s := New(Config{Client: c, Namespace: "test", Snapshotter: "native", Log: zaptest.NewLogger(t)})
	t.Cleanup(func() { s.Close() })
	return s, meta
}

// plain tells the client that its snapshotter can do nothing special.
type plain struct{ introspection.Service }

func (plain) Plugins(context.Context, ...string) (*api.PluginsResponse, error) {
	return &api.PluginsResponse{Plugins: []*api.Plugin{{}}}, nil
}

// syncing refuses to unpack what a power cut would leave empty.
type syncing struct{ diff.Applier }

func (a syncing) Apply(ctx context.Context, layer ocispec.Descriptor, mounts []mount.Mount, opts ...diff.ApplyOpt) (ocispec.Descriptor, error) {
	var config diff.ApplyConfig
	for _, o := range opts {
		if err := o(ctx, layer, &config); err != nil {
			return ocispec.Descriptor{}, err
		}
	}
	if !config.SyncFs {
		return ocispec.Descriptor{}, errors.New("the layer's files are not synced before the snapshot is recorded")
	}
	return a.Applier.Apply(ctx, layer, mounts, opts...)
}

// newImage returns an image with one file.
func newImage(t *testing.T, text string) v1.Image {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := errors.Join(
		w.WriteHeader(&tar.Header{Name: "file", Mode: 0o644, Size: int64(len(text))}),
		func() error { _, err := io.WriteString(w, text); return err }(), w.Close(),
	); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	base, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{
		Architecture: runtime.GOARCH, OS: "linux", RootFS: v1.RootFS{Type: "layers"},
		Config: v1.Config{
			Entrypoint: []string{"/entry"}, Cmd: []string{"arg"}, Env: []string{"A=b"}, User: "web:web", WorkingDir: "/work",
			StopSignal: "SIGINT", ExposedPorts: map[string]struct{}{"8080/tcp": {}, "53/udp": {}}, Volumes: map[string]struct{}{"/data": {}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.AppendLayers(base, layer)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// expectWhole checks what is told of an image against the image itself.
func expectWhole(t *testing.T, s *Store, got agent.Image, want v1.Image, ref string) {
	t.Helper()
	id, err := want.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	if got.Ref != ref || got.ID != id.String() || got.Size == 0 {
		t.Errorf("image %+v: expected %s with ID %s", got, ref, id)
	}
	if !slices.Equal(got.Entrypoint, []string{"/entry"}) || !slices.Equal(got.Cmd, []string{"arg"}) || got.User != "web:web" ||
		!slices.Equal(got.ExposedTCP, []int{8080}) || !slices.Equal(got.Volumes, []string{"/data"}) || got.StopSignal != "SIGINT" || got.WorkingDir != "/work" {
		t.Errorf("image %+v: its configuration is not the one it was made with", got)
	}
	if _, err := s.config.Client.SnapshotService("native").Stat(s.scope(t.Context()), got.RootFSChain); err != nil {
		t.Errorf("unpacked as %s: %v", got.RootFSChain, err)
	}
}

func TestNormalize(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"busybox", "docker.io/library/busybox:latest"},
		{"busybox:1.36", "docker.io/library/busybox:1.36"},
		{"skiff/hello:1", "docker.io/skiff/hello:1"},
		{"registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"},
		{"localhost:5000/a/b", "localhost:5000/a/b:latest"},
		{"busybox:1@sha256:" + strings.Repeat("a", 64), "docker.io/library/busybox@sha256:" + strings.Repeat("a", 64)},
	} {
		if got, err := Normalize(test.in); err != nil || got != test.want {
			t.Errorf("%q: %q, %v: expected %q", test.in, got, err, test.want)
		}
	}
	if _, err := Normalize("Upper/Case"); err == nil || !strings.Contains(err.Error(), `couldn't parse image name "Upper/Case"`) {
		t.Errorf("a name in capitals: %v", err)
	}
}

func TestImport(t *testing.T) {
	s := newStore(t)
	image := newImage(t, "one")
	tag, err := name.NewTag("app:1")
	if err != nil {
		t.Fatal(err)
	}
	var docker bytes.Buffer
	if err := tarball.Write(tag, image, &docker); err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := io.Copy(z, bytes.NewReader(docker.Bytes())); err != nil {
		t.Fatal(err)
	}
	z.Close()
	for name, archive := range map[string]io.Reader{
		"docker": bytes.NewReader(docker.Bytes()), "gzip": &packed, "OCI": ociArchive(t, image, "docker.io/library/app:1"),
	} {
		t.Run(name, func(t *testing.T) {
			images, err := s.Import(t.Context(), archive)
			if err != nil || len(images) != 1 {
				t.Fatalf("import: %v, %v", images, err)
			}
			expectWhole(t, s, images[0], image, "docker.io/library/app:1")
			expectKept(t, s, true, "imported")
			if err := s.Pin(t.Context(), "app:1", false); err != nil {
				t.Fatal(err)
			}
			expectKept(t, s, false, "let go")
			if err := s.Pin(t.Context(), "app:1", true); err != nil {
				t.Fatal(err)
			}
			expectKept(t, s, true, "pinned")
			if err := s.Remove(t.Context(), "app:1"); err != nil {
				t.Fatal(err)
			}
			if _, ok, err := s.Get(t.Context(), "app:1"); ok || err != nil {
				t.Errorf("get what was removed: %v, %v", ok, err)
			}
		})
	}
	for name, test := range map[string]struct {
		archive io.Reader
		want    string
	}{
		"garbage":  {strings.NewReader(strings.Repeat("garbage ", 200)), "expected an OCI or docker archive"},
		"nameless": {ociArchive(t, image, "latest"), "the archive does not name its images"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := s.Import(t.Context(), test.archive); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("import: %v: expected %q", err, test.want)
			}
		})
	}
}

// expectKept fails unless the only image is kept or not.
func expectKept(t *testing.T, s *Store, want bool, what string) {
	t.Helper()
	if list, err := s.List(t.Context()); err != nil || len(list) != 1 || list[0].Kept != want {
		t.Errorf("%s: %+v, %v", what, list, err)
	}
}

func TestImportHello(t *testing.T) {
	s := newStore(t)
	archive, err := embed.Hello()
	if err != nil {
		t.Fatalf("%v (scripts/build-helpers.sh builds what is carried)", err)
	}
	defer archive.Close()
	images, err := s.Import(t.Context(), archive)
	if err != nil || len(images) != 1 || images[0].Ref != embed.HelloImage || !slices.Equal(images[0].Entrypoint, []string{"/hello"}) {
		t.Errorf("import: %+v, %v: expected %s", images, err, embed.HelloImage)
	}
}

// ociArchive packs an OCI layout.
func ociArchive(t *testing.T, image v1.Image, ref string) io.Reader {
	t.Helper()
	dir := t.TempDir()
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendImage(image, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": ref})); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := errors.Join(w.AddFS(os.DirFS(dir)), w.Close()); err != nil {
		t.Fatal(err)
	}
	return &b
}

// newRegistry serves images on loopback; with a password set it asks for it.
// It counts the manifests that were asked for.
func newRegistry(t *testing.T, password string) (host string, asked *atomic.Int64, hold chan struct{}) {
	t.Helper()
	asked = new(atomic.Int64)
	hold = make(chan struct{})
	next := registry.New()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, given, _ := r.BasicAuth()
		if password != "" && given != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.Method == http.MethodHead && strings.Contains(r.URL.Path, "/manifests/") {
			asked.Add(1)
			if strings.Contains(r.URL.Path, "/slow/") {
				<-hold
			}
		}
		next.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://"), asked, hold
}

// push uploads an image as a registry client does.
func push(t *testing.T, image v1.Image, ref string, password string) {
	t.Helper()
	host, rest, _ := strings.Cut(ref, "/")
	repository, tag, _ := strings.Cut(rest, ":")
	put := func(method, path, mediaType string, data []byte) {
		request, err := http.NewRequestWithContext(t.Context(), method, "http://"+host+"/v2/"+repository+path, bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		request.SetBasicAuth("me", password)
		request.Header.Set("Content-Type", mediaType)
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusCreated {
			t.Fatalf("push %s: %s", path, answer.Status)
		}
	}
	blob := func(data []byte) {
		put(http.MethodPost, fmt.Sprintf("/blobs/uploads/?digest=sha256:%x", sha256.Sum256(data)), "application/octet-stream", data)
	}
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range layers {
		r, err := layer.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		blob(data)
	}
	config, err := image.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	blob(config)
	manifest, err := image.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	mediaType, err := image.MediaType()
	if err != nil {
		t.Fatal(err)
	}
	put(http.MethodPut, "/manifests/"+tag, string(mediaType), manifest)
}

func TestPull(t *testing.T) {
	s := newStore(t)
	host, _, _ := newRegistry(t, "")
	image := newImage(t, "pulled")
	push(t, image, host+"/team/app:2", "")
	got, err := s.Pull(t.Context(), host+"/team/app:2", nil)
	if err != nil {
		t.Fatal(err)
	}
	expectWhole(t, s, got, image, host+"/team/app:2")
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{host + "/team/app:2", host + "/team/app@" + digest.String(), got.ID} {
		if found, ok, err := s.Get(t.Context(), ref); !ok || err != nil || found.ID != got.ID {
			t.Errorf("get %s: %v, %v, %v", ref, found.ID, ok, err)
		}
	}
	push(t, image, host+"/team/app:3", "")
	if _, err := s.Pull(t.Context(), host+"/team/app:3", nil); err != nil {
		t.Fatal(err)
	}
	all, err := s.List(t.Context())
	if err != nil || len(all) != 1 || len(all[0].Names) != 3 {
		t.Errorf("list: %+v, %v: expected one image with two tags and a digest", all, err)
	}
}

func TestPullErrors(t *testing.T) {
	s := newStore(t)
	open, _, _ := newRegistry(t, "")
	closed, _, _ := newRegistry(t, "secret")
	push(t, newImage(t, "private"), closed+"/app:1", "secret")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	l.Close()
	for _, test := range []struct {
		name, ref   string
		credentials []agent.Credential
		want        error
	}{
		{"missing", open + "/nosuch:1", nil, ErrNotFound},
		{"anonymous", closed + "/app:1", nil, ErrUnauthorized},
		{"wrong password", closed + "/app:1", []agent.Credential{{Registry: closed, Username: "me", Password: "wrong"}}, ErrUnauthorized},
		{"right password", closed + "/app:1", []agent.Credential{{Username: "me", Password: "wrong"}, {Registry: "http://" + closed + "/v1/", Username: "me", Password: "secret"}}, nil},
		{"nobody there", nobody + "/app:1", nil, ErrUnreachable},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := s.Pull(t.Context(), test.ref, test.credentials)
			if !errors.Is(err, test.want) {
				t.Fatalf("pull: %v: expected %v", err, test.want)
			}
			prefix := fmt.Sprintf("failed to pull and unpack image %q: failed to resolve reference %q: ", test.ref, test.ref)
			if err != nil && !strings.HasPrefix(err.Error(), prefix) {
				t.Errorf("pull: %v: expected it to begin with %s", err, prefix)
			}
		})
	}
}

func TestCloseGivesUpPulls(t *testing.T) {
	s := newStore(t)
	host, asked, hold := newRegistry(t, "")
	defer close(hold)
	push(t, newImage(t, "never"), host+"/slow/app:1", "")
	ended := make(chan error)
	go func() {
		_, err := s.Pull(t.Context(), host+"/slow/app:1", nil)
		ended <- err
	}()
	for asked.Load() == 0 {
		runtime.Gosched()
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("a pull that was given up: expected an error")
	}
}

func TestConcurrentPullsAreOne(t *testing.T) {
	s := newStore(t)
	host, asked, hold := newRegistry(t, "")
	push(t, newImage(t, "once"), host+"/slow/app:1", "")
	ctx, giveUp := context.WithCancel(t.Context())
	var all sync.WaitGroup
	var failed atomic.Int64
	for i := range 8 {
		all.Go(func() {
			c := t.Context()
			if i == 0 {
				c = ctx
			}
			if _, err := s.Pull(c, host+"/slow/app:1", nil); err != nil {
				if i != 0 || !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				failed.Add(1)
			}
		})
	}
	for waiting := 0; waiting < 8; { // until everyone waits for the registry
		s.mu.Lock()
		waiting = 0
		for _, p := range s.pulls {
			waiting += p.waiters
		}
		s.mu.Unlock()
		runtime.Gosched()
	}
	giveUp() // one who gives up does not spoil it for the others
	for failed.Load() == 0 {
		runtime.Gosched()
	}
	close(hold)
	all.Wait()
	if failed.Load() != 1 || asked.Load() != 1 {
		t.Errorf("%d pulls failed, the registry was asked %d times: expected 1 and 1", failed.Load(), asked.Load())
	}
}
