package cgroup

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestPageSizes(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"hugepages-2048kB", "hugepages-1048576kB", "hugepages-64kB", "other"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	sizes := pageSizes(dir)
	slices.Sort(sizes)
	var names []string
	for _, size := range sizes {
		names = append(names, PageName(size))
	}
	if want := []string{"64KB", "2MB", "1GB"}; !slices.Equal(names, want) {
		t.Errorf("sizes %v are named %v, want %v", sizes, names, want)
	}
	if sizes := pageSizes(filepath.Join(dir, "absent")); sizes != nil {
		t.Errorf("a kernel without: %v", sizes)
	}
}

// The files of both versions, in a directory that stands for the hierarchy: few
// machines have this controller.
func TestHugePagesAreLimited(t *testing.T) {
	for name, c := range map[string]struct {
		tree  func(dir string) *Tree
		files map[string]string
	}{
		"v1": {
			func(dir string) *Tree { return &Tree{v1: map[string]string{"hugetlb": dir}} },
			map[string]string{
				"hugetlb.2MB.limit_in_bytes": "4194304", "hugetlb.2MB.rsvd.limit_in_bytes": "4194304",
				"hugetlb.1GB.limit_in_bytes": "0",
			},
		},
		"v2": {
			func(dir string) *Tree { return &Tree{unified: dir} },
			map[string]string{"hugetlb.2MB.max": "4194304", "hugetlb.1GB.max": "0", "hugetlb.1GB.rsvd.max": "0"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file := range c.files {
				if err := os.WriteFile(filepath.Join(dir, file), nil, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			tree := c.tree(dir)
			tree.pages = []int64{2 << 20, 1 << 30}
			if err := tree.setHugePages(".", Pod{HugePages: map[int64]int64{2 << 20: 4 << 20}}); err != nil {
				t.Fatal(err)
			}
			for file, want := range c.files {
				if got, err := os.ReadFile(filepath.Join(dir, file)); err != nil || string(got) != want {
					t.Errorf("%s: %q %v, want %s", file, got, err, want)
				}
			}
		})
	}
}
