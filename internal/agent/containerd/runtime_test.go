package containerd

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
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

func TestRunToExit(t *testing.T) {
	n := newNode(t)
	f := n.follow()
	c := n.run(n.container("echo out; echo err >&2; exit 7"))
	s := f.exit(c.ID)
	if s.ExitCode != 7 || s.OOMKilled || s.StartedAt.IsZero() || s.FinishedAt.Before(s.StartedAt) {
		t.Errorf("state %+v: expected exit code 7 and times in order", s)
	}
	if out, err := n.output(c, "stdout"), n.output(c, "stderr"); out != "out\n" || err != "err\n" {
		t.Errorf("logs %q and %q: expected out and err", out, err)
	}
	if err := n.Kill(t.Context(), c.ID, int(syscall.SIGTERM)); err != nil {
		t.Errorf("kill what has ended: %v", err)
	}
	if err := n.Create(t.Context(), c); !IsExist(err) {
		t.Errorf("create again: %v: expected IsExist", err)
	}
	if got, ok, _ := n.State(t.Context(), c.ID); !ok || got != s {
		t.Errorf("state %+v: expected %+v", got, s)
	}
	if err := n.Remove(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	if _, ok, _ := n.State(t.Context(), c.ID); ok {
		t.Error("a removed container is still known")
	}
	if err := n.Remove(t.Context(), c.ID); err != nil {
		t.Errorf("remove again: %v", err)
	}
}

func TestKillAndFailedCreate(t *testing.T) {
	n := newNode(t)
	f := n.follow()
	c := n.run(n.container("trap 'exit 3' TERM; echo ready; while true; do sleep 1000 & wait; done"))
	if err := n.Kill(t.Context(), c.ID, int(syscall.SIGKILL)); err != nil {
		t.Fatal(err)
	}
	if s := f.exit(c.ID); s.ExitCode != 137 {
		t.Errorf("exit code %d: expected 137", s.ExitCode)
	}
	bad := n.container("", func(c *agent.Container) { c.Args = []string{"/nosuch"} })
	err := n.Create(t.Context(), bad)
	const text = `failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: exec: "/nosuch": stat /nosuch: no such file or directory: unknown`
	if err == nil || err.Error() != text || !errors.As(err, new(agent.RunError)) {
		t.Errorf("create: %v\nexpected the RunError %s", err, text)
	}
	stranger := n.container("true", func(c *agent.Container) { c.User = agent.User{Spec: "nobody"} })
	if err := n.Create(t.Context(), stranger); err == nil || errors.As(err, new(agent.RunError)) {
		t.Errorf("create for a user who is not there: %v: expected an error of the description", err)
	}
	if err := n.Create(t.Context(), n.container("true", func(c *agent.Container) { c.ID = bad.ID })); err != nil {
		t.Errorf("create with the ID of a failed create: %v", err)
	}
}

func TestOOM(t *testing.T) {
	n := newNode(t)
	f := n.follow()
	c := n.run(n.container("x=$(cat /dev/zero | tr '\\0' x)", func(c *agent.Container) {
		c.Args = []string{"/bin/tail", "/dev/zero"}
		c.Resources = agent.Resources{MemoryLimit: 16 << 20, CPUShares: 100, CPUQuota: 100000, CPUPeriod: 100000, PidsLimit: 50, OOMScoreAdj: -997}
	}))
	if s := f.exit(c.ID); !s.OOMKilled || s.ExitCode != 137 {
		t.Errorf("state %+v: expected an OOM kill", s)
	}
}

func TestConfinement(t *testing.T) {
	n := newNode(t)
	f := n.follow()
	show := "grep -E '^(Seccomp|CapEff|CapBnd|NoNewPrivs|Uid|Gid|Groups):' /proc/self/status"
	for _, test := range []struct {
		name   string
		change func(*agent.Container)
		want   []string
	}{
		{"default", func(*agent.Container) {}, []string{"Seccomp:\t2", "CapEff:\t00000000a80425fb", "NoNewPrivs:\t0"}},
		{"unconfined", func(c *agent.Container) { c.Seccomp = "unconfined"; c.NoNewPrivs = true }, []string{"Seccomp:\t0", "NoNewPrivs:\t1"}},
		{"user", func(c *agent.Container) { c.User = agent.User{Spec: "web", Groups: []int64{7}} }, []string{"Uid:\t1001", "Gid:\t1002", "Groups:\t7 1003", "CapEff:\t0000000000000000"}},
		{"strict groups", func(c *agent.Container) { c.User = agent.User{Spec: "1001:5", Strict: true, Groups: []int64{7}} }, []string{"Uid:\t1001", "Gid:\t5\t", "Groups:\t7 \n"}},
		{"numbers", func(c *agent.Container) { c.User = agent.User{Spec: "4000"} }, []string{"Uid:\t4000", "Gid:\t0"}},
		{"drop all", func(c *agent.Container) { c.CapDrop = []string{"ALL"}; c.CapAdd = []string{"NET_BIND_SERVICE"} }, []string{"CapBnd:\t0000000000000400"}},
		{"privileged", func(c *agent.Container) { c.Privileged = true }, []string{"Seccomp:\t0"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := n.run(n.container(show, test.change))
			f.exit(c.ID)
			out := n.output(c, "stdout")
			for _, want := range test.want {
				if !strings.Contains(out, want) {
					t.Errorf("%s\nexpected %q", out, want)
				}
			}
		})
	}
}

func TestExec(t *testing.T) {
	n := newNode(t)
	c := n.run(n.container("sleep 1000", func(c *agent.Container) { c.Env = []string{"COLOR=green"} }))
	var out, errs bytes.Buffer
	code, err := n.Exec(t.Context(), c.ID, agent.Exec{
		Args:    []string{"/bin/sh", "-c", "cat; echo $COLOR; echo bad >&2; exit 5"},
		Streams: agent.Streams{In: strings.NewReader("from stdin\n"), Out: &out, Err: &errs},
	})
	if err != nil || code != 5 || out.String() != "from stdin\ngreen\n" || errs.String() != "bad\n" {
		t.Errorf("exec: %d, %v, %q, %q", code, err, out.String(), errs.String())
	}

	out.Reset()
	resize := make(chan [2]uint16, 1)
	resize <- [2]uint16{100, 40}
	in, typed := io.Pipe()
	first := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-first
		io.WriteString(typed, "stty size; tty=$(ls -l /proc/self/fd/0); echo ${tty##*/dev}; exit\n")
	}()
	code, err = n.Exec(t.Context(), c.ID, agent.Exec{
		Args: []string{"/bin/sh"}, TTY: true, Resize: resize,
		Streams: agent.Streams{In: in, Out: &signalling{w: &out, first: first}},
	})
	<-done
	if err != nil || code != 0 || !strings.Contains(out.String(), "40 100\r\n") || !strings.Contains(out.String(), "/pts/0\r\n") {
		t.Errorf("exec with a terminal: %d, %v, %q", code, err, out.String())
	}

	_, err = n.Exec(t.Context(), c.ID, agent.Exec{Args: []string{"/nosuch"}})
	if err == nil || !strings.Contains(err.Error(), `OCI runtime exec failed: exec failed: unable to start container process: exec: "/nosuch": stat /nosuch: no such file or directory: unknown`) {
		t.Errorf("exec of what does not exist: %v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan struct{})
	go func() { <-started; cancel() }()
	_, err = n.Exec(ctx, c.ID, agent.Exec{
		Args:    []string{"/bin/sh", "-c", "echo up; exec sleep 4321"},
		Streams: agent.Streams{Out: &signalling{w: io.Discard, first: started}},
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("exec that was given up: %v", err)
	}
	n.waitFor("the process of a broken exec to end", func() bool {
		for _, command := range processes(t) {
			if strings.Contains(command, "sleep 4321") {
				return false
			}
		}
		return true
	})
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

// signalling tells when the first byte was written.
type signalling struct {
	w     io.Writer
	once  sync.Once
	first chan struct{}
}

func (s *signalling) Write(b []byte) (int, error) {
	s.once.Do(func() { close(s.first) })
	return s.w.Write(b)
}

func TestAttach(t *testing.T) {
	n := newNode(t)
	f := n.follow()
	c := n.run(n.container("cat; echo end", func(c *agent.Container) { c.Stdin, c.StdinOnce = true, true }))
	var out bytes.Buffer
	if err := n.Attach(t.Context(), c.ID, agent.Streams{In: strings.NewReader("typed\n"), Out: &out}); err != nil {
		t.Fatal(err)
	}
	f.exit(c.ID)
	if out.String() != "typed\nend\n" || n.output(c, "stdout") != "typed\nend\n" {
		t.Errorf("attached %q, logged %q", out.String(), n.output(c, "stdout"))
	}
}

func TestTerminal(t *testing.T) {
	n := newNode(t)
	f := n.follow()
	c := n.run(n.container("read x; stty size; echo got $x", func(c *agent.Container) { c.Stdin, c.TTY = true, true }))
	if err := n.Resize(t.Context(), c.ID, 90, 30); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := n.Attach(t.Context(), c.ID, agent.Streams{In: strings.NewReader("word\n"), Out: &out}); err != nil {
		t.Fatal(err)
	}
	f.exit(c.ID)
	if logged := n.output(c, "stdout"); !strings.Contains(logged, "30 90\n") || !strings.Contains(logged, "got word\n") {
		t.Errorf("logged %q", logged)
	}
}

func TestLogRotation(t *testing.T) {
	n := newNode(t)
	f := n.follow()
	c := n.run(n.container("echo one; read x; echo two; head -c 40000 /dev/zero | tr '\\0' x", func(c *agent.Container) { c.Stdin, c.StdinOnce = true, true }))
	n.waitFor("the first line", func() bool {
		data, _ := os.ReadFile(c.LogPath)
		return bytes.HasSuffix(data, []byte("one\n"))
	})
	if err := os.Rename(c.LogPath, c.LogPath+".1"); err != nil {
		t.Fatal(err)
	}
	if err := n.ReopenLog(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	if err := n.Attach(t.Context(), c.ID, agent.Streams{In: strings.NewReader("go\n")}); err != nil {
		t.Fatal(err)
	}
	f.exit(c.ID)
	if got, want := n.output(c, "stdout"), "two\n"+strings.Repeat("x", 40000); got != want {
		t.Errorf("logged %d bytes: expected %d", len(got), len(want))
	}
}

func TestAdoption(t *testing.T) {
	n := newNode(t)
	running := n.run(n.container("sleep 1000"))
	created := n.container("sleep 1000", func(c *agent.Container) { c.Pod = running.Pod })
	if err := n.Create(t.Context(), created); err != nil {
		t.Fatal(err)
	}
	f := n.follow()
	ended := n.run(n.container("exit 4", func(c *agent.Container) { c.Attempt = 2 }))
	f.exit(ended.ID)
	later := n.run(n.container("echo begin; read x; echo later; exit 6", func(c *agent.Container) { c.Stdin, c.StdinOnce = true, true }))
	before, _ := n.List(t.Context())

	// A killed skiff may leave a record with a snapshot, and no more.
	half := n.container("true")
	if _, err := n.store.client.ContainerService().Create(n.scope(t.Context()), n.record(half)); err != nil {
		t.Fatal(err)
	}
	if _, err := n.store.client.SnapshotService(n.Snapshotter()).Prepare(n.scope(t.Context()), half.ID, half.Image.RootFSChain); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n.open()
	after, _ := n.List(t.Context())
	if len(after) != len(before) {
		t.Fatalf("%d containers: expected %d", len(after), len(before))
	}
	for i := range before {
		a, b := after[i], before[i]
		if !a.CreatedAt.Equal(b.CreatedAt) || !a.StartedAt.Equal(b.StartedAt) || !a.FinishedAt.Equal(b.FinishedAt) {
			t.Errorf("times of %+v: expected %+v", a, b)
		}
		a.CreatedAt, a.StartedAt, a.FinishedAt = b.CreatedAt, b.StartedAt, b.FinishedAt
		if a != b {
			t.Errorf("adopted %+v: expected %+v", a, b)
		}
	}
	if _, err := n.store.client.SnapshotService(n.Snapshotter()).Stat(n.scope(t.Context()), half.ID); err == nil {
		t.Error("the snapshot of a container that was not finished is left")
	}
	f = n.follow()
	if err := n.Attach(t.Context(), later.ID, agent.Streams{In: strings.NewReader("x\n")}); err != nil {
		t.Fatal(err)
	}
	if s := f.exit(later.ID); s.ExitCode != 6 || !strings.HasSuffix(n.output(later, "stdout"), "later\n") {
		t.Errorf("after adoption: %+v", s)
	}
	if err := n.Start(t.Context(), created.ID); err != nil {
		t.Errorf("start what was created before: %v", err)
	}
}

func TestShimKilled(t *testing.T) {
	n := newNode(t)
	f := n.follow()
	c := n.run(n.container("sleep 1000"))
	s, _, _ := n.State(t.Context(), c.ID)
	pid, err := shimPID(n.podDir(c.Pod.UID))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got := f.exit(c.ID); got.ExitCode != exitKilled {
		t.Errorf("exit code %d: expected %d", got.ExitCode, exitKilled)
	}
	n.waitFor("the container's process to end", func() bool { return syscall.Kill(s.PID, 0) != nil })
	again := n.run(n.container("exit 9", func(a *agent.Container) { a.Pod = c.Pod }))
	if got := f.exit(again.ID); got.ExitCode != 9 {
		t.Errorf("in a new shim: %+v", got)
	}
}

func TestShimStaysForNextContainer(t *testing.T) {
	n := newNode(t)
	f := n.follow()
	c := n.run(n.container("exit 1"))
	f.exit(c.ID)
	before, err := shimPID(n.podDir(c.Pod.UID))
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Remove(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	c2 := n.run(n.container("exit 2", func(a *agent.Container) { a.Pod = c.Pod }))
	f.exit(c2.ID)
	if after, _ := shimPID(n.podDir(c.Pod.UID)); after != before {
		t.Errorf("shim %d: expected %d", after, before)
	}
	if err := n.RemovePod(t.Context(), c.Pod.UID); err != nil {
		t.Fatal(err)
	}
	n.waitFor("the shim to end", func() bool { return syscall.Kill(before, 0) != nil })
	if _, err := os.Stat(n.podDir(c.Pod.UID)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the Pod's directory is left: %v", err)
	}
}

func TestReboot(t *testing.T) {
	n := newNode(t)
	f := n.follow()
	c := n.run(n.container("sleep 1000", func(c *agent.Container) { c.Attempt = 3 }))
	if err := n.Kill(t.Context(), c.ID, int(syscall.SIGKILL)); err != nil {
		t.Fatal(err)
	}
	f.exit(c.ID)
	// After a reboot the run directory is empty and the boot another one.
	service := n.Client().ContainerService()
	record, err := service.Get(n.scope(t.Context()), c.ID)
	if err != nil {
		t.Fatal(err)
	}
	record.Labels[labelBoot] = "another"
	if _, err := service.Update(n.scope(t.Context()), record, "labels."+labelBoot); err != nil {
		t.Fatal(err)
	}
	if err := n.deleteTask(t.Context(), c.Pod.UID, c.ID); err != nil {
		t.Fatal(err)
	}
	if err := n.removeBundle(c.ID, n.bundle(c.Pod.UID, c.ID)); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n.open()
	s, ok, err := n.State(t.Context(), c.ID)
	if err != nil || !ok || s.Phase != agent.ContainerExited || s.ExitCode != exitUnknown || s.Attempt != 3 || s.LogPath != c.LogPath {
		t.Errorf("after a reboot: %+v, %v, %v: expected its third attempt to have ended", s, ok, err)
	}
	if again := n.run(n.container("true", func(a *agent.Container) { a.Pod = c.Pod })); again.ID == c.ID {
		t.Error("a new container has the old one's ID")
	}
}
