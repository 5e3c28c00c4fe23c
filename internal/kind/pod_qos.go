package kind

import (
	corev1 "k8s.io/api/core/v1"
)

// qosClass tells how much of what a Pod may use it is sure to get: Guaranteed
// where CPU and memory are requested and limited to the same everywhere,
// BestEffort where nowhere anything is said, Burstable between.
func qosClass(pod *corev1.Pod) corev1.PodQOSClass {
	if own := pod.Spec.Resources; own != nil {
		return resourcesQOS(own)
	}
	class := corev1.PodQOSClass("")
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			one := resourcesQOS(&containers[i].Resources)
			if class != "" && one != class {
				return corev1.PodQOSBurstable
			}
			class = one
		}
	}
	if class == "" {
		return corev1.PodQOSBestEffort
	}
	return class
}

func resourcesQOS(r *corev1.ResourceRequirements) corev1.PodQOSClass {
	guaranteed, said := true, false
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		request, limit := r.Requests[name], r.Limits[name]
		said = said || request.Sign() > 0 || limit.Sign() > 0
		guaranteed = guaranteed && limit.Sign() > 0 && request.Cmp(limit) == 0
	}
	switch {
	case guaranteed:
		return corev1.PodQOSGuaranteed
	case said:
		return corev1.PodQOSBurstable
	}
	return corev1.PodQOSBestEffort
}
