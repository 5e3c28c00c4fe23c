package agent

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"

	"github.com/skiff-sh/skiff/internal/agent/static"
)

// load is what a Pod uses of a node, for who goes first.
type load struct {
	worker     *worker
	Pod        *corev1.Pod
	Uses       map[corev1.ResourceName]int64
	Containers []containerLoad // those that run
	Disks      *footprint
}

// containerLoad is a container's part.
type containerLoad struct {
	Name        string
	Memory      int64
	Layer, Logs taken
}

// disks says which parts of a Pod lie on a disk.
type disks struct{ Layers, Logs bool } // emptyDirs lie where logs do

// disksOf are those that a signal speaks of. Without a disk of their own images and
// layers lie on the node's.
func disksOf(signal string, imagesApart bool) disks {
	switch {
	case !imagesApart:
		return disks{Layers: true, Logs: true}
	case strings.HasPrefix(signal, "imagefs."):
		return disks{Layers: true}
	}
	return disks{Logs: true}
}

// measure notes what the Pod takes of the disks in question.
func (l *load) measure(on disks) {
	var all taken
	for _, c := range l.Containers {
		if on.Layers {
			all.add(c.Layer)
		}
		if on.Logs {
			all.add(c.Logs)
		}
	}
	for _, v := range l.Disks.Volumes {
		if on.Logs && v.Local {
			all.add(v.taken)
		}
	}
	l.Uses[corev1.ResourceEphemeralStorage], l.Uses[resourceInodes] = all.Bytes, all.Inodes
}

// rank orders Pods by who has to go first: those that use more than they asked for,
// then by priority, then by how much more. For processes, which nobody asks for, the
// priority comes first.
func rank(loads []load, r corev1.ResourceName) {
	slices.SortStableFunc(loads, func(x, y load) int {
		over := func(l load) int {
			if r == resourcePIDs || l.excess(r) <= 0 {
				return 1
			}
			return 0
		}
		return cmp.Or(cmp.Compare(over(x), over(y)), cmp.Compare(priorityOf(x.Pod), priorityOf(y.Pod)), cmp.Compare(y.excess(r), x.excess(r)))
	})
}

// excess is how much more of something the Pod uses than it asked for. Overhead is
// asked for with something alone.
func (l load) excess(r corev1.ResourceName) int64 {
	requests := resourcehelper.PodRequests(l.Pod, resourcehelper.PodResourcesOptions{
		ExcludeOverhead: true, SkipContainerLevelResources: resourcehelper.IsPodLevelResourcesSet(l.Pod),
	})
	q := requests[r]
	if more, ok := l.Pod.Spec.Overhead[r]; ok && !q.IsZero() {
		q.Add(more)
	}
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

// isCritical says whether a Pod is never evicted: the node does not take static ones
// again.
func isCritical(pod *corev1.Pod) bool {
	_, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]
	return mirror || static.Is(pod) || priorityOf(pod) >= systemCritical
}

// blame is what the event of an eviction says in annotations: who used more than it
// asked for.
type blame struct {
	resource   corev1.ResourceName
	pod        []string // its name and what it uses
	containers []string
	used       []string
}

func (b blame) annotations() map[string]string {
	all := map[string]string{
		"starved_resource":           string(b.resource),
		"offending_containers":       strings.Join(b.containers, ","),
		"offending_containers_usage": strings.Join(b.used, ","),
	}
	if len(b.pod) > 0 {
		all["offending_pod"], all["offending_pod_usage"] = b.pod[0], b.pod[1]
	}
	return all
}

// evictionMessage says why a Pod has to go when the node is short of something.
func evictionMessage(s shortage, l load) (string, blame) {
	b := blame{resource: s.Resource}
	text := fmt.Sprintf("The node was low on resource: %s. Threshold quantity: %s, available: %s. ", s.Resource, s.Threshold.String(), s.available())
	if s.Resource != corev1.ResourceMemory && s.Resource != corev1.ResourceEphemeralStorage {
		return text, b
	}
	using := func(n int64) string { return resource.NewQuantity(n, resource.BinarySI).String() }
	if pod := l.Pod.Spec.Resources; pod != nil && s.Resource == corev1.ResourceMemory {
		if q, ok := pod.Requests[s.Resource]; ok {
			b.pod = []string{l.Pod.Name, using(l.Uses[s.Resource])}
			text += fmt.Sprintf("Pod %s was using %s, request is %s, has larger consumption of %s. ", l.Pod.Name, b.pod[1], q.String(), s.Resource)
		}
	}
	for _, c := range l.Containers {
		spec := findContainer(l.Pod, c.Name)
		if spec == nil || ephemeral(&l.Pod.Spec, c.Name) != nil {
			continue
		}
		used := c.Memory
		if s.Resource == corev1.ResourceEphemeralStorage {
			used = c.Layer.Bytes + c.Logs.Bytes
		}
		if q := spec.Resources.Requests[s.Resource]; used > q.Value() {
			text += fmt.Sprintf("Container %s was using %s, request is %s, has larger consumption of %s. ", c.Name, using(used), q.String(), s.Resource)
			b.containers, b.used = append(b.containers, c.Name), append(b.used, using(used))
		}
	}
	return text, b
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
// not. A container's own limit is about the node's disk.
func overDisk(l load, imagesApart bool) string {
	for i := range l.Pod.Spec.Volumes {
		v := &l.Pod.Spec.Volumes[i]
		if v.EmptyDir == nil || v.EmptyDir.SizeLimit == nil || v.EmptyDir.SizeLimit.Sign() <= 0 {
			continue
		}
		if l.Disks.Volumes[v.Name].Bytes > v.EmptyDir.SizeLimit.Value() {
			return fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", v.Name, v.EmptyDir.SizeLimit.String())
		}
	}
	limits := resourcehelper.PodLimits(l.Pod, resourcehelper.PodResourcesOptions{})
	if q, ok := limits[corev1.ResourceEphemeralStorage]; ok && l.Disks.total().Bytes > q.Value() {
		return fmt.Sprintf("Pod ephemeral local storage usage exceeds the total limit of containers %s. ", q.String())
	}
	for _, c := range l.Containers {
		i := slices.IndexFunc(l.Pod.Spec.Containers, func(spec corev1.Container) bool { return spec.Name == c.Name })
		if i < 0 {
			continue
		}
		used := c.Logs
		if !imagesApart {
			used.add(c.Layer)
		}
		if q := l.Pod.Spec.Containers[i].Resources.Limits[corev1.ResourceEphemeralStorage]; !q.IsZero() && used.Bytes > q.Value() {
			return fmt.Sprintf("Container %s exceeded its local ephemeral storage limit %q. ", c.Name, q.String())
		}
	}
	return ""
}
