package agent

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/skiff-sh/skiff/internal/agent/cgroup"
	"github.com/skiff-sh/skiff/internal/config"
)

// Machine tells what an Agent is on.
type Machine interface {
	// Describe returns what does not change while the machine is up.
	Describe() (Description, error)
	// Pressure says what the machine is short of now.
	Pressure() Pressure
}

// Description is what does not change while a machine is up. The versions of
// kubelet and runtime are not the machine's.
type Description struct {
	Info     corev1.NodeSystemInfo
	Capacity corev1.ResourceList
	// Reserved is what of it is not for Pods.
	Reserved corev1.ResourceList
	// RecursiveReadOnly says that the kernel makes whole trees of mounts read-only.
	RecursiveReadOnly bool
	// SharesSwap says that containers can be given so much swap each.
	SharesSwap bool
	AppArmor   bool // the kernel has it, and it is on
}

// Pressure is what a machine is short of. Where Room is given, that is judged by the
// node's settings.
type Pressure struct {
	Memory, Disk, PIDs bool
	Room               []Room
	ImagesApart        bool // images and containers' layers have a disk of their own
}

// hostMachine is the one that this process runs on; dir is on the disk that
// counts, images where those are: "" for there too.
type hostMachine struct{ dir, images string }

// Describe implements Machine.
func (h hostMachine) Describe() (Description, error) {
	m := Description{RecursiveReadOnly: canMountRecursively(), AppArmor: canConfine()}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return m, fmt.Errorf("uname: %w", err)
	}
	m.Info = corev1.NodeSystemInfo{
		MachineID:       firstFile("/etc/machine-id", "/var/lib/dbus/machine-id"),
		SystemUUID:      strings.ToLower(firstFile("/sys/class/dmi/id/product_uuid", "/etc/machine-id")),
		BootID:          firstFile("/proc/sys/kernel/random/boot_id"),
		KernelVersion:   unix.ByteSliceToString(uts.Release[:]),
		OSImage:         osImage("/etc/os-release"),
		OperatingSystem: runtime.GOOS,
		Architecture:    runtime.GOARCH,
	}
	if swap := meminfo("SwapTotal"); swap > 0 {
		m.Info.Swap = &corev1.NodeSwapStatus{Capacity: &swap}
		m.SharesSwap = cgroup.SharesSwap()
	}
	disk, err := readDisk(h.dir)
	if err != nil {
		return m, err
	}
	m.Capacity = corev1.ResourceList{
		corev1.ResourceCPU:              *resource.NewQuantity(int64(runtime.NumCPU()), resource.DecimalSI),
		corev1.ResourceMemory:           *resource.NewQuantity(meminfo("MemTotal"), resource.BinarySI),
		corev1.ResourceEphemeralStorage: *resource.NewQuantity(disk.Total, resource.BinarySI),
	}
	addHugePages(m.Capacity, "/sys/kernel/mm/hugepages")
	return m, nil
}

// Pressure implements Machine.
func (h hostMachine) Pressure() Pressure {
	room, apart := rooms(h.dir, h.images)
	return Pressure{Room: room, ImagesApart: apart}
}

// memory is all that the machine has, in bytes.
func (d Description) memory() int64 { return d.Capacity.Memory().Value() }

// allocatable is the capacity less what is reserved. Memory that is set aside for
// huge pages is nothing else's.
func (d Description) allocatable() corev1.ResourceList {
	out := d.Capacity.DeepCopy()
	less := func(name corev1.ResourceName, amount resource.Quantity) {
		q, ok := out[name]
		if !ok {
			return
		}
		if q.Sub(amount); q.Sign() < 0 {
			q.Set(0)
		}
		out[name] = q
	}
	for name, q := range d.Reserved {
		less(name, q)
	}
	for name, q := range d.Capacity {
		if strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) {
			less(corev1.ResourceMemory, q)
		}
	}
	return out
}

// reserved is what is kept from Pods: for the node's own programs, for the system,
// and what must stay free for nobody to be evicted.
func reserved(k config.Kubelet, capacity corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{}
	more := func(name corev1.ResourceName, amount resource.Quantity) {
		q := out[name]
		q.Add(amount)
		out[name] = q
	}
	for _, list := range []corev1.ResourceList{k.KubeReserved, k.SystemReserved} {
		for name, q := range list {
			more(name, q)
		}
	}
	for signal, name := range map[string]corev1.ResourceName{
		"memory.available": corev1.ResourceMemory, "nodefs.available": corev1.ResourceEphemeralStorage,
	} {
		if limit, ok := k.EvictionHard[signal]; ok {
			more(name, *resource.NewQuantity(limit.Of(amount(capacity, name)), resource.BinarySI))
		}
	}
	return out
}

func addHugePages(capacity corev1.ResourceList, dir string) {
	entries, _ := os.ReadDir(dir) // a kernel without huge pages has none
	for _, e := range entries {
		kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(e.Name(), "hugepages-"), "kB"), 10, 64)
		if err != nil {
			continue
		}
		n, _ := strconv.ParseInt(firstFile(filepath.Join(dir, e.Name(), "nr_hugepages")), 10, 64)
		size := resource.NewQuantity(kb<<10, resource.BinarySI)
		name := corev1.ResourceName(corev1.ResourceHugePagesPrefix + size.String())
		capacity[name] = *resource.NewQuantity(n*kb<<10, resource.BinarySI)
	}
}

type disk struct {
	Total, Free        int64 // bytes
	Inodes, InodesFree uint64
	Device             uint64
}

func readDisk(dir string) (disk, error) {
	var s unix.Statfs_t
	for unix.Statfs(dir, &s) == unix.ENOENT && dir != "/" {
		dir = filepath.Dir(dir)
	}
	if err := unix.Statfs(dir, &s); err != nil {
		return disk{}, fmt.Errorf("statfs %s: %w", dir, err)
	}
	var place unix.Stat_t
	if err := unix.Stat(dir, &place); err != nil {
		return disk{}, fmt.Errorf("stat %s: %w", dir, err)
	}
	size := int64(s.Bsize)
	return disk{Total: int64(s.Blocks) * size, Free: int64(s.Bavail) * size, Inodes: s.Files, InodesFree: s.Ffree, Device: place.Dev}, nil
}

// meminfo returns a value of /proc/meminfo in bytes.
func meminfo(key string) int64 {
	data, _ := os.ReadFile("/proc/meminfo")
	s := bufio.NewScanner(bytes.NewReader(data))
	for s.Scan() {
		name, rest, _ := strings.Cut(s.Text(), ":")
		if fields := strings.Fields(rest); name == key && len(fields) > 0 {
			kb, _ := strconv.ParseInt(fields[0], 10, 64)
			return kb << 10
		}
	}
	return 0
}

// processes are how many there are, and how many there can be: the least of the
// kernel's limits, of which one may be unknown.
func processes(loadavg string, limits ...string) (used, most int64, ok bool) {
	fields := strings.Fields(loadavg)
	if len(fields) < 4 {
		return 0, 0, false
	}
	_, total, _ := strings.Cut(fields[3], "/")
	used, err := strconv.ParseInt(total, 10, 64)
	for _, text := range limits {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil && (most == 0 || n < most) {
			most = n
		}
	}
	return used, most, err == nil && most > 0
}

func firstFile(paths ...string) string {
	for _, p := range paths {
		if data, err := os.ReadFile(p); err == nil && len(bytes.TrimSpace(data)) > 0 {
			return string(bytes.TrimSpace(data))
		}
	}
	return ""
}

func osImage(path string) string {
	data, _ := os.ReadFile(path)
	for line := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			return strings.Trim(v, `"'`)
		}
	}
	return "Linux"
}
