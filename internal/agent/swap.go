package agent

import (
	"errors"

	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/config"
)

// errSwap is why a node does not start.
var errSwap = errors.New("running with swap on is not supported, please disable swap or set --fail-swap-on flag to false")

// maySwap says whether a container is one of those that share the swap: of Burstable
// Pods those that ask for some memory and may use more.
func maySwap(pod *corev1.Pod, c *corev1.Container) bool {
	asks, most := c.Resources.Requests.Memory(), c.Resources.Limits.Memory()
	return !isCritical(pod) && qosClass(pod) == corev1.PodQOSBurstable && !asks.IsZero() && asks.Cmp(*most) != 0
}

// swapShare is the part of the swap that belongs to so much of the memory (KEP-2400).
func swapShare(request, memory, swap int64) int64 {
	if memory <= 0 || request > memory {
		return 0
	}
	return int64(float64(request) / float64(memory) * float64(swap))
}

// sharesSwap says whether containers get swap at all.
func (a *Agent) sharesSwap() bool {
	return a.Kubelet.Swap.Behavior == config.LimitedSwap && a.machine.SharesSwap
}

// swapOf is how many bytes of swap a container gets.
func (a *Agent) swapOf(pod *corev1.Pod, c *corev1.Container) int64 {
	if !a.sharesSwap() || !maySwap(pod, c) || a.machine.Info.Swap == nil {
		return 0
	}
	return swapShare(c.Resources.Requests.Memory().Value(), a.machine.memory(), *a.machine.Info.Swap.Capacity)
}

// keepsSwap is why a Pod's memory does not become other while it runs: the swap that
// belongs to it would have to, too. It is pure.
func keepsSwap(asked, allocated *corev1.Pod) *refusal {
	for _, list := range [][]corev1.Container{asked.Spec.Containers, asked.Spec.InitContainers} {
		for i := range list {
			had := findContainer(allocated, list[i].Name)
			if had == nil || list[i].Resources.Requests.Memory().Equal(*had.Resources.Requests.Memory()) || restartsForMemory(had) {
				continue
			}
			if maySwap(asked, &list[i]) || maySwap(allocated, had) {
				return &refusal{Reason: corev1.PodReasonInfeasible, Message: "In-place resize of containers with swap is not supported."}
			}
		}
	}
	return nil
}

func restartsForMemory(c *corev1.Container) bool {
	for _, p := range c.ResizePolicy {
		if p.ResourceName == corev1.ResourceMemory {
			return p.RestartPolicy == corev1.RestartContainer
		}
	}
	return false
}
