package agent

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
)

// evictionPatience is how long the node waits for an evicted Pod to be gone before
// it looks for another one.
const evictionPatience = 30 * time.Second

// relief is what an Agent does about running short.
type relief struct {
	mu        sync.Mutex // guards what follows
	pressures pressures
	hold      map[corev1.NodeConditionType]bool
	short     []shortage

	// The Pod that was evicted last; for runNode alone.
	evicted *worker
	since   time.Time
}

// look sees what the machine is short of now.
func (a *Agent) look() (Pressure, []shortage) {
	p := a.Machine.Pressure()
	a.relief.mu.Lock()
	defer a.relief.mu.Unlock()
	a.relief.short = shortages(a.Kubelet, p.Room, a.relief.pressures.short)
	a.relief.hold = a.relief.pressures.take(a.relief.short, a.Kubelet.PressureTransition, time.Now())
	for condition, held := range map[corev1.NodeConditionType]*bool{
		corev1.NodeMemoryPressure: &p.Memory, corev1.NodeDiskPressure: &p.Disk, corev1.NodePIDPressure: &p.PIDs,
	} {
		*held = *held || a.relief.hold[condition]
	}
	return p, a.relief.short
}

func (a *Agent) pressure() map[corev1.NodeConditionType]bool {
	a.relief.mu.Lock()
	defer a.relief.mu.Unlock()
	return a.relief.hold
}

// relieve evicts Pods that write more than they may, and, when the node is short of
// something, the one that has to go first: one at a time, for each may be enough.
func (a *Agent) relieve(ctx context.Context) {
	_, short := a.look()
	workers := slices.DeleteFunc(a.allWorkers(), func(w *worker) bool { return !w.evictable() })
	limited := false
	for _, w := range workers {
		w.mu.Lock()
		pod := w.pod
		w.mu.Unlock()
		if !limitsDisk(pod) {
			continue
		}
		if why := overDisk(a.loadOf(ctx, w, true)); why != "" && !isCritical(pod) {
			w.evict(why, false)
			limited = true
		}
	}
	if limited || len(short) == 0 || a.waitsForEvicted() {
		return
	}
	first := short[0]
	if node := a.own.get(); node != nil {
		ref := &corev1.ObjectReference{Kind: "Node", Name: a.NodeName, UID: node.UID}
		a.recorder.Eventf(ref, corev1.EventTypeWarning, "EvictionThresholdMet", "Attempting to reclaim %s", first.Resource)
	}
	disk := first.Condition == corev1.NodeDiskPressure
	if disk && a.removeImages(ctx, allImages) > 0 {
		if _, short = a.look(); len(short) == 0 {
			return
		}
	}
	var loads []load
	byUID := map[string]*worker{}
	for _, w := range workers {
		l := a.loadOf(ctx, w, disk)
		if isCritical(l.Pod) {
			continue
		}
		byUID[w.uid] = w
		loads = append(loads, l)
	}
	if len(loads) == 0 {
		a.log.Warn("the node is short and there is no pod to evict", zap.String("resource", string(first.Resource)))
		return
	}
	rank(loads, first.Resource)
	w := byUID[string(loads[0].Pod.UID)]
	a.relief.evicted, a.relief.since = w, time.Now()
	w.evict(evictionMessage(first, loads[0]), true)
}

// waitsForEvicted says whether the Pod that was evicted last is still going.
func (a *Agent) waitsForEvicted() bool {
	w := a.relief.evicted
	if w == nil || time.Since(a.relief.since) > evictionPatience {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		a.relief.evicted = nil
	}
	return !w.ended
}

// evictable says whether the Pod uses something and may still be ended.
func (w *worker) evictable() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.gone && !w.stopped && w.ending == nil && !terminal(w.pod) && w.box.Ready
}

// evict ends the Pod at once: it has failed, and its node says why.
func (w *worker) evict(why string, disrupted bool) {
	w.eventPod(corev1.EventTypeWarning, reasonEvicted, "%s", why)
	w.log.Info("pod evicted", zap.String("why", why))
	w.mu.Lock()
	w.ending = &ending{Reason: reasonEvicted, Message: why, Grace: 1, Disrupted: disrupted}
	close(w.hurry)
	w.hurry = make(chan struct{})
	w.mu.Unlock()
	w.poke()
}

// loadOf reads what a Pod uses; of the disk where it is asked for. What cannot be
// read counts as nothing.
func (a *Agent) loadOf(ctx context.Context, w *worker, disk bool) load {
	w.mu.Lock()
	pod := w.pod
	w.mu.Unlock()
	group := podCgroup(pod)
	l := load{Pod: pod, Uses: map[corev1.ResourceName]int64{}, Volumes: map[string]int64{}}
	if u, err := a.Cgroups.Usage(group, ""); err == nil {
		l.Uses[corev1.ResourceMemory], l.Uses["pids"] = int64(u.WorkingSet), int64(u.Processes)
	}
	var disks *footprint
	if disk {
		disks = a.footprint(ctx, w, 0)
		sum := disks.total()
		l.Uses[corev1.ResourceEphemeralStorage], l.Uses["inodes"] = sum.Bytes, sum.Inodes
		for name, v := range disks.Volumes {
			if v.Local {
				l.Volumes[name] = v.Bytes
			}
		}
	}
	for name, r := range w.current() {
		c := containerLoad{Name: name, Uses: map[corev1.ResourceName]int64{}}
		if u, err := a.Cgroups.Usage(group, r.ID); err == nil {
			c.Uses[corev1.ResourceMemory] = int64(u.WorkingSet)
		}
		if disk {
			sum := disks.Layers[r.ID]
			sum.add(disks.Logs[r.ID])
			c.Uses[corev1.ResourceEphemeralStorage], c.Uses["inodes"] = sum.Bytes, sum.Inodes
		}
		l.Containers = append(l.Containers, c)
	}
	slices.SortFunc(l.Containers, func(x, y containerLoad) int { return cmp.Compare(x.Name, y.Name) })
	return l
}

// rooms reads what a machine has left whose disk is at dir.
func rooms(dir string) []Room {
	out := []Room{{"memory.available", meminfo("MemAvailable"), meminfo("MemTotal")}}
	if d, err := readDisk(dir); err == nil {
		out = append(out, Room{"nodefs.available", d.Free, d.Total}, Room{"nodefs.inodesFree", int64(d.InodesFree), int64(d.Inodes)})
	}
	if used, limit, ok := processes(firstFile("/proc/loadavg"), firstFile("/proc/sys/kernel/pid_max")); ok {
		out = append(out, Room{"pid.available", limit - used, limit})
	}
	return out
}
