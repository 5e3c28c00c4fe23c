package agent

import (
	"bytes"
	"cmp"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/internal/agent/cgroup"
)

// nodeStats is what the node and its Pods use at one moment. It is read when
// somebody asks.
type nodeStats struct {
	Name  string
	Time  time.Time
	Boot  time.Time
	Cores int
	Usage cgroup.Usage // of the whole machine; its limit is all the memory
	Free  uint64       // bytes of memory that can still be had
	Links []linkStats
	// Processes are how many there are, and how many there may be; 0: not known.
	Processes, MaxProcesses int64

	Disk   diskStats
	Images diskStats
	Pods   []podStats
}

type podStats struct {
	Namespace, Name, UID string
	Path                 string // of its cgroup
	Start                time.Time
	Usage                cgroup.Usage
	Links                []linkStats // none where it has the node's
	Containers           []containerStats
	Disks                *footprint // where it is asked for
}

type containerStats struct {
	Name, ID, Image, Path string
	Start                 time.Time
	Usage                 cgroup.Usage
}

// linkStats are a network link's counters, seen from who has it.
type linkStats struct {
	Name                         string
	ReceivedBytes, SentBytes     uint64
	ReceivedPackets, SentPackets uint64
	ReceiveErrors, SendErrors    uint64
	ReceiveDrops, SendDrops      uint64
}

// diskStats is a file system's room.
type diskStats struct{ Bytes, Free, Used, Inodes, FreeInodes, UsedInodes uint64 }

// stats reads all of it but what Pods take of the disks. What cannot be read is left
// out: Pods come and go.
func (a *Agent) stats() nodeStats { return a.statsWith(func(*worker) *footprint { return nil }) }

// statsWith is stats with what the Pods take of the disks.
func (a *Agent) statsWith(disks func(*worker) *footprint) nodeStats {
	s := nodeStats{Name: a.NodeName, Time: time.Now(), Cores: int(a.machine.Capacity.Cpu().Value())}
	s.Usage, s.Boot = machineUsage(firstFile("/proc/stat"), firstFile("/proc/vmstat"))
	total, free := uint64(meminfo("MemTotal")), uint64(meminfo("MemFree"))
	s.Free = uint64(meminfo("MemAvailable"))
	s.Usage.MemoryLimit, s.Usage.Memory, s.Usage.WorkingSet = total, total-free, total-min(s.Free, total)
	s.Usage.RSS, s.Usage.Swap = uint64(meminfo("AnonPages")), uint64(meminfo("SwapTotal")-meminfo("SwapFree"))
	s.Links = links("/proc/net/dev")
	s.Disk = diskOf(a.Host.DataDir)
	if s.Images = s.Disk; a.Runtime.ImageDir() != "" {
		s.Images = diskOf(a.Runtime.ImageDir())
	}
	s.Processes, s.MaxProcesses, _ = processes(firstFile("/proc/loadavg"), firstFile("/proc/sys/kernel/pid_max"), firstFile("/proc/sys/kernel/threads-max"))
	for _, w := range a.allWorkers() {
		if p, ok := a.podStats(w); ok {
			p.Disks = disks(w)
			s.Pods = append(s.Pods, p)
		}
	}
	slices.SortFunc(s.Pods, func(x, y podStats) int {
		return cmp.Or(cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name))
	})
	return s
}

func (a *Agent) allWorkers() []*worker {
	a.pods.mu.Lock()
	defer a.pods.mu.Unlock()
	all := make([]*worker, 0, len(a.pods.workers))
	for _, w := range a.pods.workers {
		all = append(all, w)
	}
	return all
}

// podStats reads what a Pod uses; false if it has no cgroup yet, or no longer.
func (a *Agent) podStats(w *worker) (podStats, bool) {
	pod, _ := w.livePod()
	group := podCgroup(pod)
	s := podStats{Namespace: pod.Namespace, Name: pod.Name, UID: string(pod.UID), Path: a.Cgroups.Path(group, "")}
	var err error
	if s.Usage, err = a.Cgroups.Usage(group, ""); err != nil {
		return s, false
	}
	if pod.Status.StartTime != nil {
		s.Start = pod.Status.StartTime.Time
	}
	if !pod.Spec.HostNetwork {
		s.Links = a.podLinks(w)
	}
	for name, r := range w.current() {
		c := containerStats{Name: name, ID: r.ID, Image: r.ImageRef, Path: a.Cgroups.Path(group, r.ID), Start: r.StartedAt}
		if c.Usage, err = a.Cgroups.Usage(group, r.ID); err != nil {
			continue
		}
		s.Containers = append(s.Containers, c)
	}
	slices.SortFunc(s.Containers, func(x, y containerStats) int { return cmp.Compare(x.Name, y.Name) })
	return s, true
}

// current are the runs of the Pod's running containers.
func (w *worker) current() map[string]*run {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := map[string]*run{}
	for name, r := range w.records {
		if r.Current.running() {
			all[name] = r.Current
		}
	}
	return all
}

// podLinks reads the counters of the Pod's links through one of its processes.
func (a *Agent) podLinks(w *worker) []linkStats {
	for _, r := range w.current() {
		if r.PID > 0 {
			return links("/proc/" + strconv.Itoa(r.PID) + "/net/dev")
		}
	}
	return nil
}

// links reads a table of links; the loopback leads nowhere and is left out.
func links(path string) []linkStats {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var all []linkStats
	for line := range bytes.Lines(data) {
		name, rest, ok := strings.Cut(string(line), ":")
		columns := strings.Fields(rest)
		if name = strings.TrimSpace(name); !ok || name == "lo" || len(columns) < 12 {
			continue
		}
		n := make([]uint64, 12)
		for i := range n {
			n[i], _ = strconv.ParseUint(columns[i], 10, 64) // the kernel writes numbers
		}
		all = append(all, linkStats{
			Name: name, ReceivedBytes: n[0], ReceivedPackets: n[1], ReceiveErrors: n[2], ReceiveDrops: n[3],
			SentBytes: n[8], SentPackets: n[9], SendErrors: n[10], SendDrops: n[11],
		})
	}
	return all
}

// diskOf is the room of the file system that a path is on.
func diskOf(path string) diskStats {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return diskStats{}
	}
	size := uint64(s.Bsize)
	return diskStats{
		Bytes: s.Blocks * size, Free: s.Bavail * size, Used: (s.Blocks - s.Bfree) * size,
		Inodes: s.Files, FreeInodes: s.Ffree, UsedInodes: s.Files - s.Ffree,
	}
}

// ticks are those of a second in /proc/stat.
const ticks = 100

// machineUsage reads the machine's CPU time and page faults, and when it started.
func machineUsage(stat, vmstat string) (u cgroup.Usage, boot time.Time) {
	for line := range strings.Lines(stat) {
		columns := strings.Fields(line)
		switch {
		case len(columns) >= 9 && columns[0] == "cpu":
			// user, nice, system; irq, softirq, steal: all but idle and waiting.
			for _, i := range []int{1, 2, 3, 6, 7, 8} {
				n, _ := strconv.ParseInt(columns[i], 10, 64) // the kernel writes numbers
				u.CPU += time.Duration(n) * time.Second / ticks
			}
		case len(columns) == 2 && columns[0] == "btime":
			n, _ := strconv.ParseInt(columns[1], 10, 64)
			boot = time.Unix(n, 0)
		}
	}
	for line := range strings.Lines(vmstat) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, _ := strconv.ParseUint(value, 10, 64)
		switch name {
		case "pgfault":
			u.Faults = n
		case "pgmajfault":
			u.MajorFaults = n
		}
	}
	return u, boot
}

// containersByState counts the containers of all Pods, for /metrics.
func (a *Agent) containersByState() map[string]int {
	all := map[string]int{}
	for _, w := range a.allWorkers() {
		w.mu.Lock()
		for _, r := range w.records {
			switch {
			case r.Current == nil:
			case r.Current.exited():
				all["exited"]++
			case r.Current.running():
				all["running"]++
			default:
				all["created"]++
			}
		}
		w.mu.Unlock()
	}
	return all
}
