package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestResizeSteps(t *testing.T) {
	tests := map[string]struct {
		old, next Pod
		changes   []Change
		want      string
	}{
		"nothing": {Pod{UID: "u", MemoryLimit: 5}, Pod{UID: "u", MemoryLimit: 5}, nil, ""},
		"more: the Pod first, those that shrink before those that grow": {
			Pod{MemoryLimit: 10}, Pod{MemoryLimit: 12},
			[]Change{{ID: "a", Old: Limits{MemoryLimit: 5}, New: Limits{MemoryLimit: 8}}, {ID: "b", Old: Limits{MemoryLimit: 5}, New: Limits{MemoryLimit: 4}}},
			"pod memory 12, b memory 4, a memory 8",
		},
		"less: the Pod last": {
			Pod{MemoryLimit: 10}, Pod{MemoryLimit: 9},
			[]Change{{ID: "a", Old: Limits{MemoryLimit: 5}, New: Limits{MemoryLimit: 6}}, {ID: "b", Old: Limits{MemoryLimit: 5}, New: Limits{MemoryLimit: 3}}},
			"b memory 3, a memory 6, pod memory 9",
		},
		"a limit where there was none is less": {
			Pod{}, Pod{MemoryLimit: 100},
			[]Change{{ID: "a", New: Limits{MemoryLimit: 100}}},
			"a memory 100, pod memory 100",
		},
		"memory and CPU each in their own order": {
			Pod{MemoryLimit: 10, CPUQuota: 1000, CPUShares: 10}, Pod{MemoryLimit: 5, CPUQuota: 2000, CPUShares: 20},
			[]Change{{ID: "a", Old: Limits{MemoryLimit: 10, CPUQuota: 1000, CPUShares: 10}, New: Limits{MemoryLimit: 5, CPUQuota: 2000, CPUShares: 20}}},
			"a memory 5, pod memory 5, pod cpu 2000/20, a cpu 2000/20",
		},
		"shares alone": {
			Pod{CPUShares: 10}, Pod{CPUShares: 20},
			[]Change{{ID: "a", Old: Limits{CPUShares: 10}, New: Limits{CPUShares: 20}}},
			"a cpu 0/20, pod cpu 0/20",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, s := range resizeSteps(tt.old, tt.next, tt.changes) {
				who := s.container
				if who == "" {
					who = "pod"
				}
				if s.memory {
					got = append(got, fmt.Sprintf("%s memory %d", who, s.to.MemoryLimit))
				} else {
					got = append(got, fmt.Sprintf("%s cpu %d/%d", who, s.to.CPUQuota, s.to.CPUShares))
				}
			}
			if text := strings.Join(got, ", "); text != tt.want {
				t.Errorf("got  %s\nwant %s", text, tt.want)
			}
		})
	}
}

// The same on files that look like either hierarchy.
func TestResizeWritesBothHierarchies(t *testing.T) {
	dir := t.TempDir()
	make := func(files ...string) {
		for _, f := range files {
			path := filepath.Join(dir, f)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	read := func(file string) string {
		data, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	p := Pod{UID: "u", Class: Burstable, CPUShares: 1024, CPUQuota: 50000, CPUPeriod: 100000, MemoryLimit: 1 << 20}
	change := []Change{{ID: "c", Old: Limits{CPUShares: 2}, New: Limits{CPUShares: 1024, CPUQuota: 50000, CPUPeriod: 100000, MemoryLimit: 1 << 20}}}

	make("v2/k/burstable/cpu.weight", "v2/k/burstable/cpu.max")
	for _, at := range []string{"v2/k/burstable/podu/", "v2/k/burstable/podu/c/"} {
		make(at+"cpu.weight", at+"cpu.max", at+"memory.max")
	}
	v2 := &Tree{root: "k", unified: filepath.Join(dir, "v2"), pods: map[string]Pod{"u": {UID: "u", Class: Burstable}}}
	if err := v2.Resize(p, change); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"v2/k/burstable/podu/cpu.max": "50000 100000", "v2/k/burstable/podu/c/cpu.max": "50000 100000",
		"v2/k/burstable/podu/c/memory.max": "1048576", "v2/k/burstable/podu/memory.max": "1048576",
	} {
		if got := read(file); got != want {
			t.Errorf("%s is %q, not %q", file, got, want)
		}
	}

	make("cpu/k/burstable/cpu.shares", "cpu/k/burstable/cpu.cfs_quota_us")
	for _, at := range []string{"k/burstable/podu/", "k/burstable/podu/c/"} {
		make("cpu/"+at+"cpu.shares", "cpu/"+at+"cpu.cfs_quota_us", "cpu/"+at+"cpu.cfs_period_us", "memory/"+at+"memory.limit_in_bytes", "memory/"+at+"memory.memsw.limit_in_bytes")
	}
	v1 := &Tree{root: "k", v1: map[string]string{"cpu": filepath.Join(dir, "cpu"), "memory": filepath.Join(dir, "memory")}, pods: map[string]Pod{"u": {UID: "u", Class: Burstable}}}
	if err := v1.Resize(p, change); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"cpu/k/burstable/podu/c/cpu.shares": "1024", "cpu/k/burstable/podu/cpu.cfs_quota_us": "50000",
		"memory/k/burstable/podu/c/memory.memsw.limit_in_bytes": "1048576", "memory/k/burstable/podu/memory.limit_in_bytes": "1048576",
	} {
		if got := read(file); got != want {
			t.Errorf("%s is %q, not %q", file, got, want)
		}
	}
}
