package containerd

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/internal/agent"
)

const everything = uint64(1)<<41 - 1

func TestGrantedCapabilities(t *testing.T) {
	prefixed := func(names ...string) []string {
		var out []string
		for _, n := range names {
			out = append(out, "CAP_"+n)
		}
		return out
	}
	byNumber := slices.Clone(defaultCapabilities)
	slices.SortFunc(byNumber, func(a, b string) int { return slices.Index(capabilities[:], a) - slices.Index(capabilities[:], b) })
	without := slices.DeleteFunc(slices.Clone(byNumber), func(n string) bool { return n == "MKNOD" })
	for _, test := range []struct {
		name       string
		privileged bool
		add, drop  []string
		held       uint64
		want       []string
	}{
		{"default", false, nil, nil, everything, prefixed(byNumber...)},
		{"drop one", false, nil, []string{"mknod"}, everything, prefixed(without...)},
		{"drop all, add some", false, []string{"SYS_TIME", "CAP_NET_ADMIN"}, []string{"ALL"}, everything, prefixed("NET_ADMIN", "SYS_TIME")},
		{"add all", false, []string{"ALL"}, nil, everything, prefixed(capabilities[:]...)},
		{"privileged", true, nil, []string{"ALL"}, everything, prefixed(capabilities[:]...)},
		{"not held", true, nil, nil, 1<<0 | 1<<5, prefixed("CHOWN", "KILL")},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, grantedCapabilities(test.privileged, test.add, test.drop, test.held)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSpec(t *testing.T) {
	m := machine{capabilities: everything, swapLimit: true, oomScoreAdj: -100, unifiedCgroups: true}
	c := agent.Container{
		ID: "abc", Args: []string{"/run"}, Env: []string{"A=b"}, Hostname: "pod", MaskedPaths: true, ReadOnlyRootfs: true,
		Pod: agent.PodRef{NetNS: "/net", IPCNS: "/ipc", UTSNS: "/uts", CgroupParent: "kubepods/podX"},
		Mounts: []agent.Mount{
			{Source: "/host/deep", Target: "/data/deep", ReadOnly: true},
			{Source: "/host", Target: "/data", Propagation: "rslave"},
			{Source: "/host/shm", Target: "/dev/shm"},
			{Source: "tmpfs", Target: "/cache", Options: []string{"size=1m"}},
		},
		Resources: agent.Resources{MemoryLimit: 1 << 20, Swap: 4096, OOMScoreAdj: -997, CPUShares: 512},
	}
	s, err := newSpec(c, m)
	if err != nil {
		t.Fatal(err)
	}
	if *s.Process.OOMScoreAdj != -100 {
		t.Errorf("OOM score %d: expected the lowest that may be given", *s.Process.OOMScoreAdj)
	}
	if s.Linux.Resources.Memory.Swap != nil || s.Linux.Resources.Unified["memory.swap.max"] != "4096" || *s.Linux.Resources.CPU.Shares != 512 || s.Linux.Resources.CPU.Quota != nil {
		t.Errorf("resources %+v", s.Linux.Resources)
	}
	if s.Linux.CgroupsPath != "/kubepods/podX/abc" || s.Hostname != "pod" || s.Process.Cwd != "/" || s.Linux.RootfsPropagation != "rslave" {
		t.Errorf("cgroup %s, host name %s, directory %s, propagation %s", s.Linux.CgroupsPath, s.Hostname, s.Process.Cwd, s.Linux.RootfsPropagation)
	}
	if diff := cmp.Diff([]string{"A=b", "PATH=" + defaultPath, "HOSTNAME=pod"}, s.Process.Env); diff != "" {
		t.Error(diff)
	}
	if !slices.Contains(s.Linux.MaskedPaths, "/proc/kcore") || s.Linux.Seccomp == nil {
		t.Error("expected masked paths and a seccomp filter")
	}
	wantSpaces := []specs.LinuxNamespace{
		{Type: "mount"}, {Type: "pid"}, {Type: "network", Path: "/net"}, {Type: "ipc", Path: "/ipc"}, {Type: "uts", Path: "/uts"}, {Type: "cgroup"},
	}
	if diff := cmp.Diff(wantSpaces, s.Linux.Namespaces); diff != "" {
		t.Error(diff)
	}
	var targets []string
	for _, mount := range s.Mounts {
		targets = append(targets, mount.Destination)
		if mount.Destination == "/dev/shm" && mount.Source != "/host/shm" {
			t.Errorf("/dev/shm comes from %s: expected the container's own mount", mount.Source)
		}
	}
	want := "/proc /dev /sys /data /cache /dev/pts /dev/mqueue /data/deep /dev/shm /sys/fs/cgroup"
	if got := strings.Join(targets, " "); got != want {
		t.Errorf("mounts %s\nexpected %s", got, want)
	}
	if data := s.Mounts[slices.Index(targets, "/data/deep")]; !slices.Contains(data.Options, "ro") || !slices.Contains(data.Options, "rprivate") {
		t.Errorf("mount %+v: expected it private and read-only", data)
	}
}

func TestSpecOfHostPod(t *testing.T) {
	s, err := newSpec(agent.Container{ID: "abc", Hostname: "pod", Pod: agent.PodRef{PIDNS: "host"}, Privileged: true, MaskedPaths: true}, machine{capabilities: everything})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]specs.LinuxNamespace{{Type: "mount"}}, s.Linux.Namespaces); diff != "" {
		t.Error(diff)
	}
	if s.Hostname != "" || len(s.Linux.MaskedPaths) > 0 || s.Linux.Seccomp != nil || len(s.Linux.Devices) == 0 {
		t.Errorf("a privileged container with the host's namespaces: %+v", s.Linux)
	}
}

func TestSeccompProfileFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "profile.json")
	if err := os.WriteFile(path, []byte(`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	profile, err := seccompProfile(agent.Container{Seccomp: path}, machine{})
	if err != nil || profile.DefaultAction != specs.ActAllow || profile.Syscalls[0].Names[0] != "mkdir" {
		t.Errorf("%+v, %v", profile, err)
	}
	if _, err := seccompProfile(agent.Container{Seccomp: path + "x"}, machine{}); err == nil || !strings.Contains(err.Error(), "cannot load seccomp profile") {
		t.Errorf("a profile that is missing: %v", err)
	}
}

func TestResolveUser(t *testing.T) {
	root := t.TempDir()
	etc := filepath.Join(root, "etc")
	if err := os.Mkdir(etc, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"passwd": "root:x:0:0::/root:/bin/sh\nweb:x:1001:1002::/:/bin/sh\n",
		"group":  "web:x:1002:\nextra:x:1003:web\nmore:x:1004:root,web\n",
	} {
		if err := os.WriteFile(filepath.Join(etc, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		root string
		in   agent.User
		want agent.User
	}{
		{root, agent.User{Spec: "web"}, agent.User{UID: 1001, GID: 1002, Groups: []int64{1003, 1004}}},
		{root, agent.User{Spec: "1001"}, agent.User{UID: 1001, GID: 1002, Groups: []int64{1003, 1004}}},
		{root, agent.User{Spec: "web:extra"}, agent.User{UID: 1001, GID: 1003, Groups: []int64{1003, 1004}}},
		{root, agent.User{Spec: "1001:9", Strict: true, Groups: []int64{7}}, agent.User{UID: 1001, GID: 9, Groups: []int64{7}}},
		{root, agent.User{Spec: "5000"}, agent.User{UID: 5000}},
		{root, agent.User{UID: 3, GID: 4}, agent.User{UID: 3, GID: 4}},
		{t.TempDir(), agent.User{Spec: "5000:6"}, agent.User{UID: 5000, GID: 6}},
	} {
		got, err := resolveUser(test.root, test.in)
		if err != nil {
			t.Errorf("%+v: %v", test.in, err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%+v: %s", test.in, diff)
		}
	}
	if _, err := resolveUser(root, agent.User{Spec: "nobody"}); err == nil {
		t.Error("a name that is not listed: expected an error")
	}
}

// An image may hold anything: reading it must end, and not fill our memory.
func TestResolveUserOfHostileImage(t *testing.T) {
	for name, make := range map[string]func(path string) error{
		"fifo":   func(path string) error { return unix.Mkfifo(path, 0o644) },
		"device": func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o644, int(unix.Mkdev(1, 3))) },
		"huge": func(path string) error {
			return errors.Join(os.WriteFile(path, nil, 0o644), os.Truncate(path, 16<<20))
		},
	} {
		root := t.TempDir()
		if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := make(filepath.Join(root, "etc", "passwd")); err != nil {
			t.Fatal(err)
		}
		ended := goroutine(func() error { _, err := resolveUser(root, agent.User{Spec: "1000"}); return err })
		select {
		case err := <-ended:
			if err == nil {
				t.Errorf("%s: expected an error", name)
			}
		case <-time.After(2 * time.Second):
			t.Errorf("%s: never ends", name)
		}
	}
}

func goroutine(fn func() error) <-chan error {
	ended := make(chan error, 1)
	go func() { ended <- fn() }()
	return ended
}

func TestWireIsTheShims(t *testing.T) {
	contract := func(path string) string {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, text, _ := strings.Cut(string(data), "\n")
		return text
	}
	if diff := cmp.Diff(contract("../../../embed/shim/wire.go"), contract("wire.go")); diff != "" {
		t.Error("the contract with the shim differs on the two sides:", diff)
	}
}

// Swap is counted with memory on cgroup v1, where no container has any beyond its
// memory, and by itself on v2, where one that gets none is told so.
func TestSpecSwap(t *testing.T) {
	limited, open := agent.Resources{MemoryLimit: 1 << 20, Swap: 4096}, agent.Resources{}
	v1, v2 := machine{swapLimit: true}, machine{swapLimit: true, unifiedCgroups: true}
	if r := specResources(limited, v1); r.Memory.Swap == nil || *r.Memory.Swap != 1<<20 || r.Unified != nil {
		t.Errorf("v1: %+v", r)
	}
	if r := specResources(open, v1); r.Memory.Swap != nil {
		t.Errorf("v1 without a limit: %+v", r.Memory)
	}
	if r := specResources(open, v2); r.Memory.Swap != nil || r.Unified["memory.swap.max"] != "0" {
		t.Errorf("v2 without swap: %+v", r)
	}
	if r := specResources(limited, machine{unifiedCgroups: true}); len(r.Unified) > 0 {
		t.Errorf("a kernel that does not count it: %v", r.Unified)
	}
}

// Who loses a process for want of memory loses all, where cgroups can do that.
func TestSpecOOMGroup(t *testing.T) {
	together := agent.Resources{OOMGroup: true}
	if r := specResources(together, machine{unifiedCgroups: true}); r.Unified["memory.oom.group"] != "1" {
		t.Errorf("v2: %v", r.Unified)
	}
	if r := specResources(agent.Resources{}, machine{unifiedCgroups: true}); len(r.Unified) > 0 {
		t.Errorf("v2, one by one: %v", r.Unified)
	}
	if r := specResources(together, machine{}); r.Unified != nil {
		t.Errorf("v1: %v", r.Unified)
	}
}
