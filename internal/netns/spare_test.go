package netns

import (
	"fmt"
	"net"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		t.Fatal(err)
	}
	return s.Ino
}

func TestSpares(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	path := func(name string) string {
		t.Cleanup(func() { Remove(filepath.Join(dir, name)) })
		return filepath.Join(dir, name)
	}
	var s Spares
	if err := s.Create(path("none")); err != nil {
		t.Fatalf("without a spare: %v", err)
	}
	if err := s.Fill(); err != nil {
		t.Fatal(err)
	}
	held := map[string]uint64{}
	for name, f := range s.files {
		held[name] = inode(t, fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	}
	if err := s.Fill(); err != nil { // there is one of each
		t.Fatal(err)
	}
	if err := s.Create(path("net")); err != nil {
		t.Fatal(err)
	}
	if err := s.CreateIPC(path("ipc")); err != nil {
		t.Fatal(err)
	}
	for name, want := range held {
		if got := inode(t, filepath.Join(dir, name)); got != want || !Exists(filepath.Join(dir, name)) {
			t.Errorf("%s namespace %d is pinned: expected the spare one, %d", name, got, want)
		}
	}
	if len(held) != 2 || len(s.files) != 0 {
		t.Errorf("there were %v, %v are left: expected one of each, and none", held, s.files)
	}
	if err := Do(filepath.Join(dir, "net"), func() error {
		links, err := net.Interfaces()
		if err == nil && (len(links) != 1 || links[0].Flags&net.FlagUp == 0) {
			t.Errorf("interfaces %v, want the loopback, up", links)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	if err := s.Create(path("other")); err != nil {
		t.Fatal(err)
	}
	if inode(t, filepath.Join(dir, "other")) == held["net"] {
		t.Error("a spare was given to two")
	}
}
