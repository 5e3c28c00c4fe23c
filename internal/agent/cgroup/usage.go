package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Usage is what the processes of a cgroup use, and have used, in bytes where nothing
// else is said. What the kernel does not count is zero.
type Usage struct {
	CPU                 time.Duration // since the cgroup was made
	Periods, Throttled  uint64        // of the CPU quota: how many, and how many cut short
	ThrottledTime       time.Duration
	Memory              uint64 // all that is charged
	WorkingSet          uint64 // what cannot be given back at once
	RSS, Cache, Mapped  uint64
	Swap                uint64
	Faults, MajorFaults uint64
	Processes           uint64
	MemoryLimit         uint64 // 0: none
	CPUQuota, CPUPeriod int64  // microseconds; 0: none
	CPUShares           uint64
}

// unlimited is from where on v1 means that there is no limit: it rounds to pages.
const unlimited = 1 << 62

// Usage reads what a Pod's processes use, or with an ID those of one of its
// containers. A cgroup that is gone is fs.ErrNotExist.
func (t *Tree) Usage(p Pod, container string) (Usage, error) {
	dir := filepath.Join(t.Parent(p), container)
	if t.unified != "" {
		return readUnified(filepath.Join(t.unified, dir))
	}
	return t.readV1(dir)
}

// Path is where a Pod's cgroup or that of one of its containers is below each
// hierarchy, with a slash in front.
func (t *Tree) Path(p Pod, container string) string {
	return "/" + filepath.Join(t.Parent(p), container)
}

func (t *Tree) readV1(dir string) (u Usage, err error) {
	in := func(controller, file string) string { return filepath.Join(t.v1[controller], dir, file) }
	r := reader{}
	u.CPU = time.Duration(r.number(in("cpuacct", "cpuacct.usage")))
	throttling := r.fields(in("cpu", "cpu.stat"))
	u.Periods, u.Throttled = throttling["nr_periods"], throttling["nr_throttled"]
	u.ThrottledTime = time.Duration(throttling["throttled_time"])
	u.CPUShares = r.number(in("cpu", "cpu.shares"))
	if quota := r.signed(in("cpu", "cpu.cfs_quota_us")); quota > 0 {
		u.CPUQuota, u.CPUPeriod = quota, r.signed(in("cpu", "cpu.cfs_period_us"))
	}
	u.Memory = r.number(in("memory", "memory.usage_in_bytes"))
	stat := r.fields(in("memory", "memory.stat"))
	u.WorkingSet = less(u.Memory, stat["total_inactive_file"])
	u.RSS, u.Cache, u.Mapped = stat["total_rss"], stat["total_cache"], stat["total_mapped_file"]
	u.Swap, u.Faults, u.MajorFaults = stat["total_swap"], stat["total_pgfault"], stat["total_pgmajfault"]
	if limit := r.number(in("memory", "memory.limit_in_bytes")); limit < unlimited {
		u.MemoryLimit = limit
	}
	u.Processes = r.optional(in("pids", "pids.current"))
	return u, r.err
}

func readUnified(dir string) (u Usage, err error) {
	in := func(file string) string { return filepath.Join(dir, file) }
	r := reader{}
	cpu := r.fields(in("cpu.stat"))
	u.CPU = time.Duration(cpu["usage_usec"]) * time.Microsecond
	u.Periods, u.Throttled = cpu["nr_periods"], cpu["nr_throttled"]
	u.ThrottledTime = time.Duration(cpu["throttled_usec"]) * time.Microsecond
	u.CPUShares = sharesOf(r.optional(in("cpu.weight")))
	if quota, period, ok := strings.Cut(r.text(in("cpu.max")), " "); ok && quota != "max" {
		u.CPUQuota, u.CPUPeriod = r.parse(quota), r.parse(period)
	}
	u.Memory = r.number(in("memory.current"))
	stat := r.fields(in("memory.stat"))
	u.WorkingSet = less(u.Memory, stat["inactive_file"])
	u.RSS, u.Cache, u.Mapped = stat["anon"], stat["file"], stat["file_mapped"]
	u.Faults, u.MajorFaults = stat["pgfault"], stat["pgmajfault"]
	u.Swap = r.optional(in("memory.swap.current"))
	if limit := r.text(in("memory.max")); limit != "max" && limit != "" {
		u.MemoryLimit = uint64(r.parse(limit))
	}
	u.Processes = r.optional(in("pids.current"))
	return u, r.err
}

func less(a, b uint64) uint64 {
	if b > a {
		return 0
	}
	return a - b
}

// sharesOf is about the reverse of weight.
func sharesOf(weight uint64) uint64 {
	if weight == 0 {
		return 0
	}
	return 2 + (weight-1)*262142/9999
}

// reader reads the kernel's files and keeps the first error.
type reader struct{ err error }

func (r *reader) text(path string) string {
	data, err := os.ReadFile(path)
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("read cgroup: %w", err)
	}
	return string(bytes.TrimSpace(data))
}

func (r *reader) parse(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("read cgroup: %w", err)
	}
	return n
}

func (r *reader) signed(path string) int64 {
	text := r.text(path)
	if text == "" {
		return 0 // the error is kept
	}
	return r.parse(text)
}

func (r *reader) number(path string) uint64 { return uint64(max(r.signed(path), 0)) }

// optional is for files that not every kernel has.
func (r *reader) optional(path string) uint64 {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	return r.number(path)
}

// fields reads lines of a name and a number.
func (r *reader) fields(path string) map[string]uint64 {
	all := map[string]uint64{}
	for line := range strings.Lines(r.text(path)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			all[name] = uint64(r.parse(value))
		}
	}
	return all
}
