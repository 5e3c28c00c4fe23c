package volume

import (
	corev1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"
)

// memorySize is how large, in bytes, an emptyDir in memory may become: what the node
// has for Pods, or the Pod's limit, or the volume's own where that is less; 0: as
// large as the kernel likes. It is pure.
func memorySize(allocatable int64, pod *corev1.Pod, s *corev1.EmptyDirVolumeSource) int64 {
	size := allocatable
	least := func(n int64) {
		if n > 0 && (size == 0 || n < size) {
			size = n
		}
	}
	least(memoryLimit(pod))
	if s.SizeLimit != nil {
		least(s.SizeLimit.Value())
	}
	return size
}

// memoryLimit is all that the Pod may take together; 0 where one of its containers
// may take any amount.
func memoryLimit(pod *corev1.Pod) int64 {
	every := true
	limits := resourcehelper.PodLimits(pod, resourcehelper.PodResourcesOptions{
		ContainerFn: func(list corev1.ResourceList, _ resourcehelper.ContainerType) {
			every = every && !list.Memory().IsZero()
		},
	})
	if r := pod.Spec.Resources; r != nil && !r.Limits.Memory().IsZero() {
		return r.Limits.Memory().Value()
	}
	if !every {
		return 0
	}
	return limits.Memory().Value()
}
