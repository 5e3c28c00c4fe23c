package kind

import (
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// preparePodResize keeps all but resources and how containers take a change of them
// (KEP-1287). Containers that came, went or changed places are left for the
// validation to refuse.
func preparePodResize(pod, old *corev1.Pod) {
	if len(pod.Spec.Containers) == len(old.Spec.Containers) && len(pod.Spec.InitContainers) == len(old.Spec.InitContainers) {
		sent := pod.Spec
		pod.Spec = *old.Spec.DeepCopy()
		pod.Status = *old.Status.DeepCopy()
		metav1.ResetObjectMetaForStatus(pod, old.DeepCopy())
		pod.Spec.Resources = sent.Resources
		pod.Spec.Containers = withResources(sent.Containers, pod.Spec.Containers)
		pod.Spec.InitContainers = withResources(sent.InitContainers, pod.Spec.InitContainers)
	}
	dropDisabled(&pod.Spec)
	raisePodGeneration(pod, old)
}

// withResources gives kept the resources of those sent, or returns these where
// they are not the same containers.
func withResources(sent, kept []corev1.Container) []corev1.Container {
	for i := range sent {
		if sent[i].Name != kept[i].Name {
			return sent
		}
		kept[i].Resources, kept[i].ResizePolicy = sent[i].Resources, sent[i].ResizePolicy
	}
	return kept
}

// validatePodResize lets CPU and memory of containers and of the Pod as a whole
// change, within the class that they give it.
func validatePodResize(pod, old *corev1.Pod) field.ErrorList {
	if _, static := old.Annotations[corev1.MirrorPodAnnotationKey]; static {
		return field.ErrorList{field.Forbidden(field.NewPath(""), "static pods cannot be resized")}
	}
	if old.Spec.OS != nil && old.Spec.OS.Name == corev1.Windows {
		return field.ErrorList{field.Forbidden(field.NewPath(""), "windows pods cannot be resized")}
	}
	path := field.NewPath("spec")
	errs := append(metaUpdateErrors(pod, old), newMetaErrors(pod, old, apivalidation.NameIsDNSSubdomain)...)
	errs = append(errs, validatePod(pod, old)...)
	errs = append(errs, validateClassKept(path, pod, old)...)
	errs = append(errs, validatePodResourcesResize(path, pod.Spec.Resources, old.Spec.Resources)...)
	if wrong := validateSameContainers(path, &pod.Spec, &old.Spec); len(wrong) > 0 {
		return append(errs, wrong...)
	}
	errs = append(errs, validateResourcesKept(path, &pod.Spec, &old.Spec)...)
	for i := range pod.Spec.Containers {
		errs = append(errs, validateOnlyResized(path, &pod.Spec.Containers[i], &old.Spec.Containers[i])...)
	}
	for i := range pod.Spec.InitContainers {
		errs = append(errs, validateInitResized(path.Child("initContainers").Index(i), &pod.Spec.InitContainers[i], &old.Spec.InitContainers[i])...)
	}
	if len(errs) == 0 && (pod.Spec.Resources == nil) != (old.Spec.Resources == nil) && !givesResources(pod.Spec.Resources) {
		errs = append(errs, field.Forbidden(path, "only cpu and memory resources are mutable"))
	}
	return errs
}

// validateClassKept: what a node promised a Pod at its start stays promised, and the
// node must be one that knows what a resize is.
func validateClassKept(path *field.Path, pod, old *corev1.Pod) field.ErrorList {
	var errs field.ErrorList
	was := old.Status.QOSClass
	if was == "" {
		was = qosClass(old)
	}
	if was != qosClass(pod) {
		errs = append(errs, field.Invalid(path, pod.Status.QOSClass, "Pod QOS Class may not change as a result of resizing"))
	}
	for _, c := range old.Status.ContainerStatuses {
		if c.State.Running == nil {
			continue
		}
		if c.Resources == nil {
			errs = append(errs, field.Forbidden(path, "Pod running on node without support for resize"))
		}
		break // the first that runs tells of the node
	}
	return errs
}

func givesResources(r *corev1.ResourceRequirements) bool {
	return r != nil && len(r.Requests)+len(r.Limits) > 0
}

// validatePodResourcesResize is about those of the Pod as a whole.
func validatePodResourcesResize(path *field.Path, is, was *corev1.ResourceRequirements) field.ErrorList {
	if !givesResources(is) && !givesResources(was) {
		return nil
	}
	at := path.Child("resources")
	if is == nil {
		return field.ErrorList{field.Forbidden(at, "pod-level resources cannot be removed")}
	}
	var errs field.ErrorList
	if was != nil && removes(is.Requests, was.Requests) {
		errs = append(errs, field.Forbidden(at.Child("requests"), "pod-level resource requests cannot be removed"))
	}
	if was != nil && removes(is.Limits, was.Limits) {
		errs = append(errs, field.Forbidden(at.Child("limits"), "pod-level resource limits cannot be removed"))
	}
	if was == nil {
		was = &corev1.ResourceRequirements{}
	}
	rest := *is
	rest.Requests, rest.Limits = withCPUAndMemory(is.Requests, was.Requests), withCPUAndMemory(is.Limits, was.Limits)
	if !equality.Semantic.DeepEqual(rest, *was) {
		errs = append(errs, field.Forbidden(path, "only cpu and memory resources are mutable at pod-level"))
	}
	return errs
}

// removes tells whether something was given that is not any more.
func removes(is, was corev1.ResourceList) bool {
	for name := range was {
		if _, ok := is[name]; !ok {
			return true
		}
	}
	return false
}

// withCPUAndMemory returns list with what was given of the two that may change.
func withCPUAndMemory(list, was corev1.ResourceList) corev1.ResourceList {
	kept := maps.Clone(list)
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		delete(kept, name)
		if quantity, ok := was[name]; ok {
			if kept == nil {
				kept = corev1.ResourceList{}
			}
			kept[name] = quantity
		}
	}
	return kept
}

func validateSameContainers(path *field.Path, spec, old *corev1.PodSpec) field.ErrorList {
	var errs field.ErrorList
	for _, list := range []struct {
		name    string
		is, was []corev1.Container
	}{{"containers", spec.Containers, old.Containers}, {"initContainers", spec.InitContainers, old.InitContainers}} {
		if len(list.is) != len(list.was) {
			errs = append(errs, field.Forbidden(path.Child(list.name), fmt.Sprintf("%s may not be added or removed on resize", list.name)))
			continue
		}
		for i := range list.is {
			if list.is[i].Name != list.was[i].Name {
				errs = append(errs, field.Forbidden(path.Child(list.name).Index(i).Child("name"), fmt.Sprintf("%s may not be renamed or reordered on resize", list.name)))
			}
		}
	}
	return errs
}

// validateResourcesKept refuses that what a container is given of a resource is
// taken away as a whole.
func validateResourcesKept(path *field.Path, spec, old *corev1.PodSpec) field.ErrorList {
	var errs field.ErrorList
	check := func(path *field.Path, is, was []corev1.Container) {
		for i := range was {
			at := path.Index(i).Child("resources")
			if removes(is[i].Resources.Requests, was[i].Resources.Requests) {
				errs = append(errs, field.Forbidden(at.Child("requests"), "resource requests cannot be removed"))
			}
			if removes(is[i].Resources.Limits, was[i].Resources.Limits) {
				errs = append(errs, field.Forbidden(at.Child("limits"), "resource limits cannot be removed"))
			}
		}
	}
	check(path.Child("initContainers"), spec.InitContainers, old.InitContainers)
	check(path.Child("containers"), spec.Containers, old.Containers)
	return errs
}

// onlyResized tells whether nothing but CPU and memory differs. Claims count as a
// difference, the same ones too, as upstream has it.
func onlyResized(c, old *corev1.Container) bool {
	rest := *c
	rest.Resources = corev1.ResourceRequirements{
		Requests: withCPUAndMemory(c.Resources.Requests, old.Resources.Requests),
		Limits:   withCPUAndMemory(c.Resources.Limits, old.Resources.Limits),
	}
	return equality.Semantic.DeepEqual(rest, *old)
}

func validateOnlyResized(path *field.Path, c, old *corev1.Container) field.ErrorList {
	if onlyResized(c, old) {
		return nil
	}
	return field.ErrorList{field.Forbidden(path, "only cpu and memory resources are mutable")}
}

func validateInitResized(path *field.Path, c, old *corev1.Container) field.ErrorList {
	var errs field.ErrorList
	if !onlyResized(c, old) {
		errs = append(errs, field.Forbidden(path, "only cpu and memory resources for init or sidecar containers are mutable"))
	}
	if IsSidecar(c) || equality.Semantic.DeepEqual(*c, *old) {
		return errs
	}
	for _, policy := range c.ResizePolicy {
		if policy.RestartPolicy == corev1.RestartContainer {
			errs = append(errs, field.Forbidden(path, "non-sidecar init containers with a resize policy of RestartContainer cannot be resized"))
		}
	}
	return errs
}
