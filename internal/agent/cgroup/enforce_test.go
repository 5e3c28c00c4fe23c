package cgroup

import (
	"os"
	"path/filepath"
	"testing"
)

func TestEnforce(t *testing.T) {
	dir := t.TempDir()
	files := map[string]string{
		"v2/k/cpu.weight": "79", "v2/k/cpu.max": "max 100000", "v2/k/memory.max": "1048576",
		"cpu/k/cpu.shares": "2048", "cpu/k/cpu.cfs_quota_us": "-1", "memory/k/memory.limit_in_bytes": "1048576",
	}
	for file := range files {
		path := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, tree := range []*Tree{
		{root: "k", unified: filepath.Join(dir, "v2")},
		{root: "k", v1: map[string]string{"cpu": filepath.Join(dir, "cpu"), "memory": filepath.Join(dir, "memory")}},
	} {
		if err := tree.Enforce(2048, 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	for file, want := range files {
		got, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil || string(got) != want && file != "v2/k/cpu.weight" {
			t.Errorf("%s is %q, want %q: %v", file, got, want, err)
		}
	}
}
