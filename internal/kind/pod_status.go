package kind

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
)

// validatePodStatus checks what a node, or the scheduler, says of a Pod.
func validatePodStatus(pod, old *corev1.Pod) field.ErrorList {
	path := field.NewPath("status")
	is, was := &pod.Status, &old.Status
	errs := validateAnnotationsUpdate(field.NewPath("metadata", "annotations"), pod, old.Annotations)
	errs = append(errs, validateConditions(path.Child("conditions"), is.Conditions)...)
	if is.NominatedNodeName != was.NominatedNodeName && is.NominatedNodeName != "" {
		at := path.Child("nominatedNodeName")
		errs = append(errs, dnsSubdomain(at, is.NominatedNodeName)...)
		if old.Spec.NodeName != "" {
			errs = append(errs, field.Forbidden(at, "may not be set on pods that are already bound to a node"))
		}
	}
	errs = append(errs, validateObserved(path, is.ObservedGeneration)...)
	errs = append(errs, immutable(path.Child("qosClass"), is.QOSClass, was.QOSClass)...)
	spec := &old.Spec
	errs = append(errs, validateEnded(path.Child("containerStatuses"), is.ContainerStatuses, was.ContainerStatuses, spec, spec.Containers)...)
	errs = append(errs, validateEnded(path.Child("initContainerStatuses"), is.InitContainerStatuses, was.InitContainerStatuses, spec, spec.InitContainers)...)
	errs = append(errs, validateEnded(path.Child("ephemeralContainerStatuses"), is.EphemeralContainerStatuses, was.EphemeralContainerStatuses, spec, nil)...)
	errs = append(errs, validateClaimStatuses(path.Child("resourceClaimStatuses"), is.ResourceClaimStatuses, spec.ResourceClaims)...)
	errs = append(errs, validateExtendedClaim(path.Child("extendedResourceClaimStatus"), is.ExtendedResourceClaimStatus, spec)...)
	errs = append(errs, validatePodIPs(path.Child("podIPs"), is, was)...)
	errs = append(errs, validateHostIPs(path.Child("hostIPs"), is, was)...)
	errs = append(errs, validateStatusUsers(path.Child("containerStatuses"), is.ContainerStatuses, pod.Spec.OS)...)
	errs = append(errs, validateStatusUsers(path.Child("initContainerStatuses"), is.InitContainerStatuses, pod.Spec.OS)...)
	errs = append(errs, validateStatusUsers(path.Child("ephemeralContainerStatuses"), is.EphemeralContainerStatuses, pod.Spec.OS)...)
	errs = append(errs, validateHealths(path.Child("containerStatuses"), is.ContainerStatuses, spec.Containers)...)
	errs = append(errs, validateHealths(path.Child("initContainerStatuses"), is.InitContainerStatuses, spec.InitContainers)...)
	return append(errs, refuseHealths(path.Child("ephemeralContainerStatuses"), is.EphemeralContainerStatuses)...)
}

func validateObserved(path *field.Path, generation int64) field.ErrorList {
	if generation < 0 {
		return field.ErrorList{field.Invalid(path.Child("observedGeneration"), generation, "must be a non-negative integer")}
	}
	return nil
}

func validateConditions(path *field.Path, conditions []corev1.PodCondition) field.ErrorList {
	var errs field.ErrorList
	for i, c := range conditions {
		errs = append(errs, validateObserved(path.Index(i), c.ObservedGeneration)...)
		switch c.Type {
		case corev1.PodScheduled, corev1.PodReady, corev1.PodInitialized:
		default:
			errs = append(errs, qualifiedName(path.Index(i).Child("Type"), string(c.Type))...)
		}
	}
	return errs
}

// validateEnded refuses to let a container run again that has ended for good.
func validateEnded(path *field.Path, is, was []corev1.ContainerStatus, spec *corev1.PodSpec, containers []corev1.Container) field.ErrorList {
	if containers != nil && MayRestartAll(spec) {
		return nil
	}
	var errs field.ErrorList
	for i, before := range was {
		ended := before.State.Terminated
		j := slices.IndexFunc(is, func(s corev1.ContainerStatus) bool { return s.Name == before.Name })
		if ended == nil || j < 0 || is[j].State.Terminated != nil {
			continue
		}
		c := slices.IndexFunc(containers, func(c corev1.Container) bool { return c.Name == before.Name })
		if c < 0 || !mayRestart(spec, &containers[c], ended.ExitCode) {
			errs = append(errs, field.Forbidden(path.Index(i).Child("state"), "may not be transitioned to non-terminated state"))
		}
	}
	return errs
}

func validatePodIPs(path *field.Path, is, was *corev1.PodStatus) field.ErrorList {
	ip := func(ip corev1.PodIP) string { return ip.IP }
	return validateDualStack(path, untagged{is.PodIPs}, mapped(is.PodIPs, ip), mapped(was.PodIPs, ip))
}

func validateHostIPs(path *field.Path, is, was *corev1.PodStatus) field.ErrorList {
	if len(is.HostIPs) == 0 {
		return nil
	}
	var errs field.ErrorList
	if is.HostIP != is.HostIPs[0].IP {
		errs = append(errs, field.Invalid(path.Index(0).Child("ip"), is.HostIPs[0].IP, "must be equal to `hostIP`"))
	}
	ip := func(ip corev1.HostIP) string { return ip.IP }
	return append(errs, validateDualStack(path, untagged{is.HostIPs}, mapped(is.HostIPs, ip), mapped(was.HostIPs, ip))...)
}

// validateDualStack checks addresses, of which there may be one of each family.
func validateDualStack(path *field.Path, shown any, ips, old []string) field.ErrorList {
	var errs field.ErrorList
	for i, ip := range ips {
		errs = append(errs, ipAddress(path.Index(i), ip, old...)...)
	}
	if len(ips) < 2 {
		return errs
	}
	dual, err := netutils.IsDualStackIPStrings(ips)
	if err != nil {
		errs = append(errs, field.InternalError(path, fmt.Errorf("failed to check for dual stack with error:%w", err)))
	}
	if !dual || len(ips) > 2 {
		errs = append(errs, field.Invalid(path, shown, "may specify no more than one IP for each IP family"))
	}
	return errs
}

func mapped[T any](list []T, to func(T) string) []string {
	var out []string
	for _, one := range list {
		out = append(out, to(one))
	}
	return out
}

func validateStatusUsers(path *field.Path, statuses []corev1.ContainerStatus, os *corev1.PodOS) field.ErrorList {
	var errs field.ErrorList
	for i, s := range statuses {
		if s.User == nil || s.User.Linux == nil {
			continue
		}
		user, at := s.User.Linux, path.Index(i).Child("user", "linux")
		if os != nil && os.Name == corev1.Windows {
			errs = append(errs, field.Forbidden(at, "cannot be set for a windows pod"))
			continue
		}
		errs = append(errs, invalidEach(at.Child("uid"), user.UID, validation.IsValidUserID(user.UID))...)
		errs = append(errs, invalidEach(at.Child("gid"), user.GID, validation.IsValidGroupID(user.GID))...)
		for j, gid := range user.SupplementalGroups {
			errs = append(errs, invalidEach(at.Child("supplementalGroups").Index(j), gid, validation.IsValidGroupID(gid))...)
		}
	}
	return errs
}
