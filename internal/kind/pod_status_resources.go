package kind

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateClaimStatuses checks which ResourceClaims were made for a Pod's own.
func validateClaimStatuses(path *field.Path, statuses []corev1.PodResourceClaimStatus, claims []corev1.PodResourceClaim) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, s := range statuses {
		name := path.Index(i).Child("name")
		if !slices.ContainsFunc(claims, func(c corev1.PodResourceClaim) bool { return c.Name == s.Name }) {
			errs = append(errs, field.Invalid(name, s.Name, "must match the name of an entry in `spec.resourceClaims`"))
		}
		if seen[s.Name] {
			errs = append(errs, field.Duplicate(name, s.Name))
		}
		seen[s.Name] = true
		if s.ResourceClaimName != nil {
			errs = append(errs, invalidEach(path.Index(i).Child("resourceClaimName"), s.ResourceClaimName, validation.IsDNS1123Subdomain(*s.ResourceClaimName))...)
		}
	}
	return errs
}

// validateExtendedClaim checks the claim that the scheduler made for extended
// resources. The name of a request is told at the claim, as upstream has it.
func validateExtendedClaim(path *field.Path, s *corev1.PodExtendedResourceClaimStatus, spec *corev1.PodSpec) field.ErrorList {
	if s == nil {
		return nil
	}
	var errs field.ErrorList
	mappings := path.Child("requestMappings")
	if len(s.RequestMappings) == 0 {
		errs = append(errs, field.Required(mappings, "at least one request mapping is required"))
	}
	for i, m := range s.RequestMappings {
		at := mappings.Index(i)
		errs = append(errs, validateMapping(at, m, spec)...)
		errs = append(errs, dnsLabel(path.Child("requestName"), m.RequestName)...)
		if slices.Contains(s.RequestMappings[:i], m) {
			errs = append(errs, field.Duplicate(at.Child("containerName"), m.ContainerName),
				field.Duplicate(at.Child("resourceName"), m.ResourceName), field.Duplicate(at.Child("requestName"), m.RequestName))
		}
	}
	if s.ResourceClaimName == "" {
		return append(errs, field.Required(path.Child("resourceClaimName"), ""))
	}
	return append(errs, dnsSubdomain(path.Child("resourceClaimName"), s.ResourceClaimName)...)
}

func validateMapping(path *field.Path, m corev1.ContainerExtendedResourceRequest, spec *corev1.PodSpec) field.ErrorList {
	var container *corev1.Container
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			if list[i].Name == m.ContainerName {
				container = &list[i]
			}
		}
	}
	if container == nil {
		return field.ErrorList{field.Invalid(path.Child("containerName"), m.ContainerName, "must match the name of an entry in spec.initContainers.name or spec.containers.name")}
	}
	if _, ok := container.Resources.Requests[corev1.ResourceName(m.ResourceName)]; !ok {
		return field.ErrorList{field.Invalid(path.Child("resourceName"), m.ResourceName, "must match the extended resource name of an entry in spec.initContainers.resources.requests or spec.containers.resources.requests")}
	}
	return nil
}

// validateHealths checks what a node says of the health of devices.
func validateHealths(path *field.Path, statuses []corev1.ContainerStatus, containers []corev1.Container) field.ErrorList {
	var errs field.ErrorList
	for i, s := range statuses {
		c := slices.IndexFunc(containers, func(c corev1.Container) bool { return c.Name == s.Name })
		for j, r := range s.AllocatedResourcesStatus {
			at := path.Index(i).Child("allocatedResourcesStatus").Index(j)
			if c >= 0 {
				errs = append(errs, validateAllocated(at.Child("name"), r.Name, &containers[c].Resources)...)
			}
			seen := map[corev1.ResourceID]bool{}
			for k, health := range r.Resources {
				errs = append(errs, validateHealth(at.Child("resources").Index(k), health, seen)...)
			}
		}
	}
	return errs
}

// validateAllocated: a container is given only what it asked for.
func validateAllocated(path *field.Path, name corev1.ResourceName, r *corev1.ResourceRequirements) field.ErrorList {
	claim, ok := strings.CutPrefix(string(name), "claim:")
	if !ok {
		if _, requested := r.Requests[name]; !requested {
			return field.ErrorList{field.Invalid(path, name, "must match one of the container's resource requests")}
		}
		return nil
	}
	for _, c := range r.Claims {
		if claim == c.Name && c.Request == "" || claim == c.Name+"/"+c.Request && c.Request != "" {
			return nil
		}
	}
	return field.ErrorList{field.Invalid(path, name, "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or 'claim:<claimName>' if request is empty")}
}

func validateHealth(path *field.Path, h corev1.ResourceHealth, seen map[corev1.ResourceID]bool) field.ErrorList {
	errs := oneOf(path.Child("health"), h.Health, corev1.ResourceHealthStatusHealthy, corev1.ResourceHealthStatusUnhealthy, corev1.ResourceHealthStatusUnknown)
	if h.Message != nil {
		switch at := path.Child("message"); {
		case *h.Message == "":
			errs = append(errs, field.Required(at, "must be non-empty if specified"))
		case len(*h.Message) > corev1.ResourceHealthMessageMaxLength:
			errs = append(errs, field.TooLong(at, *h.Message, corev1.ResourceHealthMessageMaxLength))
		}
	}
	if seen[h.ResourceID] {
		errs = append(errs, field.Duplicate(path.Child("resourceID"), h.ResourceID))
	}
	seen[h.ResourceID] = true
	return errs
}

// refuseHealths: an ephemeral container has no devices.
func refuseHealths(path *field.Path, statuses []corev1.ContainerStatus) field.ErrorList {
	var errs field.ErrorList
	for i, s := range statuses {
		if len(s.AllocatedResourcesStatus) > 0 {
			errs = append(errs, field.Forbidden(path.Index(i).Child("allocatedResourcesStatus"), "must not be specified in container status"))
		}
	}
	return errs
}
