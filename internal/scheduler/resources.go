package scheduler

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
)

// resources are amounts: CPU in thousandths, the rest in units.
type resources struct {
	cpu, memory, ephemeral int64
	other                  map[corev1.ResourceName]int64
}

func newResources(list corev1.ResourceList) resources {
	var r resources
	for name, q := range list {
		switch name {
		case corev1.ResourceCPU:
			r.cpu = q.MilliValue()
		case corev1.ResourceMemory:
			r.memory = q.Value()
		case corev1.ResourceEphemeralStorage:
			r.ephemeral = q.Value()
		case corev1.ResourcePods:
		default:
			if r.other == nil {
				r.other = map[corev1.ResourceName]int64{}
			}
			r.other[name] = q.Value()
		}
	}
	return r
}

// add adds b times sign, which is 1 or -1.
func (r *resources) add(b resources, sign int64) {
	r.cpu += sign * b.cpu
	r.memory += sign * b.memory
	r.ephemeral += sign * b.ephemeral
	for name, n := range b.other {
		if r.other == nil {
			r.other = map[corev1.ResourceName]int64{}
		}
		r.other[name] += sign * n
	}
}

func (r resources) equal(b resources) bool {
	return r.cpu == b.cpu && r.memory == b.memory && r.ephemeral == b.ephemeral && maps.Equal(r.other, b.other)
}

// What a container that asks for nothing counts as in scores, as upstream's.
const (
	usualCPU    = 100
	usualMemory = 200 << 20
)

// effective counts of a Pod whose resources are being changed the most of what it
// asks for, what its node has promised it and what it has as yet (KEP-1287).
func effective(pod *corev1.Pod) corev1.ResourceList {
	return resource.PodRequests(pod, resource.PodResourcesOptions{UseStatusResources: true, InPlacePodLevelResourcesVerticalScalingEnabled: true})
}

// requests returns what a Pod asks for, and what it counts as in scores.
func requests(pod *corev1.Pod) (asked, counted resources) {
	asked = newResources(effective(pod))
	counted = asked
	counted.cpu, counted.memory = 0, 0
	for i := range pod.Spec.Containers {
		list := pod.Spec.Containers[i].Resources.Requests
		counted.cpu += orUsual(list, corev1.ResourceCPU, usualCPU)
		counted.memory += orUsual(list, corev1.ResourceMemory, usualMemory)
	}
	counted.cpu += pod.Spec.Overhead.Cpu().MilliValue()
	counted.memory += pod.Spec.Overhead.Memory().Value()
	counted.cpu, counted.memory = max(counted.cpu, asked.cpu), max(counted.memory, asked.memory)
	return asked, counted
}

func orUsual(list corev1.ResourceList, name corev1.ResourceName, usual int64) int64 {
	q, ok := list[name]
	switch {
	case !ok:
		return usual
	case name == corev1.ResourceCPU:
		return q.MilliValue()
	}
	return q.Value()
}
