package netns

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func own(t *testing.T, name string) string {
	t.Helper()
	s, err := os.Readlink("/proc/thread-self/ns/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
}

func TestCreateDoRemove(t *testing.T) {
	needRoot(t)
	path := filepath.Join(t.TempDir(), "dir", "net")
	t.Cleanup(func() { Remove(path) })
	if err := Create(path); err != nil {
		t.Fatal(err)
	}
	if !Exists(path) {
		t.Fatal("the namespace is not pinned")
	}
	var first unix.Stat_t
	if err := unix.Stat(path, &first); err != nil {
		t.Fatal(err)
	}
	if err := Create(path); err != nil {
		t.Fatalf("create again: %v", err)
	}
	var second unix.Stat_t
	if err := unix.Stat(path, &second); err != nil {
		t.Fatal(err)
	}
	if first.Ino != second.Ino {
		t.Error("creating it again made another namespace")
	}

	outside := own(t, "net")
	err := Do(path, func() error {
		if own(t, "net") == outside {
			t.Error("Do ran outside")
		}
		ifaces, err := net.Interfaces()
		if err != nil {
			return err
		}
		if len(ifaces) != 1 || ifaces[0].Flags&net.FlagUp == 0 {
			t.Errorf("interfaces %v, want the loopback, up", ifaces)
		}
		return os.ErrClosed
	})
	if !errors.Is(err, os.ErrClosed) {
		t.Errorf("Do returned %v, want the function's error", err)
	}
	for range 50 { // any thread left inside would turn up here
		if own(t, "net") != outside {
			t.Fatal("a thread stayed in the namespace")
		}
	}
	for range 2 {
		if err := Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("stat after remove: %v", err)
	}
	if err := Do(path, func() error { return nil }); err == nil {
		t.Error("entering a removed namespace succeeded")
	}
}

func TestCreateReusesStalePin(t *testing.T) {
	needRoot(t)
	path := filepath.Join(t.TempDir(), "net")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { Remove(path) })
	if err := Create(path); err != nil {
		t.Fatal(err)
	}
	if !Exists(path) {
		t.Error("nothing is pinned over the stale file")
	}
}

func TestPanicInsideComesBackAsError(t *testing.T) {
	needRoot(t)
	path := filepath.Join(t.TempDir(), "net")
	t.Cleanup(func() { Remove(path) })
	if err := Create(path); err != nil {
		t.Fatal(err)
	}
	err := Do(path, func() error { panic("boom") })
	if err == nil || !strings.Contains(err.Error(), "boom") {
		t.Errorf("error %v", err)
	}
}

func TestNoThreadsAreLeaked(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	threads := func() int {
		es, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		return len(es)
	}
	before := threads()
	for range 100 {
		path := filepath.Join(dir, "net")
		if err := Create(path); err != nil {
			t.Fatal(err)
		}
		if err := Do(path, func() error { return nil }); err != nil {
			t.Error(err)
		}
		if err := Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if after := threads(); after > before+20 {
		t.Errorf("%d threads before, %d after", before, after)
	}
}

func TestIPCAndUTS(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	ipc, uts := filepath.Join(dir, "ipc"), filepath.Join(dir, "uts")
	t.Cleanup(func() { Remove(ipc); Remove(uts) })
	if err := CreateIPC(ipc); err != nil {
		t.Fatal(err)
	}
	if err := CreateUTS(uts, "web-0"); err != nil {
		t.Fatal(err)
	}
	if !Exists(ipc) || !Exists(uts) {
		t.Fatal("not pinned")
	}
	var inside string
	err := onThread(kind{flag: unix.CLONE_NEWUTS, name: "uts"}, func() error {
		fd, err := unix.Open(uts, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.Setns(fd, unix.CLONE_NEWUTS); err != nil {
			return err
		}
		inside, err = os.Hostname()
		return err
	})
	if err != nil || inside != "web-0" {
		t.Errorf("host name %q, %v", inside, err)
	}
	if h, _ := os.Hostname(); h == "web-0" {
		t.Error("the host's own name changed")
	}
}

func TestDialIn(t *testing.T) {
	needRoot(t)
	path := filepath.Join(t.TempDir(), "net")
	t.Cleanup(func() { Remove(path) })
	if err := Create(path); err != nil {
		t.Fatal(err)
	}
	var l net.Listener
	if err := Do(path, func() (err error) { l, err = net.Listen("tcp", "127.0.0.1:80"); return err }); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := DialIn(ctx, path, "tcp", "127.0.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, err := DialIn(ctx, path, "tcp", "localhost:80"); err == nil {
		t.Error("a name was looked up outside of the namespace")
	}
}
