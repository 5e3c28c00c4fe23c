package hostile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// cgroup bounds the memory of the processes in it, page cache included.
type cgroup struct {
	dir string
	v2  bool
}

// newCgroup makes a cgroup with a limit in bytes; the test's end removes it.
func newCgroup(t *testing.T, limit int64) cgroup {
	t.Helper()
	c := cgroup{dir: "/sys/fs/cgroup/memory"}
	if _, err := os.Stat(c.dir); err != nil {
		c = cgroup{dir: "/sys/fs/cgroup", v2: true}
		_ = c.write("cgroup.subtree_control", "+memory") // an error shows below
	}
	c.dir = filepath.Join(c.dir, "skiff-hostile-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(c.dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatalf("make a memory cgroup: %v", err)
	}
	t.Cleanup(func() {
		if err := os.Remove(c.dir); err != nil {
			t.Error(err)
		}
	})
	names := map[bool]string{false: "memory.limit_in_bytes", true: "memory.max"}
	if err := c.write(names[c.v2], strconv.FormatInt(limit, 10)); err != nil {
		t.Fatalf("limit memory: %v", err)
	}
	if c.v2 {
		_ = c.write("memory.swap.max", "0") // where there is swap at all
	}
	return c
}

func (c cgroup) write(file, value string) error {
	return os.WriteFile(filepath.Join(c.dir, file), []byte(value), 0o644)
}

// procs is the file to which a process writes itself to join.
func (c cgroup) procs() string { return filepath.Join(c.dir, "cgroup.procs") }

// anonymous is the memory of the group that cannot be dropped, in bytes.
func (c cgroup) anonymous() (int64, error) {
	if c.v2 {
		return c.field("memory.stat", "anon")
	}
	return c.field("memory.stat", "total_rss")
}

// kills is how many processes the kernel ended for want of memory.
func (c cgroup) kills() (int64, error) {
	if c.v2 {
		return c.field("memory.events", "oom_kill")
	}
	return c.field("memory.oom_control", "oom_kill")
}

func (c cgroup) field(file, name string) (int64, error) {
	data, err := os.ReadFile(filepath.Join(c.dir, file))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		}
	}
	return 0, fmt.Errorf("no %s in %s", name, file)
}

// cores is where cgroups of version 1 share out the cores.
const cores = "/sys/fs/cgroup/cpu"

// favour gives this process, which is the witness, and the servers that it starts the
// cores before the attackers, and those before whatever else the machine has to do: who
// gets a core is not what is tested. It returns the file by which attackers join their
// group.
func favour(t *testing.T) (attackers string) {
	t.Helper()
	own, err := shareOf(t, "", 262144)
	if err == nil {
		attackers, err = shareOf(t, "-attackers", 16384)
	}
	if err == nil {
		t.Cleanup(func() {
			if err := os.WriteFile(filepath.Join(cores, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
				t.Error(err)
			}
		})
		err = os.WriteFile(own, []byte(strconv.Itoa(os.Getpid())), 0o644)
	}
	if err != nil {
		t.Logf("figures depend on what else runs: %v", err)
		return os.DevNull
	}
	return attackers
}

// shareOf makes a group with shares of the cores, which the test's end removes.
func shareOf(t *testing.T, name string, shares int) (procs string, err error) {
	t.Helper()
	dir := filepath.Join(cores, "skiff-hostile-"+strconv.Itoa(os.Getpid())+name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(dir, "cgroup.procs"), os.WriteFile(filepath.Join(dir, "cpu.shares"), []byte(strconv.Itoa(shares)), 0o644)
}
