package agent

import (
	"cmp"
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
)

// evictionPatience is how long the node waits, beyond the time that it gave an evicted
// Pod, for that to be gone before it looks for another one.
const evictionPatience = 30 * time.Second

// relief is what an Agent does about running short.
type relief struct {
	mu        sync.Mutex // guards what follows
	pressures pressures
	hold      map[corev1.NodeConditionType]bool

	// The Pod that was evicted last; for runNode alone.
	evicted *worker
	until   time.Time
}

// look sees what the machine is short of now, and what of it Pods have to go for.
func (a *Agent) look() (Pressure, []shortage) {
	p := a.pressureNow()
	a.relief.mu.Lock()
	defer a.relief.mu.Unlock()
	short := shortages(a.Kubelet.Thresholds(), p.Room, a.relief.pressures.hadActed)
	a.relief.hold = a.relief.pressures.take(short, a.Kubelet.PressureTransition, time.Now())
	for condition, held := range map[corev1.NodeConditionType]*bool{
		corev1.NodeMemoryPressure: &p.Memory, corev1.NodeDiskPressure: &p.Disk, corev1.NodePIDPressure: &p.PIDs,
	} {
		*held = *held || a.relief.hold[condition]
	}
	return p, ripe(short)
}

// pressureNow is what the machine says, and what the Pods' limit as a whole leaves.
func (a *Agent) pressureNow() Pressure {
	p := a.Machine.Pressure()
	if len(p.Room) == 0 {
		return p
	}
	u, err := a.Cgroups.Whole()
	if err != nil {
		a.log.Debug("read what all pods use", zap.Error(err))
		return p
	}
	limit := a.machine.memory()
	if u.MemoryLimit > 0 {
		limit = min(limit, int64(u.MemoryLimit))
	}
	p.Room = append(p.Room, Room{allocatableMemory, limit - int64(u.WorkingSet), limit})
	return p
}

// enough says whether there is so much of everything that no Pod has to go, what is to
// be got back included.
func (a *Agent) enough() bool {
	all := func(shortageKey) bool { return true }
	return len(shortages(a.Kubelet.Thresholds(), a.pressureNow().Room, all)) == 0
}

func (a *Agent) pressure() map[corev1.NodeConditionType]bool {
	a.relief.mu.Lock()
	defer a.relief.mu.Unlock()
	return a.relief.hold
}

// relieve evicts Pods that write more than they may, and, when the node is short of
// something, the one that has to go first: one at a time, for each may be enough.
func (a *Agent) relieve(ctx context.Context) {
	p, short := a.look()
	workers := slices.DeleteFunc(a.allWorkers(), func(w *worker) bool { return !w.evictable() })
	if a.evictWriters(ctx, workers, p.ImagesApart) || len(short) == 0 || a.waitsForEvicted() {
		return
	}
	first := short[0]
	if ref := a.nodeRef(); ref != nil {
		a.recorder.Eventf(ref, corev1.EventTypeWarning, "EvictionThresholdMet", "Attempting to reclaim %s", first.Resource)
	}
	disk := first.Condition == corev1.NodeDiskPressure
	on := disksOf(first.Signal, p.ImagesApart)
	if disk && on.Layers { // what images and ended containers take can be got back
		a.buryDead(true)
		a.removeImages(ctx, allImages)
		if a.enough() {
			return
		}
	}
	loads := a.candidates(ctx, workers, disk, on)
	if len(loads) == 0 {
		a.log.Warn("the node is short and there is no pod to evict", zap.String("resource", string(first.Resource)))
		return
	}
	rank(loads, first.Resource)
	why, whom := evictionMessage(first, loads[0])
	grace := evictionGrace(first, a.Kubelet.MaxPodGrace)
	given := time.Duration(min(cmp.Or(grace, math.MaxInt32), graceOf(loads[0].Pod))) * time.Second
	a.relief.evicted, a.relief.until = loads[0].worker, time.Now().Add(given+evictionPatience)
	loads[0].worker.evict(ending{Message: why, Grace: grace, Disrupted: true}, whom.annotations())
}

// candidates are the Pods of which one may have to go, with what they use.
func (a *Agent) candidates(ctx context.Context, workers []*worker, disk bool, on disks) (out []load) {
	for _, w := range workers {
		l := a.loadOf(ctx, w, disk)
		if isCritical(l.Pod) {
			continue
		}
		l.measure(on)
		out = append(out, l)
	}
	return out
}

// evictWriters evicts those that have written more than they may, and says whether
// there were any.
func (a *Agent) evictWriters(ctx context.Context, workers []*worker, imagesApart bool) (some bool) {
	for _, w := range workers {
		w.mu.Lock()
		pod := w.pod
		w.mu.Unlock()
		if !limitsDisk(pod) || isCritical(pod) {
			continue
		}
		if why := overDisk(a.loadOf(ctx, w, true), imagesApart); why != "" {
			w.evict(ending{Message: why, Grace: 1}, nil)
			some = true
		}
	}
	return some
}

// nodeRef is what events of the node are about; nil before it is known.
func (a *Agent) nodeRef() *corev1.ObjectReference {
	if uid := a.nodeUID.Load(); uid != nil {
		return &corev1.ObjectReference{Kind: "Node", Name: a.NodeName, UID: *uid}
	}
	return nil
}

// waitsForEvicted says whether the Pod that was evicted last is still going.
func (a *Agent) waitsForEvicted() bool {
	w := a.relief.evicted
	if w == nil || time.Now().After(a.relief.until) {
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

// evict ends the Pod: it has failed, and its node says why.
func (w *worker) evict(e ending, annotations map[string]string) {
	e.Reason = reasonEvicted
	w.recorder.AnnotatedEventf(w.ref(""), annotations, corev1.EventTypeWarning, e.Reason, "%s", e.Message)
	w.log.Info("pod evicted", zap.String("why", e.Message))
	w.terminate(e)
}

// terminate ends the Pod for the node's own reason, unless it has one already.
func (w *worker) terminate(e ending) {
	w.mu.Lock()
	if w.ending == nil {
		w.ending = &e
	}
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
	l := load{worker: w, Pod: pod, Uses: map[corev1.ResourceName]int64{}, Disks: &footprint{}}
	if u, err := a.Cgroups.Usage(group, ""); err == nil {
		l.Uses[corev1.ResourceMemory], l.Uses[resourcePIDs] = int64(u.WorkingSet), int64(u.Processes)
	}
	if disk {
		l.Disks = a.footprint(ctx, w, 0)
	}
	for name, r := range w.current() {
		c := containerLoad{Name: name, Layer: l.Disks.Layers[r.ID], Logs: l.Disks.Logs[r.ID]}
		if u, err := a.Cgroups.Usage(group, r.ID); err == nil {
			c.Memory = int64(u.WorkingSet)
		}
		l.Containers = append(l.Containers, c)
	}
	slices.SortFunc(l.Containers, func(x, y containerLoad) int { return cmp.Compare(x.Name, y.Name) })
	return l
}
