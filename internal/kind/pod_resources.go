package kind

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/component-helpers/resource"
)

// validatePodResources checks resources given for the Pod as a whole, which
// must cover those of its containers (KEP-2837).
func validatePodResources(path *field.Path, spec *corev1.PodSpec, claims []string) field.ErrorList {
	own := spec.Resources
	if own == nil {
		return nil
	}
	if spec.OS != nil && spec.OS.Name == corev1.Windows {
		return field.ErrorList{field.Forbidden(path, "may not be set for a windows pod")}
	}
	var errs field.ErrorList
	if own.Claims != nil {
		errs = append(errs, field.Forbidden(path.Child("claims"), "claims may not be set for Resources at pod-level"))
	}
	errs = append(errs, validateResources(path, own, podResourceName, claims)...)
	pod := &corev1.Pod{Spec: *spec}
	requests := resource.AggregateContainerRequests(pod, resource.PodResourcesOptions{})
	errs = append(errs, validateCovers(path.Child("requests"), own.Requests, requests, "requests")...)
	limits := resource.AggregateContainerLimits(pod, resource.PodResourcesOptions{})
	maps.DeleteFunc(limits, func(name corev1.ResourceName, _ apiresource.Quantity) bool { return !isHugePages(name) })
	errs = append(errs, validateCovers(path.Child("limits"), own.Limits, limits, "limits")...)
	return append(errs, validateWithin(path.Child("containers"), spec.Containers, own.Limits)...)
}

// podResourceName is the rule for what a Pod as a whole may ask for.
func podResourceName(path *field.Path, name corev1.ResourceName) field.ErrorList {
	if errs := anyResourceName(path, name); len(errs) > 0 {
		return errs
	}
	if !resource.IsSupportedPodLevelResource(name) {
		return field.ErrorList{field.NotSupported(path, name, sets.List(resource.SupportedPodLevelResources()))}
	}
	return nil
}

// validateCovers requires own to be at least the sum of the containers'.
func validateCovers(path *field.Path, own, sum corev1.ResourceList, what string) field.ErrorList {
	var errs field.ErrorList
	for _, name := range slices.Sorted(maps.Keys(sum)) {
		have, ok := own[name]
		need := sum[name]
		if ok && need.Cmp(have) > 0 {
			errs = append(errs, field.Invalid(path.Key(string(name)), have.String(), fmt.Sprintf("must be greater than or equal to aggregate container %s of %s", what, need.String())))
		}
	}
	return errs
}

// validateWithin requires each container's limits to lie within the Pod's.
func validateWithin(path *field.Path, containers []corev1.Container, own corev1.ResourceList) field.ErrorList {
	var errs field.ErrorList
	for i, c := range containers {
		for _, name := range slices.Sorted(maps.Keys(c.Resources.Limits)) {
			limit := c.Resources.Limits[name]
			if most, ok := own[name]; ok && limit.Cmp(most) > 0 {
				at := path.Index(i).Key(string(name)).Child("limits")
				errs = append(errs, field.Invalid(at, limit.String(), fmt.Sprintf("must be less than or equal to pod limits of %s", most.String())))
			}
		}
	}
	return errs
}
