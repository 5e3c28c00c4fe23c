package kind

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/resource"
)

// defaultPod fills a Pod as upstream's defaulting and its conversion from v1
// do. What is said here only of Pods, and not of every Pod template, is what
// upstream chose not to write into other objects.
func defaultPod(pod *corev1.Pod) {
	defaultRequests(pod.Spec.Containers)
	defaultRequests(pod.Spec.InitContainers)
	defaultPodResources(pod)
	setDefault(&pod.Spec.EnableServiceLinks, corev1.DefaultEnableServiceLinks)
	if grace := pod.Spec.TerminationGracePeriodSeconds; grace != nil && *grace < 0 {
		pod.Spec.TerminationGracePeriodSeconds = new(int64(1))
	}
	if pod.Spec.HostNetwork {
		defaultHostPorts(pod.Spec.Containers)
		defaultHostPorts(pod.Spec.InitContainers)
	}
	defaultPodSpec(&pod.Spec)
	defaultPodStatus(&pod.Status)
	dropInitAnnotations(&pod.ObjectMeta)
}

// defaultTemplate fills a Pod template of any workload.
func defaultTemplate(t *corev1.PodTemplateSpec) {
	defaultPodSpec(&t.Spec)
	dropInitAnnotations(&t.ObjectMeta)
}

// dropInitAnnotations forgets how init containers were written before they had
// a field, so that nothing takes them for a second definition.
func dropInitAnnotations(meta *metav1.ObjectMeta) {
	if len(meta.Annotations) == 0 {
		return
	}
	for _, stage := range []string{"alpha", "beta"} {
		delete(meta.Annotations, "pod."+stage+".kubernetes.io/init-containers")
		delete(meta.Annotations, "pod."+stage+".kubernetes.io/init-container-statuses")
	}
}

// defaultPodSpec fills what every Pod template has too.
func defaultPodSpec(spec *corev1.PodSpec) {
	orDefault(&spec.DNSPolicy, corev1.DNSClusterFirst)
	orDefault(&spec.RestartPolicy, corev1.RestartPolicyAlways)
	orDefault(&spec.SchedulerName, corev1.DefaultSchedulerName)
	setDefault(&spec.TerminationGracePeriodSeconds, corev1.DefaultTerminationGracePeriodSeconds)
	if spec.SecurityContext == nil {
		spec.SecurityContext = &corev1.PodSecurityContext{}
	}
	matchServiceAccount(spec)
	for i := range spec.Volumes {
		defaultVolume(&spec.Volumes[i])
	}
	for i := range spec.InitContainers {
		defaultContainer(&spec.InitContainers[i])
	}
	for i := range spec.Containers {
		defaultContainer(&spec.Containers[i])
	}
	for i := range spec.EphemeralContainers {
		defaultContainer((*corev1.Container)(&spec.EphemeralContainers[i].EphemeralContainerCommon))
	}
	roundRequirements(spec.Resources)
	roundResources(spec.Overhead)
}

func defaultPodStatus(status *corev1.PodStatus) {
	matchPodIPs(status)
	roundResources(status.AllocatedResources)
	roundRequirements(status.Resources)
	for _, list := range [][]corev1.ContainerStatus{status.InitContainerStatuses, status.ContainerStatuses, status.EphemeralContainerStatuses} {
		for i := range list {
			roundResources(list[i].AllocatedResources)
			roundRequirements(list[i].Resources)
		}
	}
}

// matchServiceAccount keeps the field's old name and its new one the same; the
// new one wins.
func matchServiceAccount(spec *corev1.PodSpec) {
	orDefault(&spec.ServiceAccountName, spec.DeprecatedServiceAccount)
	spec.DeprecatedServiceAccount = spec.ServiceAccountName
}

// matchPodIPs keeps podIP and the first of podIPs the same; podIP wins, since
// clients that know nothing of podIPs set only that.
func matchPodIPs(status *corev1.PodStatus) {
	switch {
	case status.PodIP != "" && (len(status.PodIPs) == 0 || status.PodIPs[0].IP != status.PodIP):
		status.PodIPs = []corev1.PodIP{{IP: status.PodIP}}
	case status.PodIP == "" && len(status.PodIPs) > 0:
		status.PodIP = status.PodIPs[0].IP
	}
}

func defaultHostPorts(containers []corev1.Container) {
	for i := range containers {
		for j := range containers[i].Ports {
			port := &containers[i].Ports[j]
			orDefault(&port.HostPort, port.ContainerPort)
		}
	}
}

// defaultRequests lets a limit without a request be the request as well.
func defaultRequests(containers []corev1.Container) {
	for i := range containers {
		resources := &containers[i].Resources
		if resources.Limits == nil {
			continue
		}
		if resources.Requests == nil {
			resources.Requests = corev1.ResourceList{}
		}
		fillResources(resources.Requests, resources.Limits, anyResource)
	}
}

// defaultPodResources completes resources that are given for the Pod as a
// whole (KEP-2837): huge page limits from the containers' limits, then requests
// from the containers' requests, then from the Pod's own limits.
func defaultPodResources(pod *corev1.Pod) {
	own := pod.Spec.Resources
	if own == nil || len(own.Limits)+len(own.Requests) == 0 {
		return
	}
	limits := corev1.ResourceList{}
	fillResources(limits, own.Limits, anyResource)
	fillResources(limits, resource.AggregateContainerLimits(pod, resource.PodResourcesOptions{}), func(name corev1.ResourceName) bool {
		_, requested := own.Requests[name]
		return isHugePages(name) && !requested
	})
	if len(limits) == 0 {
		return
	}
	own.Limits = limits
	requests := own.Requests
	if requests == nil {
		requests = corev1.ResourceList{}
	}
	fillResources(requests, resource.AggregateContainerRequests(pod, resource.PodResourcesOptions{}), func(name corev1.ResourceName) bool {
		return resource.IsSupportedPodLevelResource(name) && mayOvercommit(name)
	})
	fillResources(requests, own.Limits, resource.IsSupportedPodLevelResource)
	if len(requests) > 0 { // what was given empty stays as it is
		own.Requests = requests
	}
}

// fillResources copies from source what list lacks and which accepts.
func fillResources(list, source corev1.ResourceList, which func(corev1.ResourceName) bool) {
	for name, quantity := range source {
		if _, ok := list[name]; !ok && which(name) {
			list[name] = quantity.DeepCopy()
		}
	}
}

func anyResource(corev1.ResourceName) bool { return true }

// roundResources rounds up to thousandths, the finest that is kept.
func roundResources(list corev1.ResourceList) {
	for name, quantity := range list {
		quantity.RoundUp(-3)
		list[name] = quantity
	}
}

func roundRequirements(r *corev1.ResourceRequirements) {
	if r != nil {
		roundResources(r.Limits)
		roundResources(r.Requests)
	}
}

// orDefault sets a field that is zero.
func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// setDefault sets a pointer that is nil.
func setDefault[T any](field **T, value T) {
	if *field == nil {
		*field = &value
	}
}
