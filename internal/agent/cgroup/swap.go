package cgroup

import (
	"os"
	"path/filepath"
)

// SharesSwap says whether this machine's cgroups can be given so much swap each: that
// of cgroup v2 counts it apart from memory, if the kernel counts it at all.
func SharesSwap() bool {
	const root = "/sys/fs/cgroup"
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err != nil {
		return false
	}
	found, _ := filepath.Glob(filepath.Join(root, "*", "memory.swap.max")) // the root has none
	return len(found) > 0
}
