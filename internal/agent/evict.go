package agent

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"

	"github.com/skiff-sh/skiff/internal/config"
)

// Room is how much there is left of something that a node can run short of.
type Room struct {
	Signal              string // "memory.available"
	Available, Capacity int64
}

// signalOrder is all that nodes go by, the most urgent first; each belongs to a
// condition of the node and a resource of Pods.
var signalOrder = [...]struct {
	name      string
	condition corev1.NodeConditionType
	resource  corev1.ResourceName
}{
	{"memory.available", corev1.NodeMemoryPressure, corev1.ResourceMemory},
	{"nodefs.available", corev1.NodeDiskPressure, corev1.ResourceEphemeralStorage},
	{"imagefs.available", corev1.NodeDiskPressure, corev1.ResourceEphemeralStorage},
	{"nodefs.inodesFree", corev1.NodeDiskPressure, "inodes"},
	{"imagefs.inodesFree", corev1.NodeDiskPressure, "inodes"},
	{"pid.available", corev1.NodePIDPressure, "pids"},
}

// shortage is a signal below its threshold.
type shortage struct {
	Room
	Condition corev1.NodeConditionType
	Resource  corev1.ResourceName
	Threshold resource.Quantity
}

// shortages are what there is too little of, the most urgent first. What was short
// before is so until the least to be got back is there on top. It is pure.
func shortages(k config.Kubelet, rooms []Room, before map[string]bool) []shortage {
	var out []shortage
	for _, s := range signalOrder {
		limit, ok := k.EvictionHard[s.name]
		i := slices.IndexFunc(rooms, func(r Room) bool { return r.Signal == s.name })
		if !ok || i < 0 || rooms[i].Capacity == 0 {
			continue
		}
		least := limit.Of(rooms[i].Capacity)
		enough := least
		if before[s.name] {
			enough += k.MinimumReclaim[s.name].Of(rooms[i].Capacity)
		}
		if rooms[i].Available >= enough {
			continue
		}
		threshold := *resource.NewQuantity(least, resource.BinarySI)
		if limit.Percent == 0 {
			threshold = limit.Quantity
		}
		out = append(out, shortage{Room: rooms[i], Condition: s.condition, Resource: s.resource, Threshold: threshold})
	}
	return out
}

// pressures is what a node was short of lately. A condition stays for a while after
// the last shortage, or it would come and go with every Pod.
type pressures struct {
	short map[string]bool // by signal
	since map[corev1.NodeConditionType]time.Time
}

// take takes what is short now and returns the conditions that hold.
func (p *pressures) take(short []shortage, transition time.Duration, now time.Time) map[corev1.NodeConditionType]bool {
	p.short = map[string]bool{}
	if p.since == nil {
		p.since = map[corev1.NodeConditionType]time.Time{}
	}
	for _, s := range short {
		p.short[s.Signal] = true
		p.since[s.Condition] = now
	}
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

// load is what a Pod uses of a node, for who goes first.
type load struct {
	Pod        *corev1.Pod
	Uses       map[corev1.ResourceName]int64
	Containers []containerLoad
	Volumes    map[string]int64 // bytes of emptyDirs on the disk
}

type containerLoad struct {
	Name string
	Uses map[corev1.ResourceName]int64
}

// rank orders Pods by who has to go first: those that use more than they asked for,
// then by priority, then by how much more. Processes and inodes nobody asks for.
func rank(loads []load, r corev1.ResourceName) {
	slices.SortStableFunc(loads, func(x, y load) int {
		over := func(l load) int {
			if r == "pids" || l.excess(r) <= 0 {
				return 1
			}
			return 0
		}
		return cmp.Or(cmp.Compare(over(x), over(y)), cmp.Compare(priorityOf(x.Pod), priorityOf(y.Pod)), cmp.Compare(y.excess(r), x.excess(r)))
	})
}

// excess is how much more of something the Pod uses than it asked for.
func (l load) excess(r corev1.ResourceName) int64 {
	requests := resourcehelper.PodRequests(l.Pod, resourcehelper.PodResourcesOptions{ExcludeOverhead: true})
	q := requests[r]
	return l.Uses[r] - q.Value()
}

func priorityOf(pod *corev1.Pod) int32 {
	if pod.Spec.Priority != nil {
		return *pod.Spec.Priority
	}
	return 0
}

// systemCritical is the priority from which on a Pod is never evicted.
const systemCritical = 2_000_000_000

func isCritical(pod *corev1.Pod) bool {
	_, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]
	return mirror || priorityOf(pod) >= systemCritical
}

// evictionMessage says why a Pod has to go when the node is short of something.
func evictionMessage(s shortage, l load) string {
	text := fmt.Sprintf("The node was low on resource: %s. Threshold quantity: %s, available: %s. ",
		s.Resource, s.Threshold.String(), resource.NewQuantity(s.Available, resource.BinarySI))
	if s.Resource != corev1.ResourceMemory && s.Resource != corev1.ResourceEphemeralStorage {
		return text
	}
	using := func(n int64) string { return resource.NewQuantity(n, resource.BinarySI).String() }
	if pod := l.Pod.Spec.Resources; pod != nil && s.Resource == corev1.ResourceMemory {
		if q, ok := pod.Requests[s.Resource]; ok {
			text += fmt.Sprintf("Pod %s was using %s, request is %s, has larger consumption of %s. ", l.Pod.Name, using(l.Uses[s.Resource]), q.String(), s.Resource)
		}
	}
	for _, c := range l.Containers {
		spec := findContainer(l.Pod, c.Name)
		if spec == nil || ephemeral(&l.Pod.Spec, c.Name) != nil {
			continue
		}
		if q := spec.Resources.Requests[s.Resource]; c.Uses[s.Resource] > q.Value() {
			text += fmt.Sprintf("Container %s was using %s, request is %s, has larger consumption of %s. ", c.Name, using(c.Uses[s.Resource]), q.String(), s.Resource)
		}
	}
	return text
}

// limitsDisk says whether the Pod is to be watched for what it writes to the disk.
func limitsDisk(pod *corev1.Pod) bool {
	for i := range pod.Spec.Volumes {
		if e := pod.Spec.Volumes[i].EmptyDir; e != nil && e.Medium == corev1.StorageMediumDefault && e.SizeLimit != nil && e.SizeLimit.Sign() > 0 {
			return true
		}
	}
	limits := resourcehelper.PodLimits(pod, resourcehelper.PodResourcesOptions{})
	_, limited := limits[corev1.ResourceEphemeralStorage]
	return limited
}

// overDisk says why a Pod has to go that has written more than it may, "" if it has
// not.
func overDisk(l load) string {
	for i := range l.Pod.Spec.Volumes {
		v := &l.Pod.Spec.Volumes[i]
		if v.EmptyDir == nil || v.EmptyDir.SizeLimit == nil || v.EmptyDir.SizeLimit.Sign() <= 0 {
			continue
		}
		if l.Volumes[v.Name] > v.EmptyDir.SizeLimit.Value() {
			return fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", v.Name, v.EmptyDir.SizeLimit.String())
		}
	}
	limits := resourcehelper.PodLimits(l.Pod, resourcehelper.PodResourcesOptions{})
	if q, ok := limits[corev1.ResourceEphemeralStorage]; ok && l.Uses[corev1.ResourceEphemeralStorage] > q.Value() {
		return fmt.Sprintf("Pod ephemeral local storage usage exceeds the total limit of containers %s. ", q.String())
	}
	for _, c := range l.Containers {
		spec := findContainer(l.Pod, c.Name)
		if spec == nil {
			continue
		}
		if q := spec.Resources.Limits[corev1.ResourceEphemeralStorage]; !q.IsZero() && c.Uses[corev1.ResourceEphemeralStorage] > q.Value() {
			return fmt.Sprintf("Container %s exceeded its local ephemeral storage limit %q. ", c.Name, q.String())
		}
	}
	return ""
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
	for condition := range hold {
		names = append(names, string(condition))
	}
	slices.Sort(names)
	return &refusal{Reason: reasonEvicted, Message: fmt.Sprintf("The node had condition: [%s]. ", strings.Join(names, " "))}
}

// reasonEvicted is the reason of what a node does to keep itself going.
const reasonEvicted = "Evicted"
