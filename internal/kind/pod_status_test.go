package kind

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestPodStatusUpdate(t *testing.T) {
	ended := func(code int32) []corev1.ContainerStatus {
		return []corev1.ContainerStatus{{Name: "app", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code}}}}
	}
	running := []corev1.ContainerStatus{{Name: "app", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
	const extended = "status.extendedResourceClaimStatus.requestMappings"
	const devices = "status.containerStatuses[0].allocatedResourcesStatus"
	const stays = "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"
	cases := []struct {
		name        string
		old, change func(*corev1.Pod)
		want        []string
	}{
		{"restart", func(p *corev1.Pod) { p.Status.ContainerStatuses = ended(0) }, func(p *corev1.Pod) { p.Status.ContainerStatuses = running }, nil},
		{"restart of Never", func(p *corev1.Pod) { p.Spec.RestartPolicy, p.Status.ContainerStatuses = "Never", ended(1) },
			func(p *corev1.Pod) { p.Status.ContainerStatuses = running }, []string{stays}},
		{"restart of OnFailure after success", func(p *corev1.Pod) { p.Spec.RestartPolicy, p.Status.ContainerStatuses = "OnFailure", ended(0) },
			func(p *corev1.Pod) { p.Status.ContainerStatuses = running }, []string{stays}},
		{"restart of OnFailure after failure", func(p *corev1.Pod) { p.Spec.RestartPolicy, p.Status.ContainerStatuses = "OnFailure", ended(1) },
			func(p *corev1.Pod) { p.Status.ContainerStatuses = running }, nil},
		{"restart by a rule", func(p *corev1.Pod) {
			p.Spec.RestartPolicy, p.Status.ContainerStatuses = "Never", ended(42)
			p.Spec.Containers[0].RestartPolicy = new(corev1.ContainerRestartPolicyNever)
			p.Spec.Containers[0].RestartPolicyRules = []corev1.ContainerRestartRule{{Action: "Restart", ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: "In", Values: []int32{42}}}}
		}, func(p *corev1.Pod) { p.Status.ContainerStatuses = running }, nil},
		{"qos", func(p *corev1.Pod) { p.Status.QOSClass = "Burstable" }, func(p *corev1.Pod) { p.Status.QOSClass = "Guaranteed" }, []string{
			`status.qosClass: Invalid value: "Guaranteed": field is immutable`}},
		{"addresses", func(*corev1.Pod) {}, func(p *corev1.Pod) {
			p.Status.PodIPs = []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "10.0.0.2"}}
			p.Status.HostIP, p.Status.HostIPs = "10.0.0.9", []corev1.HostIP{{IP: "10.0.0.8"}}
		}, []string{
			`status.podIPs: Invalid value: [{"IP":"10.0.0.1"},{"IP":"10.0.0.2"}]: may specify no more than one IP for each IP family`,
			"status.hostIPs[0].ip: Invalid value: \"10.0.0.8\": must be equal to `hostIP`",
		}},
		{"three addresses, one of them none", func(*corev1.Pod) {}, func(p *corev1.Pod) {
			p.Status.PodIPs = []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "x"}}
		}, []string{
			`status.podIPs[1]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)`,
			"status.podIPs: Internal error: failed to check for dual stack with error:invalid IP[1]: x",
			`status.podIPs: Invalid value: [{"IP":"10.0.0.1"},{"IP":"x"}]: may specify no more than one IP for each IP family`,
		}},
		{"claims", func(*corev1.Pod) {}, func(p *corev1.Pod) {
			p.Status.ResourceClaimStatuses = []corev1.PodResourceClaimStatus{{Name: "a"}, {Name: "a", ResourceClaimName: new("A")}}
		}, []string{
			"status.resourceClaimStatuses[0].name: Invalid value: \"a\": must match the name of an entry in `spec.resourceClaims`",
			"status.resourceClaimStatuses[1].name: Invalid value: \"a\": must match the name of an entry in `spec.resourceClaims`",
			`status.resourceClaimStatuses[1].name: Duplicate value: "a"`,
			`status.resourceClaimStatuses[1].resourceClaimName: Invalid value: "A": ` + nameRule,
		}},
		{"empty extended claim", func(*corev1.Pod) {}, func(p *corev1.Pod) {
			p.Status.ExtendedResourceClaimStatus = &corev1.PodExtendedResourceClaimStatus{}
		}, []string{
			"status.extendedResourceClaimStatus.requestMappings: Required value: at least one request mapping is required",
			"status.extendedResourceClaimStatus.resourceClaimName: Required value",
		}},
		{"extended claim", func(*corev1.Pod) {}, func(p *corev1.Pod) {
			m := corev1.ContainerExtendedResourceRequest{ContainerName: "app", ResourceName: "example.com/gpu", RequestName: "r"}
			p.Status.ExtendedResourceClaimStatus = &corev1.PodExtendedResourceClaimStatus{
				RequestMappings: []corev1.ContainerExtendedResourceRequest{m, {ContainerName: "b", RequestName: "r"}, m}, ResourceClaimName: "c",
			}
		}, []string{
			extended + `[0].resourceName: Invalid value: "example.com/gpu": must match the extended resource name of an entry in spec.initContainers.resources.requests or spec.containers.resources.requests`,
			extended + `[1].containerName: Invalid value: "b": must match the name of an entry in spec.initContainers.name or spec.containers.name`,
			extended + `[2].resourceName: Invalid value: "example.com/gpu": must match the extended resource name of an entry in spec.initContainers.resources.requests or spec.containers.resources.requests`,
			extended + `[2].containerName: Duplicate value: "app"`, extended + `[2].resourceName: Duplicate value: "example.com/gpu"`,
			extended + `[2].requestName: Duplicate value: "r"`,
		}},
		{"devices", func(*corev1.Pod) {}, func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", AllocatedResourcesStatus: []corev1.ResourceStatus{
				{Name: "example.com/gpu", Resources: []corev1.ResourceHealth{{ResourceID: "1", Health: "Fine", Message: new("")}, {ResourceID: "1", Health: "Healthy"}}},
				{Name: "claim:c"},
			}}}
			p.Status.EphemeralContainerStatuses = []corev1.ContainerStatus{{Name: "e", AllocatedResourcesStatus: []corev1.ResourceStatus{{}}}}
		}, []string{
			devices + `[0].name: Invalid value: "example.com/gpu": must match one of the container's resource requests`,
			devices + `[0].resources[0].health: Unsupported value: "Fine": supported values: "Healthy", "Unhealthy", "Unknown"`,
			devices + "[0].resources[0].message: Required value: must be non-empty if specified",
			devices + `[0].resources[1].resourceID: Duplicate value: "1"`,
			devices + `[1].name: Invalid value: "claim:c": must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or 'claim:<claimName>' if request is empty`,
			"status.ephemeralContainerStatuses[0].allocatedResourcesStatus: Forbidden: must not be specified in container status",
		}},
		{"user on Windows", func(p *corev1.Pod) { p.Spec.OS = &corev1.PodOS{Name: corev1.Windows} }, func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", User: &corev1.ContainerUser{Linux: &corev1.LinuxContainerUser{UID: -1}}}}
		}, []string{"status.containerStatuses[0].user.linux: Forbidden: cannot be set for a windows pod"}},
		{"nominated when bound", func(p *corev1.Pod) { p.Spec.NodeName = "n1" }, func(p *corev1.Pod) { p.Status.NominatedNodeName = "n2" }, []string{
			"status.nominatedNodeName: Forbidden: may not be set on pods that are already bound to a node"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			old := newPod(c.old)
			pod := old.DeepCopy()
			c.change(pod)
			sameErrors(t, Pod.Subresource("status").ValidateUpdate(pod, old), c.want...)
		})
	}
}

// TestPodStatusOfFeaturesThatAreOff is dropped, and fractions are rounded.
func TestPodStatusOfFeaturesThatAreOff(t *testing.T) {
	old := newPod()
	pod := old.DeepCopy()
	pod.Status = corev1.PodStatus{
		NodeAllocatableResourceClaimStatuses: []corev1.NodeAllocatableResourceClaimStatus{{}},
		ContainerStatuses: []corev1.ContainerStatus{{
			Name: "app", AllocatedResources: resources("cpu", "1u"),
			VolumeMounts: []corev1.VolumeMountStatus{{Name: "v", VolumeStatus: &corev1.VolumeStatus{Image: &corev1.ImageVolumeStatus{}}}},
		}},
	}
	Pod.Default(pod)
	Pod.Subresource("status").PrepareUpdate(pod, old)
	app := pod.Status.ContainerStatuses[0]
	if pod.Status.NodeAllocatableResourceClaimStatuses != nil || app.VolumeMounts[0].VolumeStatus != nil {
		t.Errorf("%+v", pod.Status)
	}
	if cpu := app.AllocatedResources["cpu"]; cpu.String() != "1m" {
		t.Errorf("cpu %s, want 1m", cpu.String())
	}
}

func TestPodStatusWarnings(t *testing.T) {
	pod := newPod(func(p *corev1.Pod) { p.Status.PodIPs = []corev1.PodIP{{IP: "2001:DB8::1"}} })
	got := Pod.Subresource("status").Warnings(pod, pod)
	if len(got) != 1 || got[0] != `status.podIPs[0].ip: IPv6 address "2001:DB8::1" should be in RFC 5952 canonical format ("2001:db8::1")` {
		t.Errorf("%q", got)
	}
}
