// Package cgroup makes the control groups around Pods, without systemd. A Tree
// is rooted at a directory of its own below each controller's root (cgroup v1,
// hybrid) or below the one hierarchy (v2); in it Pods lie by quality of
// service, as upstream lays them out and tools expect:
//
//	ROOT/podUID  ROOT/burstable/podUID  ROOT/besteffort/podUID
//
// The runtime makes the containers' cgroups inside. A Tree touches nothing
// outside its root.
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Class is a Pod's quality of service.
type Class string

// The classes; each is the name of its directory under the root.
const (
	Guaranteed Class = ""
	Burstable  Class = "burstable"
	BestEffort Class = "besteffort"
)

// Pod is what a Pod's cgroup is set to; zero means no limit.
type Pod struct {
	UID         string
	Class       Class
	CPUShares   uint64
	CPUQuota    int64 // microseconds per period
	CPUPeriod   uint64
	MemoryLimit int64           // bytes
	HugePages   map[int64]int64 // bytes by the size of a page; the others are not to be used
}

// Tree is the cgroups of one node. Its methods are safe for concurrent use.
type Tree struct {
	root    string
	unified string            // mount point of cgroup v2 where it has the controllers
	v1      map[string]string // mount point by controller
	pages   []int64           // sizes of huge pages
	extra   []string          // mount points where the runtime alone makes cgroups: it joins every hierarchy

	mu   sync.Mutex
	pods map[string]Pod // those made or found by this Tree, for the class's shares
}

// used are the controllers that Pods need; the runtime makes do with what is
// there of the others.
var used = []string{"cpu", "cpuacct", "memory", "pids", "cpuset", "blkio", "devices", "freezer", "hugetlb", "perf_event", "net_cls", "net_prio"}

// Open finds the machine's hierarchies and makes the classes' directories.
// Root is relative to them, without leading slash.
func Open(root string) (*Tree, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	t := &Tree{root: root, v1: map[string]string{}, pods: map[string]Pod{}, pages: PageSizes()}
	for _, m := range mounts {
		switch m.FSType {
		case "cgroup":
			known := false
			for _, c := range strings.Split(m.VFSOptions, ",") {
				known = known || slices.Contains(used, c)
				if slices.Contains(used, c) && t.v1[c] == "" {
					t.v1[c] = m.Mountpoint
				}
			}
			if !known { // "name=systemd"
				t.extra = append(t.extra, m.Mountpoint)
			}
		case "cgroup2":
			t.unified = m.Mountpoint
		}
	}
	if len(t.v1) > 0 && t.unified != "" { // hybrid: the controllers are in v1
		t.extra = append(t.extra, t.unified)
		t.unified = ""
	}
	if t.unified == "" && t.v1["cpu"] == "" && t.v1["memory"] == "" {
		return nil, errors.New("no cgroup hierarchy is mounted: mount cgroup2 at /sys/fs/cgroup")
	}
	for _, class := range []Class{Guaranteed, Burstable, BestEffort} {
		if err := t.make(filepath.Join(root, string(class))); err != nil {
			return nil, err
		}
	}
	if err := t.setCPU(filepath.Join(root, string(BestEffort)), Pod{CPUShares: 2}); err != nil {
		return nil, err
	}
	return t, nil
}

// Parent is where a Pod's containers go, relative to the hierarchies' roots.
func (t *Tree) Parent(p Pod) string {
	return filepath.Join(t.root, string(p.Class), "pod"+p.UID)
}

// Create makes a Pod's cgroup, or sets the one it has.
func (t *Tree) Create(p Pod) error {
	dir := t.Parent(p)
	if err := t.make(dir); err != nil {
		return err
	}
	if err := t.setCPU(dir, p); err != nil {
		return err
	}
	if err := t.setMemory(dir, p); err != nil {
		return err
	}
	if err := t.setHugePages(dir, p); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pods[p.UID] = p
	return t.weighBurstable()
}

// Remove deletes a Pod's cgroup. Processes that are still in it make it fail;
// a Pod that has none is no error.
func (t *Tree) Remove(uid string) error {
	var errs []error
	for _, base := range t.everywhere() {
		for _, class := range []Class{Guaranteed, Burstable, BestEffort} {
			errs = append(errs, removeAll(filepath.Join(base, t.root, string(class), "pod"+uid)))
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.pods, uid)
	errs = append(errs, t.weighBurstable())
	return errors.Join(errs...)
}

// UIDs lists the Pods that have a cgroup.
func (t *Tree) UIDs() ([]string, error) {
	found := map[string]bool{}
	for _, base := range t.everywhere() {
		for _, class := range []Class{Guaranteed, Burstable, BestEffort} {
			entries, err := os.ReadDir(filepath.Join(base, t.root, string(class)))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("list cgroups: %w", err)
			}
			for _, e := range entries {
				if uid, ok := strings.CutPrefix(e.Name(), "pod"); ok && e.IsDir() {
					found[uid] = true
				}
			}
		}
	}
	uids := make([]string, 0, len(found))
	for uid := range found {
		uids = append(uids, uid)
	}
	slices.Sort(uids)
	return uids, nil
}

// Destroy deletes the whole tree.
func (t *Tree) Destroy() error {
	var errs []error
	for _, base := range t.everywhere() {
		errs = append(errs, removeAll(filepath.Join(base, t.root)))
	}
	return errors.Join(errs...)
}

// everywhere is where there may be something to remove.
func (t *Tree) everywhere() []string { return append(t.mountPoints(), t.extra...) }

// mountPoints is where limits are set.
func (t *Tree) mountPoints() []string {
	if t.unified != "" {
		return []string{t.unified}
	}
	var points []string
	for _, p := range t.v1 {
		if !slices.Contains(points, p) { // cpu and cpuacct often share one
			points = append(points, p)
		}
	}
	slices.Sort(points)
	return points
}

func (t *Tree) make(dir string) error {
	if t.unified != "" {
		return t.makeUnified(dir)
	}
	for _, base := range t.mountPoints() {
		path := filepath.Join(base, dir)
		if err := os.MkdirAll(path, 0o755); err != nil {
			return fmt.Errorf("make cgroup %s: %w", path, err)
		}
	}
	return t.inheritCPUSet(dir)
}

// inheritCPUSet copies the CPUs and memory nodes down: a v1 cpuset without them
// takes no process.
func (t *Tree) inheritCPUSet(dir string) error {
	base, ok := t.v1["cpuset"]
	if !ok {
		return nil
	}
	at := base
	for _, part := range strings.Split(dir, "/") {
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			own, err := os.ReadFile(filepath.Join(at, part, file))
			if err != nil || strings.TrimSpace(string(own)) != "" {
				continue
			}
			parent, err := os.ReadFile(filepath.Join(at, file))
			if err != nil {
				return fmt.Errorf("read cpuset: %w", err)
			}
			if err := write(filepath.Join(at, part, file), strings.TrimSpace(string(parent))); err != nil {
				return err
			}
		}
		at = filepath.Join(at, part)
	}
	return nil
}

// makeUnified makes a v2 cgroup and hands the controllers down to it.
func (t *Tree) makeUnified(dir string) error {
	at := t.unified
	for _, part := range strings.Split(dir, "/") {
		available, err := os.ReadFile(filepath.Join(at, "cgroup.controllers"))
		if err != nil {
			return fmt.Errorf("read controllers: %w", err)
		}
		for _, c := range strings.Fields(string(available)) {
			// One that cannot be handed down is not needed by every Pod.
			_ = os.WriteFile(filepath.Join(at, "cgroup.subtree_control"), []byte("+"+c), 0)
		}
		at = filepath.Join(at, part)
		if err := os.Mkdir(at, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make cgroup: %w", err)
		}
	}
	// Containers are made inside: they need the controllers too.
	available, err := os.ReadFile(filepath.Join(at, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("read controllers: %w", err)
	}
	for _, c := range strings.Fields(string(available)) {
		_ = os.WriteFile(filepath.Join(at, "cgroup.subtree_control"), []byte("+"+c), 0)
	}
	return nil
}

func (t *Tree) setCPU(dir string, p Pod) error {
	period := p.CPUPeriod
	if period == 0 {
		period = 100000
	}
	if t.unified != "" {
		quota := "max"
		if p.CPUQuota > 0 {
			quota = strconv.FormatInt(p.CPUQuota, 10)
		}
		if err := t.set(t.unified, dir, "cpu.weight", strconv.FormatUint(weight(p.CPUShares), 10)); err != nil {
			return err
		}
		return t.set(t.unified, dir, "cpu.max", fmt.Sprintf("%s %d", quota, period))
	}
	base, ok := t.v1["cpu"]
	if !ok {
		return nil
	}
	if err := t.set(base, dir, "cpu.shares", strconv.FormatUint(max(p.CPUShares, 2), 10)); err != nil {
		return err
	}
	quota := p.CPUQuota
	if quota == 0 {
		quota = -1
	} else if err := t.set(base, dir, "cpu.cfs_period_us", strconv.FormatUint(period, 10)); err != nil {
		return err
	}
	return t.set(base, dir, "cpu.cfs_quota_us", strconv.FormatInt(quota, 10))
}

func (t *Tree) setMemory(dir string, p Pod) error {
	base, file, none := t.v1["memory"], "memory.limit_in_bytes", "-1"
	if t.unified != "" {
		base, file, none = t.unified, "memory.max", "max"
	}
	if base == "" {
		return nil
	}
	value := none
	if p.MemoryLimit > 0 {
		value = strconv.FormatInt(p.MemoryLimit, 10)
	}
	return t.set(base, dir, file, value)
}

// weighBurstable gives the burstable class the shares of all Pods in it.
func (t *Tree) weighBurstable() error {
	var sum uint64
	for _, p := range t.pods {
		if p.Class == Burstable {
			sum += p.CPUShares
		}
	}
	return t.setCPU(filepath.Join(t.root, string(Burstable)), Pod{CPUShares: max(sum, 2)})
}

// set writes a setting; a kernel that does not have it is no error.
func (t *Tree) set(base, dir, file, value string) error {
	err := write(filepath.Join(base, dir, file), value)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func write(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("set cgroup: %w", err)
	}
	defer f.Close()
	if _, err := f.WriteString(value); err != nil {
		return fmt.Errorf("set cgroup %s to %s: %w", path, value, err)
	}
	return nil
}

// weight turns v1 shares (2 to 262144) into a v2 weight (1 to 10000) with the
// quadratic curve that runc uses, which maps 1024 to 100.
func weight(shares uint64) uint64 {
	if shares == 0 {
		return 1
	}
	return weightOf(shares)
}

// removeAll removes a cgroup and those in it, the innermost first. Files in it
// are the kernel's and vanish with it.
func removeAll(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove cgroup: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := unix.Rmdir(dir); err != nil && err != unix.ENOENT {
		return fmt.Errorf("remove cgroup %s: %w", dir, err)
	}
	return nil
}
