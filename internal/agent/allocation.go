package agent

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	resourcehelper "k8s.io/component-helpers/resource"

	"github.com/skiff-sh/skiff/internal/agent/cgroup"
	"github.com/skiff-sh/skiff/internal/agent/volume"
)

// allocation is what resources a Pod and its containers have of a node. What the
// Pod asks for becomes other by a resize, what it has follows when there is room
// (KEP-1287).
type allocation struct {
	Pod        *corev1.ResourceRequirements           `json:"pod,omitempty"`
	Containers map[string]corev1.ResourceRequirements `json:"containers,omitempty"`
}

// allocationOf is all that the Pod says.
func allocationOf(pod *corev1.Pod) allocation {
	a := allocation{Pod: pod.Spec.Resources.DeepCopy(), Containers: map[string]corev1.ResourceRequirements{}}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			a.Containers[list[i].Name] = *list[i].Resources.DeepCopy()
		}
	}
	return a
}

// apply returns the Pod with what is allocated in place of what it asks for: the
// same one where that is the same.
func (a allocation) apply(pod *corev1.Pod) *corev1.Pod {
	if !a.differs(pod) {
		return pod
	}
	out := *pod
	out.Spec.Resources = a.Pod.DeepCopy()
	out.Spec.InitContainers = a.containers(pod.Spec.InitContainers)
	out.Spec.Containers = a.containers(pod.Spec.Containers)
	return &out
}

func (a allocation) containers(list []corev1.Container) []corev1.Container {
	out := append([]corev1.Container(nil), list...)
	for i := range out {
		if r, ok := a.Containers[out[i].Name]; ok {
			out[i].Resources = *r.DeepCopy()
		}
	}
	return out
}

func (a allocation) differs(pod *corev1.Pod) bool {
	if !apiequality.Semantic.DeepEqual(a.Pod, pod.Spec.Resources) {
		return true
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if r, ok := a.Containers[list[i].Name]; ok && !apiequality.Semantic.DeepEqual(r, list[i].Resources) {
				return true
			}
		}
	}
	return false
}

// size is what of a container's or a Pod's resources can become other: CPU in
// thousandths, memory in bytes.
type size struct{ CPURequest, CPULimit, MemoryRequest, MemoryLimit int64 }

func sizeOf(r corev1.ResourceRequirements) size {
	return size{
		CPURequest: r.Requests.Cpu().MilliValue(), CPULimit: r.Limits.Cpu().MilliValue(),
		MemoryRequest: r.Requests.Memory().Value(), MemoryLimit: r.Limits.Memory().Value(),
	}
}

// effective is what a container's cgroup is set from: its own resources, with the
// limits of its Pod where it has none.
func effective(pod *corev1.ResourceRequirements, own corev1.ResourceRequirements) corev1.ResourceRequirements {
	if pod == nil {
		return own
	}
	limits := maps.Clone(own.Limits)
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		q, all := own.Limits[name], pod.Limits[name]
		if q.IsZero() && !all.IsZero() {
			if limits == nil {
				limits = corev1.ResourceList{}
			}
			limits[name] = all
		}
	}
	own.Limits = limits
	return own
}

// given is what a run of a container has: in its cgroup, and to be told.
type given struct {
	Size size
	Own  *corev1.ResourceRequirements // nil: not known
}

func giveOf(pod *corev1.Pod, c *corev1.Container) given {
	return given{Size: sizeOf(effective(pod.Spec.Resources, c.Resources)), Own: c.Resources.DeepCopy()}
}

// limits are the cgroup settings of that size.
func (s size) limits() cgroup.Limits {
	request := s.CPURequest
	if request == 0 {
		request = s.CPULimit
	}
	l := cgroup.Limits{CPUShares: cpuShares(request), MemoryLimit: s.MemoryLimit}
	if quota := cpuQuota(s.CPULimit); quota > 0 {
		l.CPUQuota, l.CPUPeriod = quota, quotaPeriod
	}
	return l
}

// allocationRecord is what is kept of a Pod across restarts of the agent.
type allocationRecord struct {
	Allocated allocation `json:"allocated"`
	Actual    allocation `json:"actual"` // of containers that run with something else as yet
}

// running is what runs has.
func (r allocationRecord) running() allocation {
	out := allocation{Pod: r.Allocated.Pod, Containers: maps.Clone(r.Allocated.Containers)}
	maps.Copy(out.Containers, r.Actual.Containers)
	return out
}

func (a *Agent) allocationFile(uid string) string { return filepath.Join(a.podDir(uid), "resources") }

// readAllocation returns what an earlier run of the agent has kept, or nil.
func (a *Agent) readAllocation(uid string) *allocationRecord {
	data, err := os.ReadFile(a.allocationFile(uid))
	if err != nil {
		return nil
	}
	var r allocationRecord
	if json.Unmarshal(data, &r) != nil || r.Allocated.Containers == nil {
		return nil // cut by a power failure: the API knows it too
	}
	return &r
}

func (a *Agent) writeAllocation(uid string, r allocationRecord) error {
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode resources: %w", err)
	}
	if err := volume.WriteIfChanged(a.allocationFile(uid), data, 0o600); err != nil {
		return fmt.Errorf("keep resources: %w", err)
	}
	return nil
}

// toldAllocation is what the API was last told that a Pod has, by its status.
func toldAllocation(pod *corev1.Pod) allocation {
	a := allocationOf(pod)
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for _, s := range list {
			if _, ok := a.Containers[s.Name]; ok && s.Resources != nil && s.State.Running != nil {
				a.Containers[s.Name] = *s.Resources.DeepCopy()
			}
		}
	}
	return a
}

// podResources are what a Pod's status tells of the Pod as a whole: what it has,
// and what is allocated to it.
func podResources(pod *corev1.Pod, phase corev1.PodPhase) (*corev1.ResourceRequirements, corev1.ResourceList) {
	requests := resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{})
	limits := resourcehelper.PodLimits(pod, resourcehelper.PodResourcesOptions{})
	out := pod.Spec.Resources.DeepCopy()
	if out == nil {
		out = &corev1.ResourceRequirements{}
	}
	if phase != corev1.PodRunning {
		out.Requests, out.Limits = requests, limits
		return out, requests
	}
	set := func(list *corev1.ResourceList, from corev1.ResourceList, name corev1.ResourceName, ok bool) {
		if q, found := from[name]; found && ok {
			if *list == nil {
				*list = corev1.ResourceList{}
			}
			(*list)[name] = q
		}
	}
	// Of one that runs it is what its cgroup is set to.
	around := podCgroup(pod)
	set(&out.Requests, requests, corev1.ResourceCPU, requests.Cpu().MilliValue() > minShares)
	set(&out.Requests, requests, corev1.ResourceMemory, true)
	set(&out.Limits, limits, corev1.ResourceCPU, around.CPUQuota > 0)
	set(&out.Limits, limits, corev1.ResourceMemory, around.MemoryLimit > 0)
	return out, requests
}
