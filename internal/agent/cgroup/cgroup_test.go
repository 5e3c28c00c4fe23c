package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func open(t *testing.T) *Tree {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("makes cgroups: needs root")
	}
	tree, err := Open(fmt.Sprintf("skiff-test-%d", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tree.Destroy(); err != nil {
			t.Error(err)
		}
	})
	return tree
}

func (t *Tree) value(test *testing.T, controller, dir, file string) string {
	test.Helper()
	base := t.unified
	if base == "" {
		base = t.v1[controller]
	}
	data, err := os.ReadFile(filepath.Join(base, dir, file))
	if err != nil {
		test.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

func TestPodCgroups(t *testing.T) {
	tree := open(t)
	p := Pod{UID: "u-1", Class: Burstable, CPUShares: 512, CPUQuota: 50000, CPUPeriod: 100000, MemoryLimit: 64 << 20}
	if err := tree.Create(p); err != nil {
		t.Fatal(err)
	}
	if err := tree.Create(Pod{UID: "u-2", Class: Burstable, CPUShares: 256}); err != nil {
		t.Fatal(err)
	}
	dir := tree.Parent(p)
	if dir != tree.root+"/burstable/podu-1" {
		t.Errorf("parent is %s", dir)
	}
	checks := [][4]string{
		{"cpu", dir, "cpu.shares", "512"}, {"cpu", dir, "cpu.cfs_quota_us", "50000"},
		{"memory", dir, "memory.limit_in_bytes", "67108864"},
		{"cpu", tree.root + "/burstable", "cpu.shares", "768"}, {"cpu", tree.root + "/besteffort", "cpu.shares", "2"},
	}
	if tree.unified != "" {
		checks = [][4]string{{"cpu", dir, "cpu.max", "50000 100000"}, {"memory", dir, "memory.max", "67108864"}}
	}
	for _, c := range checks {
		if got := tree.value(t, c[0], c[1], c[2]); got != c[3] {
			t.Errorf("%s of %s is %s, want %s", c[2], c[1], got, c[3])
		}
	}
	if uids, err := tree.UIDs(); err != nil || !slices.Equal(uids, []string{"u-1", "u-2"}) {
		t.Errorf("pods are %q, %v", uids, err)
	}
	// A container's cgroup inside goes with it.
	for _, base := range tree.mountPoints() {
		if err := os.Mkdir(filepath.Join(base, dir, "container"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // idempotent
		if err := tree.Remove("u-1"); err != nil {
			t.Fatal(err)
		}
	}
	if uids, _ := tree.UIDs(); !slices.Equal(uids, []string{"u-2"}) {
		t.Errorf("pods are %q", uids)
	}
}

func TestLimitsCanBeLifted(t *testing.T) {
	tree := open(t)
	p := Pod{UID: "u", CPUShares: 2, CPUQuota: 10000, CPUPeriod: 100000, MemoryLimit: 32 << 20}
	if err := tree.Create(p); err != nil {
		t.Fatal(err)
	}
	p.CPUQuota, p.MemoryLimit = 0, 0
	if err := tree.Create(p); err != nil {
		t.Fatal(err)
	}
	file, want := "cpu.cfs_quota_us", "-1"
	if tree.unified != "" {
		file, want = "cpu.max", "max 100000"
	}
	if got := tree.value(t, "cpu", tree.Parent(p), file); got != want {
		t.Errorf("%s is %s, want %s", file, got, want)
	}
}

func TestWeight(t *testing.T) {
	for shares, want := range map[uint64]uint64{0: 1, 2: 1, 1024: 100, 262144: 10000, 1 << 30: 10000} {
		if got := weight(shares); got != want {
			t.Errorf("weight(%d) is %d, want %d", shares, got, want)
		}
	}
}
