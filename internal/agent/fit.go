package agent

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
)

// refusal is why a node does not take a Pod, or does not give it what it asks for.
type refusal struct{ Reason, Message string }

// fits says what of a Pod's requests is more than others leave of what a node has
// for Pods; nil: it fits. What the node does not know of at all is not the node's to
// give, and no reason. It is pure.
func fits(allocatable corev1.ResourceList, others []corev1.ResourceList, pod *corev1.Pod) *refusal {
	asked := resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{})
	asked[corev1.ResourcePods] = *resource.NewQuantity(1, resource.DecimalSI)
	used := map[corev1.ResourceName]int64{}
	for _, list := range others {
		used[corev1.ResourcePods]++
		for name := range list {
			used[name] += amount(list, name)
		}
	}
	names := []corev1.ResourceName{corev1.ResourcePods, corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage}
	var more []corev1.ResourceName
	for name := range asked {
		if !slices.Contains(names, name) {
			more = append(more, name)
		}
	}
	slices.Sort(more)
	for _, name := range append(names, more...) {
		want, has := amount(asked, name), amount(allocatable, name)
		if _, known := allocatable[name]; !known && isExtended(name) || want == 0 || want <= has-used[name] {
			continue
		}
		return &refusal{
			Reason:  "OutOf" + string(name),
			Message: fmt.Sprintf("Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", name, want, used[name], has),
		}
	}
	return nil
}

// amount is in thousandths for CPU, in units for everything else.
func amount(list corev1.ResourceList, name corev1.ResourceName) int64 {
	q := list[name]
	if name == corev1.ResourceCPU {
		return q.MilliValue()
	}
	return q.Value()
}

// isExtended says whether a resource is none of Kubernetes' own: "example.com/gpu".
func isExtended(name corev1.ResourceName) bool {
	return strings.Contains(string(name), "/") && !strings.Contains(string(name), corev1.ResourceDefaultNamespacePrefix)
}

// capacity is what the node has: of its own, and of what others say it has.
func capacity(own, told corev1.ResourceList) corev1.ResourceList {
	out := own.DeepCopy()
	for name, q := range told {
		if _, ok := out[name]; !ok && isExtended(name) {
			out[name] = q.DeepCopy()
		}
	}
	return out
}

// allocatable is what the node has for Pods. What others say that it has is all
// for them.
func (a *Agent) allocatable() corev1.ResourceList {
	out := a.machine.allocatable()
	if node := a.own.get(); node != nil {
		out = capacity(out, node.Status.Capacity)
	}
	return out
}

// claims are what the Pods of this node have, but for one of them; a.pods.mu is
// held. One that has stopped has nothing any more.
func (a *Agent) claims(except *worker) []corev1.ResourceList {
	var out []corev1.ResourceList
	for _, w := range a.pods.workers {
		if w == except {
			continue
		}
		w.mu.Lock()
		over := w.gone || w.stopped || terminal(w.pod) || w.refused != "" || w.sizes.refused
		if !over {
			out = append(out, resourcehelper.PodRequests(w.pod, resourcehelper.PodResourcesOptions{
				UseStatusResources: true, InPlacePodLevelResourcesVerticalScalingEnabled: true,
			}))
		}
		w.mu.Unlock()
	}
	return out
}

// admit refuses a Pod that came to this node and has no room there; a.pods.mu is
// held. One that runs already stays.
func (a *Agent) admit(w *worker) {
	if w.refused != "" || w.ending != nil || w.pod.DeletionTimestamp != nil || len(w.records) > 0 || w.boxStands(w.uid) {
		return
	}
	r := refusedAtShutdown(a.goesDown.Load())
	if r == nil {
		r = forbiddenSysctl(w.pod, a.Kubelet.AllowedUnsafeSysctls)
	}
	if r == nil {
		r = refusedUnderPressure(w.pod, a.pressure())
	}
	if r == nil {
		r = fits(a.allocatable(), a.claims(w), w.pod)
	}
	if r == nil {
		r = unconfinable(w.pod, a.machine.AppArmor)
	}
	if r != nil {
		w.eventPod(corev1.EventTypeWarning, r.Reason, "%s", r.Message)
		w.sizes.refused = true
		w.ending = &ending{Reason: r.Reason, Message: "Pod was rejected: " + r.Message}
	}
}
