package agent

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/config"
)

// forPods is what all Pods together may use: the capacity less what is reserved for
// the node's own programs and the system. What must stay free for nobody to be
// evicted is not taken from it, or the kernel would be there before the eviction.
// Without anything reserved there is no limit of memory.
func forPods(k config.Kubelet, capacity corev1.ResourceList) (shares uint64, memory int64) {
	only := k
	only.EvictionHard = nil
	less := reserved(only, capacity)
	cpu := max(amount(capacity, corev1.ResourceCPU)-amount(less, corev1.ResourceCPU), 0)
	if _, ok := less[corev1.ResourceMemory]; ok {
		memory = max(amount(capacity, corev1.ResourceMemory)-amount(less, corev1.ResourceMemory), 1)
	}
	return cpuShares(cpu), memory
}

// enforce keeps the Pods to that.
func (a *Agent) enforce() error {
	return a.Cgroups.Enforce(forPods(a.Kubelet, a.machine.Capacity))
}
