package kind

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func sizes(cpu, memory string) corev1.ResourceRequirements {
	list := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
	return corev1.ResourceRequirements{Requests: list, Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("8Gi")}}
}

// sized is a Burstable Pod with containers of every sort.
func sized(changes ...func(*corev1.Pod)) *corev1.Pod {
	return newPod(append([]func(*corev1.Pod){func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources = sizes("1", "1Gi")
		p.Spec.InitContainers = []corev1.Container{
			{Name: "first", Image: "i:1", Resources: sizes("1", "1Gi")},
			{Name: "sidecar", Image: "i:1", Resources: sizes("1", "1Gi"), RestartPolicy: new(corev1.ContainerRestartPolicyAlways)},
		}
	}}, changes...)...)
}

func TestPodResize(t *testing.T) {
	nothing := func(*corev1.Pod) {}
	const only = "spec: Forbidden: only cpu and memory resources are mutable"
	more := resource.MustParse("2")
	running := func(r *corev1.ResourceRequirements) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "x"}, {Name: "app", Resources: r, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
		}
	}
	cases := []struct {
		name        string
		old, change func(*corev1.Pod)
		want        []string
	}{
		{"nothing", nothing, nothing, nil},
		{"more for all", nothing, func(p *corev1.Pod) {
			for _, c := range []*corev1.Container{&p.Spec.Containers[0], &p.Spec.InitContainers[0], &p.Spec.InitContainers[1]} {
				c.Resources.Requests[corev1.ResourceCPU] = more
			}
		}, nil},
		{"first request and limit", nothing, func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Limits[corev1.ResourceCPU] = more
		}, nil},
		{"static", func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"} }, nothing, []string{
			"[]: Forbidden: static pods cannot be resized"}},
		{"windows", func(p *corev1.Pod) { p.Spec.OS = &corev1.PodOS{Name: corev1.Windows} }, nothing, []string{
			"[]: Forbidden: windows pods cannot be resized"}},
		{"class", nothing, func(p *corev1.Pod) {
			for _, c := range []*corev1.Container{&p.Spec.Containers[0], &p.Spec.InitContainers[0], &p.Spec.InitContainers[1]} {
				c.Resources.Limits = corev1.ResourceList{corev1.ResourceCPU: more, corev1.ResourceMemory: more}
				c.Resources.Requests = c.Resources.Limits
			}
		}, []string{`spec: Invalid value: "Burstable": Pod QOS Class may not change as a result of resizing`}},
		{"class of a status without one", func(p *corev1.Pod) { p.Status.QOSClass = "" }, func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = more
		}, nil},
		{"node that cannot", running(nil), nothing, []string{"spec: Forbidden: Pod running on node without support for resize"}},
		{"node that can", running(&corev1.ResourceRequirements{}), nothing, nil},
		{"removed", nothing, func(p *corev1.Pod) {
			delete(p.Spec.Containers[0].Resources.Requests, corev1.ResourceCPU)
			p.Spec.InitContainers[0].Resources.Limits = nil
		}, []string{
			"spec.initContainers[0].resources.limits: Forbidden: resource limits cannot be removed",
			"spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed",
		}},
		{"other resources", nothing, func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Requests[corev1.ResourceEphemeralStorage] = more
			p.Spec.InitContainers[1].Resources.Limits[corev1.ResourceEphemeralStorage] = more
		}, []string{only, "spec.initContainers[1]: Forbidden: only cpu and memory resources for init or sidecar containers are mutable"}},
		{"policy", nothing, func(p *corev1.Pod) {
			policy := []corev1.ContainerResizePolicy{{ResourceName: "cpu", RestartPolicy: "RestartContainer"}}
			p.Spec.Containers[0].ResizePolicy, p.Spec.InitContainers[0].ResizePolicy = policy, policy
		}, []string{
			`spec.initContainers[0].resizePolicy[0].restartPolicy: Invalid value: "RestartContainer": must not be set to 'RestartContainer' for non-sidecar initContainers`,
			only,
			"spec.initContainers[0]: Forbidden: only cpu and memory resources for init or sidecar containers are mutable",
			"spec.initContainers[0]: Forbidden: non-sidecar init containers with a resize policy of RestartContainer cannot be resized",
		}},
		{"containers", nothing, func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "b", Image: "b:1", ImagePullPolicy: "Always", TerminationMessagePolicy: "File"})
			p.Spec.InitContainers[0].Name = "other"
		}, []string{
			"spec.containers: Forbidden: containers may not be added or removed on resize",
			"spec.initContainers[0].name: Forbidden: initContainers may not be renamed or reordered on resize",
		}},
		{"first of the Pod", nothing, func(p *corev1.Pod) { r := sizes("5", "5Gi"); p.Spec.Resources = &r }, nil},
		{"removed from the Pod", func(p *corev1.Pod) { r := sizes("5", "5Gi"); p.Spec.Resources = &r },
			func(p *corev1.Pod) { p.Spec.Resources = nil }, []string{"spec.resources: Forbidden: pod-level resources cannot be removed"}},
		{"one removed from the Pod", func(p *corev1.Pod) { r := sizes("5", "5Gi"); p.Spec.Resources = &r },
			func(p *corev1.Pod) { delete(p.Spec.Resources.Requests, "cpu"); p.Spec.Resources.Limits = nil }, []string{
				"spec.resources.requests: Forbidden: pod-level resource requests cannot be removed",
				"spec.resources.limits: Forbidden: pod-level resource limits cannot be removed",
			}},
		{"another of the Pod", nothing, func(p *corev1.Pod) {
			p.Spec.Resources = &corev1.ResourceRequirements{Limits: corev1.ResourceList{"hugepages-2Mi": resource.MustParse("2Mi")}}
			p.Spec.Resources.Requests = corev1.ResourceList{"cpu": resource.MustParse("9")}
		}, []string{"spec: Forbidden: only cpu and memory resources are mutable at pod-level"}},
		{"empty ones of the Pod", nothing, func(p *corev1.Pod) { p.Spec.Resources = &corev1.ResourceRequirements{} }, []string{
			`spec: Invalid value: "Burstable": Pod QOS Class may not change as a result of resizing`}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			old := sized()
			preparePodCreate(old)
			c.old(old)
			pod := old.DeepCopy()
			c.change(pod)
			sameErrors(t, Pod.Subresource("resize").ValidateUpdate(pod, old), c.want...)
		})
	}
}

func TestPreparePodResize(t *testing.T) {
	old := sized()
	old.Generation, old.Labels = 4, map[string]string{"a": "b"}
	pod := old.DeepCopy()
	pod.Labels, pod.Spec.NodeName, pod.Spec.Containers[0].Image = nil, "n1", "evil"
	pod.Status.Phase = corev1.PodFailed
	pod.Spec.Containers[0].Resources = sizes("2", "2Gi")
	pod.Spec.InitContainers[0].ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: "cpu", RestartPolicy: "NotRequired"}}
	Pod.Subresource("resize").PrepareUpdate(pod, old)

	want := old.DeepCopy()
	want.Generation = 5
	want.Spec.Containers[0].Resources = sizes("2", "2Gi")
	want.Spec.InitContainers[0].ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: "cpu", RestartPolicy: "NotRequired"}}
	if !equalPods(pod, want) {
		t.Errorf("got %v, want %v", pod, want)
	}

	renamed := old.DeepCopy()
	renamed.Spec.Containers[0].Name, renamed.Spec.NodeName = "other", "n1"
	Pod.Subresource("resize").PrepareUpdate(renamed, old)
	if renamed.Spec.Containers[0].Name != "other" || renamed.Spec.NodeName != "" {
		t.Errorf("a renamed container is not left for the validation alone: %+v", renamed.Spec)
	}
	one := old.DeepCopy()
	one.Spec.InitContainers, one.Spec.NodeName = nil, "n1"
	Pod.Subresource("resize").PrepareUpdate(one, old)
	if one.Spec.InitContainers != nil || one.Spec.NodeName != "n1" {
		t.Errorf("missing containers are not left for the validation: %+v", one.Spec)
	}
}
