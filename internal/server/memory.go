package server

import (
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// limitMemory has the garbage collector work the harder the nearer this process comes
// to what its cgroups or the machine allow it: without, it lets the heap double, and
// the kernel would end what could have lived. GOMEMLIMIT is respected.
func limitMemory() {
	if debug.SetMemoryLimit(-1) != math.MaxInt64 {
		return
	}
	limit := cgroupLimit("/proc/self/cgroup", "/sys/fs/cgroup")
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		limit = min(limit, int64(info.Totalram)*int64(info.Unit))
	}
	if limit < math.MaxInt64 {
		debug.SetMemoryLimit(limit / 100 * memoryShare)
	}
}

// memoryShare is how much of what is allowed the runtime may take, in hundredths. The
// rest is for the executable's pages and the kernel's own.
const memoryShare = 80

// cgroupLimit is the least that this process's cgroups allow: own lists them, root is
// where they are mounted.
func cgroupLimit(own, root string) int64 {
	least := int64(math.MaxInt64)
	data, err := os.ReadFile(own)
	if err != nil {
		return least
	}
	for line := range strings.Lines(string(data)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		top, file := root, "memory.max"
		switch parts[1] {
		case "": // version 2
		case "memory":
			top, file = filepath.Join(root, "memory"), "memory.limit_in_bytes"
		default:
			continue
		}
		// In a container the path may lead out of what is mounted: its own group is the root then.
		for dir := filepath.Join(top, parts[2]); ; dir = filepath.Dir(dir) {
			least = min(least, limitIn(filepath.Join(dir, file)))
			if dir == top || len(dir) <= len(top) {
				break
			}
		}
	}
	return least
}

// limitIn reads a limit, which is none where it cannot be read or is "max".
func limitIn(file string) int64 {
	data, err := os.ReadFile(file)
	if err != nil {
		return math.MaxInt64
	}
	limit, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	if err != nil || limit <= 0 {
		return math.MaxInt64
	}
	return limit
}
