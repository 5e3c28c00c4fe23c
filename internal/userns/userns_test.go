package userns

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skiff-sh/skiff/internal/netns"
)

func TestRanges(t *testing.T) {
	root := t.TempDir()
	for _, uid := range []string{"a", "b", "c", "broken", "plain"} {
		if err := os.Mkdir(filepath.Join(root, uid), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "broken", mappingFile), []byte(`{"uid`), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	take := func(uid string, want uint32) {
		t.Helper()
		for range 2 { // what a Pod has stays
			if got, err := r.Take(uid); got != want || err != nil {
				t.Errorf("%s has %d, %v; want %d", uid, got, err, want)
			}
		}
	}
	take("a", Size)
	take("b", 2*Size)
	if r, err = Open(root); err != nil { // after a restart
		t.Fatal(err)
	}
	take("c", 3*Size)
	take("a", Size)
	r.Free("a")
	take("broken", Size)
	if _, ok := r.Of("plain"); ok {
		t.Error("a Pod that took nothing has something")
	}
	if _, err := r.Take("absent"); err == nil {
		t.Error("a Pod without a directory has IDs that nobody remembers")
	}
}

func TestCreate(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("makes namespaces: needs root")
	}
	dir := t.TempDir()
	p := Pins{User: dir + "/user/u", Net: dir + "/net/u", IPC: dir + "/ipc/u", UTS: dir + "/uts/u"}
	t.Cleanup(func() {
		for _, path := range []string{p.User, p.Net, p.IPC, p.UTS} {
			if err := netns.Remove(path); err != nil {
				t.Error(err)
			}
		}
	})
	for range 2 { // the second time they are there
		if err := Create(p, 5*Size, "pod"); err != nil {
			t.Fatal(err)
		}
	}
	err := netns.Do(p.Net, func() error {
		data, err := os.ReadFile("/proc/thread-self/net/if_inet6")
		if err == nil && !strings.Contains(string(data), " lo") {
			t.Errorf("interfaces: %s", data)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
