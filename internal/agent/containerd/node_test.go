package containerd

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/opencontainers/image-spec/identity"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/skiff-sh/skiff/embed"
	"github.com/skiff-sh/skiff/internal/agent"
	"github.com/skiff-sh/skiff/internal/config"
)

// deadline is how long a test waits for anything.
const deadline = 20 * time.Second

// daemonVariable may name a containerd daemon's socket: the tests then use it
// instead of containerd in their own process.
const daemonVariable = "SKIFF_TEST_CONTAINERD"

// node is a runtime under test with the image that its containers use.
type node struct {
	*Runtime
	t      testing.TB
	config Config
	image  agent.Image
}

// newNode opens a runtime of its own. At the end of the test nothing of it may
// be left on the machine.
func newNode(t testing.TB) *node {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("these tests run containers: run them as root")
	}
	dir := t.TempDir()
	bin := func(name string) string {
		path, err := embed.Unpack("/tmp/skiff-test-bin", name)
		if err != nil {
			t.Fatalf("%v (scripts/build-helpers.sh builds the helpers)", err)
		}
		return path
	}
	host := config.NewHost(filepath.Join(dir, "data"))
	n := &node{t: t, config: Config{Host: host, Address: os.Getenv(daemonVariable), Runc: bin(embed.Runc), Shim: bin(embed.Shim), Log: zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))}}
	n.open()
	t.Cleanup(n.cleanUp)
	n.image = n.importBusybox()
	return n
}

func (n *node) open() {
	n.t.Helper()
	r, err := Open(n.t.Context(), n.config)
	if err != nil {
		n.t.Fatal(err)
	}
	n.Runtime = r
}

func (n *node) cleanUp() {
	if err := n.RemoveAll(context.Background()); err != nil {
		n.t.Error(err)
	}
	if err := n.Close(); err != nil {
		n.t.Error(err)
	}
	n.expectNothingLeft()
	if err := os.RemoveAll(n.config.Host.RunDir); err != nil {
		n.t.Error(err)
	}
	matches, _ := filepath.Glob("/sys/fs/cgroup/*/" + n.config.Host.CgroupRoot)
	for _, dir := range append(matches, "/sys/fs/cgroup/"+n.config.Host.CgroupRoot) {
		pods, _ := filepath.Glob(filepath.Join(dir, "*"))
		for _, pod := range pods {
			os.Remove(pod)
		}
		os.Remove(dir)
	}
}

// expectNothingLeft looks for mounts, processes and container cgroups.
func (n *node) expectNothingLeft() {
	n.t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		n.t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, n.config.Host.RunDir) || strings.Contains(line, n.config.Host.DataDir) {
			n.t.Errorf("mount left: %s", line)
		}
	}
	for pid, command := range processes(n.t) {
		if strings.Contains(command, n.config.Host.RunDir) {
			n.t.Errorf("process left: %s %q", pid, command)
		}
	}
	left, _ := filepath.Glob("/sys/fs/cgroup/*/" + n.config.Host.CgroupRoot + "/*/*/cgroup.procs")
	if len(left) > 0 {
		n.t.Errorf("cgroups left: %v", left)
	}
}

// processes returns command lines by process number.
func processes(t testing.TB) map[string]string {
	t.Helper()
	all := map[string]string{}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		if data, err := os.ReadFile(filepath.Join(dir, "cmdline")); err == nil {
			all[filepath.Base(dir)] = strings.ReplaceAll(string(data), "\x00", " ")
		}
	}
	return all
}

// importBusybox makes an image of this machine's static busybox.
func (n *node) importBusybox() agent.Image {
	n.t.Helper()
	return importImage(n.t, n.Runtime, busyboxImage(n.t), "docker.io/library/busybox:test")
}

func importImage(t testing.TB, r *Runtime, image v1.Image, ref string) agent.Image {
	t.Helper()
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := tarball.Write(tag, image, &archive); err != nil {
		t.Fatal(err)
	}
	ctx := r.scope(t.Context())
	images, err := r.Client().Import(ctx, &archive)
	if err != nil {
		t.Fatal(err)
	}
	unpacked := client.NewImage(r.Client(), images[0])
	if err := unpacked.Unpack(ctx, r.Snapshotter()); err != nil {
		t.Fatal(err)
	}
	layers, err := unpacked.RootFS(ctx)
	if err != nil {
		t.Fatal(err)
	}
	id, err := unpacked.Config(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return agent.Image{Ref: ref, ID: id.Digest.String(), RootFSChain: identity.ChainID(layers).String()}
}

func busyboxImage(t testing.TB) v1.Image {
	t.Helper()
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatalf("%v (apt-get install busybox-static)", err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, data string) {
		h.Size = int64(len(data))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, data); err != nil {
			t.Fatal(err)
		}
	}
	add(tar.Header{Name: "bin/", Typeflag: tar.TypeDir, Mode: 0o755}, "")
	add(tar.Header{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o755}, "")
	add(tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}, "")
	add(tar.Header{Name: "bin/busybox", Mode: 0o755}, string(busybox))
	for _, applet := range []string{"sh", "cat", "echo", "sleep", "id", "stty", "dd", "seq", "head", "tail", "grep", "ls", "kill", "true", "ps", "touch", "tr"} {
		add(tar.Header{Name: "bin/" + applet, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777}, "")
	}
	add(tar.Header{Name: "etc/passwd", Mode: 0o644}, "root:x:0:0::/root:/bin/sh\nweb:x:1001:1002::/:/bin/sh\n")
	add(tar.Header{Name: "etc/group", Mode: 0o644}, "root:x:0:\nweb:x:1002:\nextra:x:1003:web\n")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	base, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{Architecture: runtime.GOARCH, OS: "linux", RootFS: v1.RootFS{Type: "layers"}})
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.AppendLayers(base, layer)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func randomID() string {
	var b [32]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// container returns one that runs a shell script.
func (n *node) container(script string, change ...func(*agent.Container)) agent.Container {
	id := randomID()
	uid := id[:8] + "-0000-4000-8000-" + id[8:20]
	c := agent.Container{
		ID: id, Name: "main", Image: n.image, Args: []string{"/bin/sh", "-c", script},
		Pod: agent.PodRef{
			UID: uid, Namespace: "default", Name: "pod",
			CgroupParent: n.config.Host.CgroupRoot + "/pod" + uid,
		},
		MaskedPaths: true,
		LogPath:     filepath.Join(n.config.Host.LogDir, uid, "main", "0.log"),
	}
	for _, f := range change {
		f(&c)
	}
	return c
}

// run creates and starts a container.
func (n *node) run(c agent.Container) agent.Container {
	n.t.Helper()
	if err := n.Create(n.t.Context(), c); err != nil {
		n.t.Fatal(err)
	}
	if err := n.Start(n.t.Context(), c.ID); err != nil {
		n.t.Fatal(err)
	}
	return c
}

// follow collects states so that tests can wait for them.
type follow struct {
	t    testing.TB
	mu   sync.Mutex // of seen
	seen []agent.ContainerState
	more chan struct{}
}

func (n *node) follow() *follow {
	f := &follow{t: n.t, more: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	r := n.Runtime
	done.Go(func() {
		r.Follow(ctx, func(s agent.ContainerState) {
			f.mu.Lock()
			f.seen = append(f.seen, s)
			f.mu.Unlock()
			select {
			case f.more <- struct{}{}:
			default:
			}
		})
	})
	n.t.Cleanup(func() { cancel(); done.Wait() })
	// Follow is registered when it is in the runtime's set.
	for {
		r.mu.Lock()
		registered := len(r.watchers) > 0
		r.mu.Unlock()
		if registered {
			return f
		}
	}
}

func (f *follow) exit(id string) agent.ContainerState {
	f.t.Helper()
	timeout := time.After(deadline)
	for {
		f.mu.Lock()
		for _, s := range f.seen {
			if s.ID == id && s.Phase == agent.ContainerExited {
				f.mu.Unlock()
				return s
			}
		}
		f.mu.Unlock()
		select {
		case <-f.more:
		case <-timeout:
			f.t.Fatalf("container %.12s did not end: %+v", id, f.seen)
		}
	}
}

// output returns the text of a log, checking its form.
func (n *node) output(c agent.Container, stream string) string {
	n.t.Helper()
	data, err := os.ReadFile(c.LogPath)
	if err != nil {
		n.t.Fatal(err)
	}
	var out strings.Builder
	for line := range strings.Lines(string(data)) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 4)
		if len(fields) != 4 || (fields[2] != "F" && fields[2] != "P") {
			n.t.Fatalf("log line %q: expected TIME STREAM TAG TEXT", line)
		}
		if _, err := time.Parse(time.RFC3339Nano, fields[0]); err != nil {
			n.t.Fatalf("log line %q: %v", line, err)
		}
		if fields[1] == stream {
			out.WriteString(fields[3])
			if fields[2] == "F" {
				out.WriteByte('\n')
			}
		}
	}
	return out.String()
}

// waitFor looks at something that tells nobody when it changes.
func (n *node) waitFor(what string, ok func() bool) {
	n.t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	timeout := time.After(deadline)
	for !ok() {
		select {
		case <-ticker.C:
		case <-timeout:
			n.t.Fatalf("waited in vain for %s", what)
		}
	}
}
