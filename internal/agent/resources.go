package agent

import (
	corev1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"

	"github.com/skiff-sh/skiff/internal/agent/cgroup"
)

// The kernel's bounds and upstream's choices for CPU time.
const (
	minShares   = 2
	maxShares   = 262144
	quotaPeriod = 100000 // microseconds
	minQuota    = 1000
)

func cpuShares(milli int64) uint64 {
	if milli == 0 {
		return minShares
	}
	return uint64(min(max(milli*1024/1000, minShares), maxShares))
}

func cpuQuota(milli int64) int64 {
	if milli == 0 {
		return 0
	}
	return max(milli*quotaPeriod/1000, minQuota)
}

// containerResources are the cgroup settings of one container.
func containerResources(pod *corev1.Pod, c *corev1.Container, memTotal int64) Resources {
	l := giveOf(pod, c).Size.limits()
	return Resources{
		CPUShares: l.CPUShares, CPUQuota: l.CPUQuota, CPUPeriod: l.CPUPeriod, MemoryLimit: l.MemoryLimit,
		OOMScoreAdj: oomScore(pod, c, memTotal),
		HugePages:   byPageName(containerHugePages(pod, c), cgroup.PageSizes()),
	}
}

// oomScore ranks containers for the kernel when memory runs out: those that
// use more than they asked for go first.
func oomScore(pod *corev1.Pod, c *corev1.Container, memTotal int64) int {
	switch qosClass(pod) {
	case corev1.PodQOSGuaranteed:
		return -997
	case corev1.PodQOSBestEffort:
		return 1000
	}
	if memTotal == 0 {
		return 999
	}
	score := 1000 - 1000*c.Resources.Requests.Memory().Value()/memTotal
	return int(min(max(score, 3), 999))
}

// qosClass is the class the API server wrote into the status, computed where
// it did not.
func qosClass(pod *corev1.Pod) corev1.PodQOSClass {
	if pod.Status.QOSClass != "" {
		return pod.Status.QOSClass
	}
	requests, guaranteed, any := pod.Spec.Resources, true, false
	if requests != nil && len(requests.Requests)+len(requests.Limits) > 0 {
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			req, lim := requests.Requests[name], requests.Limits[name]
			guaranteed = guaranteed && !lim.IsZero() && (req.IsZero() || req.Cmp(lim) == 0)
		}
		if guaranteed {
			return corev1.PodQOSGuaranteed
		}
		return corev1.PodQOSBurstable
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
				req, lim := list[i].Resources.Requests[name], list[i].Resources.Limits[name]
				any = any || !req.IsZero() || !lim.IsZero()
				guaranteed = guaranteed && !lim.IsZero() && (req.IsZero() || req.Cmp(lim) == 0)
			}
		}
	}
	switch {
	case !any:
		return corev1.PodQOSBestEffort
	case guaranteed:
		return corev1.PodQOSGuaranteed
	}
	return corev1.PodQOSBurstable
}

// podCgroup are the settings of the cgroup around all containers of a Pod.
func podCgroup(pod *corev1.Pod) cgroup.Pod {
	requests := resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{})
	limits := resourcehelper.PodLimits(pod, resourcehelper.PodResourcesOptions{})
	p := cgroup.Pod{UID: string(pod.UID), CPUShares: cpuShares(requests.Cpu().MilliValue()), HugePages: hugePages(requests)}
	switch qosClass(pod) {
	case corev1.PodQOSGuaranteed:
		p.Class = cgroup.Guaranteed
	case corev1.PodQOSBestEffort:
		p.Class = cgroup.BestEffort
	default:
		p.Class = cgroup.Burstable
	}
	// The Pod is limited where each of its containers is.
	limited := func(name corev1.ResourceName) bool {
		if pod.Spec.Resources != nil {
			if q, ok := pod.Spec.Resources.Limits[name]; ok && !q.IsZero() {
				return true
			}
		}
		for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
			for i := range list {
				if q := list[i].Resources.Limits[name]; q.IsZero() {
					return false
				}
			}
		}
		return true
	}
	if limited(corev1.ResourceCPU) {
		p.CPUQuota, p.CPUPeriod = cpuQuota(limits.Cpu().MilliValue()), quotaPeriod
	}
	if limited(corev1.ResourceMemory) {
		p.MemoryLimit = limits.Memory().Value()
	}
	return p
}
