package containerd

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/skiff-sh/skiff/internal/agent"
)

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
		if !reflect.DeepEqual(a, b) {
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

// TestLostSnapshots makes what a crash between a snapshot's directory and its
// record leaves, also in a store that has no record yet.
func TestLostSnapshots(t *testing.T) {
	n := newNode(t)
	if n.config.Address != "" {
		t.Skip("a daemon looks after its own directories")
	}
	dir := filepath.Join(n.dataDir(), n.Snapshotter(), "snapshots")
	for number := range 20 {
		err := os.Mkdir(filepath.Join(dir, strconv.Itoa(number)), 0o700)
		if err != nil && !errors.Is(err, os.ErrExist) {
			t.Fatal(err)
		}
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n.open()
	n.run(n.container("true"))

	empty := t.TempDir()
	if err := os.MkdirAll(filepath.Join(empty, "snapshots", "1"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := removeLost(t.Context(), empty); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(filepath.Join(empty, "snapshots")); len(left) > 0 {
		t.Errorf("left of a store without records: %v", left)
	}
}

func TestSecondRuntime(t *testing.T) {
	n := newNode(t)
	if n.config.Address != "" {
		t.Skip("a daemon may have many clients")
	}
	_, err := Open(t.Context(), n.config)
	if err == nil || !strings.Contains(err.Error(), "does another skiff use this data directory?") {
		t.Errorf("a second runtime on the same data: %v", err)
	}
}
