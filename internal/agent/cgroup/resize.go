package cgroup

import (
	"math"
	"path/filepath"
	"slices"
	"strconv"
)

// Limits are what a cgroup's processes may use; zero means no limit.
type Limits struct {
	CPUShares   uint64
	CPUQuota    int64 // microseconds per period
	CPUPeriod   uint64
	MemoryLimit int64 // bytes
}

// Change is a container whose limits become others.
type Change struct {
	ID       string
	Old, New Limits
}

// Resize gives a Pod's cgroup and containers in it other limits while they run. Each
// is changed when it is in nobody's way: the Pod's grows before its containers' and
// shrinks after them, and of these those that shrink come first. What fails ends it:
// the rest is left as it was, and calling again completes it.
func (t *Tree) Resize(p Pod, changes []Change) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	old, known := t.pods[p.UID]
	if !known {
		old = p
	}
	pod := t.Parent(p)
	for _, s := range resizeSteps(old, p, changes) {
		dir := filepath.Join(pod, s.container)
		if err := t.apply(dir, s); err != nil {
			return err
		}
		if s.container != "" {
			continue
		}
		if s.memory {
			old.MemoryLimit = s.to.MemoryLimit
		} else {
			old.CPUShares, old.CPUQuota, old.CPUPeriod = s.to.CPUShares, s.to.CPUQuota, s.to.CPUPeriod
		}
		t.pods[p.UID] = old
	}
	t.pods[p.UID] = p
	return t.weighBurstable()
}

// resizeStep sets either the memory or the CPU time of one cgroup.
type resizeStep struct {
	container string // "": the Pod's
	memory    bool
	to        Limits
	grows     bool
}

// resizeSteps is the order in which limits change. It is pure.
func resizeSteps(old, next Pod, changes []Change) []resizeStep {
	var out []resizeStep
	for _, memory := range []bool{true, false} {
		pod := Change{Old: old.limits(), New: next.limits()}
		order := slices.Clone(changes)
		slices.SortStableFunc(order, func(a, b Change) int { return a.growth(memory) - b.growth(memory) })
		if pod.growth(memory) > 0 {
			order = slices.Insert(order, 0, pod)
		} else {
			order = append(order, pod)
		}
		for _, c := range order {
			if c.differs(memory) {
				out = append(out, resizeStep{container: c.ID, memory: memory, to: c.New, grows: c.growth(memory) > 0})
			}
		}
	}
	return out
}

func (p Pod) limits() Limits {
	return Limits{CPUShares: p.CPUShares, CPUQuota: p.CPUQuota, CPUPeriod: p.CPUPeriod, MemoryLimit: p.MemoryLimit}
}

func (c Change) differs(memory bool) bool {
	if memory {
		return c.Old.MemoryLimit != c.New.MemoryLimit
	}
	return c.Old.CPUQuota != c.New.CPUQuota || c.Old.CPUShares != c.New.CPUShares
}

// growth is 1 where the limit becomes a higher one, -1 where a lower one, 0 where it
// stays.
func (c Change) growth(memory bool) int {
	old, next := c.Old.CPUQuota, c.New.CPUQuota
	if memory {
		old, next = c.Old.MemoryLimit, c.New.MemoryLimit
	}
	for _, limit := range []*int64{&old, &next} {
		if *limit <= 0 {
			*limit = math.MaxInt64
		}
	}
	switch {
	case next > old:
		return 1
	case next < old:
		return -1
	}
	return 0
}

func (t *Tree) apply(dir string, s resizeStep) error {
	to := Pod{CPUShares: s.to.CPUShares, CPUQuota: s.to.CPUQuota, CPUPeriod: s.to.CPUPeriod, MemoryLimit: s.to.MemoryLimit}
	switch {
	case !s.memory:
		return t.setCPU(dir, to)
	case s.container == "" || t.unified != "":
		return t.setMemory(dir, to)
	}
	// On v1 a container's limit may not be above the one that counts its swap too.
	both := func() error {
		value := "-1"
		if to.MemoryLimit > 0 {
			value = strconv.FormatInt(to.MemoryLimit, 10)
		}
		return t.set(t.v1["memory"], dir, "memory.memsw.limit_in_bytes", value)
	}
	if s.grows {
		if err := both(); err != nil {
			return err
		}
		return t.setMemory(dir, to)
	}
	if err := t.setMemory(dir, to); err != nil {
		return err
	}
	return both()
}
