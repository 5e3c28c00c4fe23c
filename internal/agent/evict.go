package agent

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/skiff-sh/skiff/internal/config"
)

// Room is how much there is left of something that a node can run short of.
type Room struct {
	Signal              string // "memory.available"
	Available, Capacity int64
}

// meaning is what belongs to a signal: a condition of the node and a resource of
// Pods. Signals of what a node does not tell apart have none.
func meaning(signal string) (condition corev1.NodeConditionType, name corev1.ResourceName) {
	switch signal {
	case "memory.available", allocatableMemory:
		return corev1.NodeMemoryPressure, corev1.ResourceMemory
	case "nodefs.available", "imagefs.available":
		return corev1.NodeDiskPressure, corev1.ResourceEphemeralStorage
	case "nodefs.inodesFree", "imagefs.inodesFree":
		return corev1.NodeDiskPressure, resourceInodes
	case "pid.available":
		return corev1.NodePIDPressure, resourcePIDs
	}
	return "", ""
}

// allocatableMemory is the signal of what is left of the memory for all Pods.
const allocatableMemory = "allocatableMemory.available"

// What Pods cannot ask for but use up.
const (
	resourceInodes corev1.ResourceName = "inodes"
	resourcePIDs   corev1.ResourceName = "pids"
)

// shortage is a signal below one of its thresholds.
type shortage struct {
	Room
	Condition corev1.NodeConditionType
	Resource  corev1.ResourceName
	Threshold resource.Quantity
	Grace     time.Duration // for how long it may last; 0: not at all
	Ripe      bool          // it has lasted that long: a Pod has to go
}

func (s shortage) key() shortageKey { return shortageKey{s.Signal, s.Grace} }

// available is what is left, in the form in which it is told.
func (s shortage) available() *resource.Quantity {
	format := resource.BinarySI
	if s.Resource == resourceInodes || s.Resource == resourcePIDs {
		format = resource.DecimalSI
	}
	return resource.NewQuantity(s.Available, format)
}

// shortages are what there is too little of, in the order of the thresholds: the most
// urgent first. What was acted upon before is short until the least to be got back is
// there on top. It is pure.
func shortages(thresholds []config.Threshold, rooms []Room, before func(shortageKey) bool) []shortage {
	var out []shortage
	for _, t := range thresholds {
		condition, name := meaning(t.Signal)
		i := slices.IndexFunc(rooms, func(r Room) bool { return r.Signal == t.Signal })
		if condition == "" || i < 0 || rooms[i].Capacity == 0 {
			continue
		}
		least := t.Least.Of(rooms[i].Capacity)
		s := shortage{Room: rooms[i], Condition: condition, Resource: name, Grace: t.Grace, Threshold: *resource.NewQuantity(least, resource.BinarySI)}
		if t.Least.Percent == 0 {
			s.Threshold = t.Least.Quantity
		}
		enough := least
		if before(s.key()) {
			enough += t.Reclaim.Of(rooms[i].Capacity)
		}
		if rooms[i].Available < enough {
			out = append(out, s)
		}
	}
	return out
}

// shortageKey names a threshold: of each signal there is a hard and a soft one.
type shortageKey struct {
	signal string
	grace  time.Duration
}

// pressures is what a node was short of lately. A condition stays for a while after
// the last shortage, or it would come and go with every Pod.
type pressures struct {
	begun map[shortageKey]time.Time // of the shortages there are
	acted map[shortageKey]bool      // those that had lasted long enough
	since map[corev1.NodeConditionType]time.Time
}

func (p *pressures) hadActed(k shortageKey) bool { return p.acted[k] }

// take takes what is short now, says of each whether it has lasted long enough, and
// returns the conditions that hold. Those of soft thresholds do so from the beginning.
func (p *pressures) take(short []shortage, transition time.Duration, now time.Time) map[corev1.NodeConditionType]bool {
	begun, acted := map[shortageKey]time.Time{}, map[shortageKey]bool{}
	if p.since == nil {
		p.since = map[corev1.NodeConditionType]time.Time{}
	}
	for i := range short {
		s := &short[i]
		at, known := p.begun[s.key()]
		if !known {
			at = now
		}
		begun[s.key()] = at
		if s.Ripe = now.Sub(at) >= s.Grace; s.Ripe {
			acted[s.key()] = true
		}
		p.since[s.Condition] = now
	}
	p.begun, p.acted = begun, acted
	hold := map[corev1.NodeConditionType]bool{}
	for condition, last := range p.since {
		if now.Sub(last) < transition || last.Equal(now) {
			hold[condition] = true
		} else {
			delete(p.since, condition)
		}
	}
	return hold
}

// ripe are the shortages for which a Pod has to go.
func ripe(short []shortage) []shortage {
	return slices.DeleteFunc(slices.Clone(short), func(s shortage) bool { return !s.Ripe })
}

// evictionGrace is how many seconds a Pod gets that goes for a shortage; 0: what it
// says itself.
func evictionGrace(s shortage, most int64) int64 {
	switch {
	case s.Grace == 0:
		return 1
	case most < 0:
		return 0
	}
	return max(most, 1)
}

// refusedUnderPressure is why a node that is short of something takes no such Pod.
func refusedUnderPressure(pod *corev1.Pod, hold map[corev1.NodeConditionType]bool) *refusal {
	if len(hold) == 0 || isCritical(pod) {
		return nil
	}
	if len(hold) == 1 && hold[corev1.NodeMemoryPressure] {
		tolerated := slices.ContainsFunc(pod.Spec.Tolerations, func(t corev1.Toleration) bool {
			return (t.Key == corev1.TaintNodeMemoryPressure || t.Key == "" && t.Operator == corev1.TolerationOpExists) &&
				(t.Effect == corev1.TaintEffectNoSchedule || t.Effect == "") && (t.Operator == corev1.TolerationOpExists || t.Value == "")
		})
		if qosClass(pod) != corev1.PodQOSBestEffort || tolerated {
			return nil
		}
	}
	var names []string
	for _, condition := range slices.Sorted(maps.Keys(hold)) {
		names = append(names, string(condition))
	}
	return &refusal{Reason: reasonEvicted, Message: fmt.Sprintf("The node had condition: [%s]. ", strings.Join(names, " "))}
}

// reasonEvicted is the reason of what a node does to keep itself going.
const reasonEvicted = "Evicted"
