package agent

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/agent/cgroup"
)

// What /stats/summary answers: the fields of upstream's stats API (v1alpha1) that
// this node knows.
type (
	summary struct {
		Node nodeSummary  `json:"node"`
		Pods []podSummary `json:"pods"`
	}
	nodeSummary struct {
		NodeName  string          `json:"nodeName"`
		StartTime metav1.Time     `json:"startTime"`
		CPU       *cpuSummary     `json:"cpu,omitempty"`
		Memory    *memorySummary  `json:"memory,omitempty"`
		Network   *networkSummary `json:"network,omitempty"`
		FS        *diskSummary    `json:"fs,omitempty"`
		Runtime   *runtimeSummary `json:"runtime,omitempty"`
		Rlimit    *limitSummary   `json:"rlimit,omitempty"`
		Swap      *swapSummary    `json:"swap,omitempty"`
	}
	podSummary struct {
		PodRef struct {
			Name      string `json:"name"`
			Namespace string `json:"namespace"`
			UID       string `json:"uid"`
		} `json:"podRef"`
		StartTime        metav1.Time        `json:"startTime"`
		Containers       []containerSummary `json:"containers"`
		CPU              *cpuSummary        `json:"cpu,omitempty"`
		Memory           *memorySummary     `json:"memory,omitempty"`
		Network          *networkSummary    `json:"network,omitempty"`
		Volumes          []volumeSummary    `json:"volume,omitempty"`
		EphemeralStorage *diskSummary       `json:"ephemeral-storage,omitempty"`
		ProcessStats     *processSummary    `json:"process_stats,omitempty"`
		Swap             *swapSummary       `json:"swap,omitempty"`
	}
	containerSummary struct {
		Name      string         `json:"name"`
		StartTime metav1.Time    `json:"startTime"`
		CPU       *cpuSummary    `json:"cpu,omitempty"`
		Memory    *memorySummary `json:"memory,omitempty"`
		RootFS    *diskSummary   `json:"rootfs,omitempty"`
		Logs      *diskSummary   `json:"logs,omitempty"`
		Swap      *swapSummary   `json:"swap,omitempty"`
	}
	cpuSummary struct {
		Time                 metav1.Time `json:"time"`
		UsageNanoCores       *uint64     `json:"usageNanoCores,omitempty"`
		UsageCoreNanoSeconds uint64      `json:"usageCoreNanoSeconds"`
	}
	memorySummary struct {
		Time            metav1.Time `json:"time"`
		AvailableBytes  *uint64     `json:"availableBytes,omitempty"`
		UsageBytes      uint64      `json:"usageBytes"`
		WorkingSetBytes uint64      `json:"workingSetBytes"`
		RSSBytes        uint64      `json:"rssBytes"`
		PageFaults      uint64      `json:"pageFaults"`
		MajorPageFaults uint64      `json:"majorPageFaults"`
	}
	swapSummary struct {
		Time           metav1.Time `json:"time"`
		SwapUsageBytes uint64      `json:"swapUsageBytes"`
	}
	networkSummary struct {
		Time metav1.Time `json:"time"`
		linkSummary
		Interfaces []linkSummary `json:"interfaces,omitempty"`
	}
	linkSummary struct {
		Name     string `json:"name"`
		RxBytes  uint64 `json:"rxBytes"`
		RxErrors uint64 `json:"rxErrors"`
		TxBytes  uint64 `json:"txBytes"`
		TxErrors uint64 `json:"txErrors"`
	}
	diskSummary struct {
		Time           metav1.Time `json:"time"`
		AvailableBytes *uint64     `json:"availableBytes,omitempty"`
		CapacityBytes  *uint64     `json:"capacityBytes,omitempty"`
		UsedBytes      uint64      `json:"usedBytes"`
		InodesFree     *uint64     `json:"inodesFree,omitempty"`
		Inodes         *uint64     `json:"inodes,omitempty"`
		InodesUsed     *uint64     `json:"inodesUsed,omitempty"`
	}
	volumeSummary struct {
		diskSummary
		Name string `json:"name"`
	}
	runtimeSummary struct {
		ImageFS     *diskSummary `json:"imageFs,omitempty"`
		ContainerFS *diskSummary `json:"containerFs,omitempty"`
	}
	limitSummary struct {
		Time    metav1.Time `json:"time"`
		MaxPID  int64       `json:"maxpid"`
		Current int64       `json:"curproc"`
	}
	processSummary struct {
		ProcessCount uint64 `json:"process_count"`
	}
)

// rates works out how much CPU is used now from what was used in all some time ago.
// That is at least a window ago, whoever asked then and however many ask, so that all
// are told the same; until a window has passed since the first, it is the mean since
// the first, or since the start.
type rates struct {
	mu   sync.Mutex        // who asks has it while he reads what is used and its rates
	last map[string]course // by cgroup, or "" for the machine
	next map[string]course
}

// course is what a cgroup had used at two times: the older is a window older than
// the newer. They are zero before.
type course struct{ older, newer point }

type point struct {
	at  time.Time
	cpu time.Duration
}

const (
	rateWindow = 10 * time.Second
	// A shorter or longer time says little.
	rateFloor   = time.Second
	rateCeiling = 5 * time.Minute
)

// of is the rate in billionths of a core.
func (r *rates) of(key string, start, now time.Time, cpu time.Duration) *uint64 {
	c := r.last[key]
	if cpu < c.newer.cpu { // another cgroup of that name
		c = course{}
	}
	known := !c.newer.at.IsZero()
	if age := now.Sub(c.newer.at); !known || age >= rateWindow {
		r.next[key] = course{c.newer, point{now, cpu}}
	} else {
		r.next[key] = c
	}
	since := point{at: start}
	lately := now.Sub(c.older.at) <= rateCeiling
	switch age := now.Sub(c.newer.at); {
	case !known:
	case age >= rateWindow, !lately && age >= rateFloor:
		since = c.newer
	case lately:
		since = c.older
	}
	took := now.Sub(since.at)
	if since.at.IsZero() || took <= 0 {
		return nil
	}
	return new(uint64(float64(cpu-since.cpu) / float64(took) * float64(time.Second)))
}

// serveSummary answers /stats/summary.
func (a *Agent) serveSummary(w http.ResponseWriter, r *http.Request) {
	answer := a.summary(r.Context(), r.URL.Query().Get("only_cpu_and_memory") == "true")
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		a.log.Debug("answer stats", zap.Error(err))
	}
}

func (a *Agent) summary(ctx context.Context, short bool) summary {
	a.rates.mu.Lock()
	defer a.rates.mu.Unlock()
	var s nodeStats
	if short {
		s = a.stats()
	} else {
		s = a.statsWith(func(w *worker) *footprint { return a.footprint(ctx, w, footprintAge) })
	}
	a.rates.next = map[string]course{}
	answer := summarize(s, &a.rates, short)
	a.rates.last = a.rates.next // those of cgroups that are gone are forgotten
	return answer
}

func summarize(s nodeStats, r *rates, short bool) summary {
	at := metav1.NewTime(s.Time)
	out := summary{Pods: []podSummary{}}
	out.Node = nodeSummary{
		NodeName: s.Name, StartTime: metav1.NewTime(s.Boot),
		CPU:    cpuOf(r.of("", s.Boot, s.Time, s.Usage.CPU), s.Usage, at),
		Memory: memoryOf(s.Usage, at), Swap: &swapSummary{at, s.Usage.Swap},
	}
	out.Node.Memory.AvailableBytes = &s.Free
	if !short {
		out.Node.Network, out.Node.FS = networkOf(s.Links, at), fileSystemOf(s.Disk, at)
		images := fileSystemOf(s.Images, at)
		out.Node.Runtime = &runtimeSummary{ImageFS: images, ContainerFS: images}
		out.Node.Rlimit = limitOf(s, at)
	}
	for _, p := range s.Pods {
		one := podSummary{
			StartTime: metav1.NewTime(p.Start), Containers: []containerSummary{},
			CPU:    cpuOf(r.of(p.Path, p.Start, s.Time, p.Usage.CPU), p.Usage, at),
			Memory: memoryOf(p.Usage, at), Swap: &swapSummary{at, p.Usage.Swap},
			ProcessStats: &processSummary{p.Usage.Processes},
		}
		one.PodRef.Name, one.PodRef.Namespace, one.PodRef.UID = p.Name, p.Namespace, p.UID
		if !short {
			one.Network = networkOf(p.Links, at)
		}
		if p.Disks != nil {
			one.Volumes, one.EphemeralStorage = volumesOf(p.Disks), takenOf(s.Disk, p.Disks.total(), p.Disks.At)
		}
		for _, c := range p.Containers {
			in := containerSummary{
				Name: c.Name, StartTime: metav1.NewTime(c.Start),
				CPU:    cpuOf(r.of(c.Path, c.Start, s.Time, c.Usage.CPU), c.Usage, at),
				Memory: memoryOf(c.Usage, at), Swap: &swapSummary{at, c.Usage.Swap},
			}
			if p.Disks != nil {
				in.RootFS = takenOf(s.Images, p.Disks.Layers[c.ID], p.Disks.At)
				in.Logs = takenOf(s.Disk, p.Disks.Logs[c.ID], p.Disks.At)
			}
			one.Containers = append(one.Containers, in)
		}
		out.Pods = append(out.Pods, one)
	}
	return out
}

func cpuOf(rate *uint64, u cgroup.Usage, at metav1.Time) *cpuSummary {
	return &cpuSummary{Time: at, UsageNanoCores: rate, UsageCoreNanoSeconds: uint64(u.CPU)}
}

func memoryOf(u cgroup.Usage, at metav1.Time) *memorySummary {
	m := &memorySummary{
		Time: at, UsageBytes: u.Memory, WorkingSetBytes: u.WorkingSet, RSSBytes: u.RSS, PageFaults: u.Faults, MajorPageFaults: u.MajorFaults,
	}
	if u.MemoryLimit > 0 {
		m.AvailableBytes = new(u.MemoryLimit - min(u.WorkingSet, u.MemoryLimit))
	}
	return m
}

func networkOf(links []linkStats, at metav1.Time) *networkSummary {
	if len(links) == 0 {
		return nil
	}
	n := &networkSummary{Time: at}
	for _, l := range links {
		one := linkSummary{l.Name, l.ReceivedBytes, l.ReceiveErrors, l.SentBytes, l.SendErrors}
		if n.Name == "" || l.Name == "eth0" {
			n.linkSummary = one
		}
		n.Interfaces = append(n.Interfaces, one)
	}
	return n
}

func fileSystemOf(d diskStats, at metav1.Time) *diskSummary {
	return &diskSummary{
		Time: at, AvailableBytes: &d.Free, CapacityBytes: &d.Bytes, UsedBytes: d.Used,
		InodesFree: &d.FreeInodes, Inodes: &d.Inodes, InodesUsed: &d.UsedInodes,
	}
}

// takenOf is what something takes of a file system.
func takenOf(d diskStats, t taken, at time.Time) *diskSummary {
	d.Used, d.UsedInodes = uint64(t.Bytes), uint64(t.Inodes)
	return fileSystemOf(d, metav1.NewTime(at))
}

func volumesOf(f *footprint) []volumeSummary {
	var out []volumeSummary
	for _, name := range slices.Sorted(maps.Keys(f.Volumes)) {
		v := f.Volumes[name]
		out = append(out, volumeSummary{*takenOf(v.Room, v.taken, f.At), name})
	}
	return out
}

// limitOf is how many processes the machine has and may have.
func limitOf(s nodeStats, at metav1.Time) *limitSummary {
	if s.MaxProcesses == 0 {
		return nil
	}
	return &limitSummary{at, s.MaxProcesses, s.Processes}
}
