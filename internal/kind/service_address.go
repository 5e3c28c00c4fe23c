package kind

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ServiceAddressErrors checks that clusterIP, clusterIPs, ipFamilies and
// ipFamilyPolicy of a completed Service go together: before addresses are allocated for
// it, and with all else. Whether the cluster has these families is for the allocator to say. old may be nil.
func ServiceAddressErrors(s, old *corev1.Service) field.ErrorList {
	path := field.NewPath("spec")
	spec := &s.Spec
	if spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	ips := path.Child("clusterIPs")
	errs := append(clusterIPPairErrors(spec, ips), familyErrors(spec, path)...)
	known := []string(nil)
	if old != nil {
		known = old.Spec.ClusterIPs
	}
	bad := false
	for i, ip := range spec.ClusterIPs {
		if i == 0 && ip == corev1.ClusterIPNone {
			if len(spec.ClusterIPs) > 1 {
				bad = true
				errs = append(errs, field.Invalid(ips, spec.ClusterIPs, "'None' must be the first and only value"))
			}
			continue
		}
		wrong := ipAddress(ips.Index(i), ip, known...)
		bad = bad || len(wrong) > 0
		errs = append(errs, wrong...)
	}
	if len(spec.ClusterIPs) > 2 {
		errs = append(errs, field.Invalid(ips, spec.ClusterIPs, "may only hold up to 2 values"))
	}
	if bad || headless(s) {
		return errs
	}
	return append(errs, clusterIPFamilyErrors(spec, ips)...)
}

// familyErrors checks the families of the addresses, and how many there may be.
func familyErrors(spec *corev1.ServiceSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	families := path.Child("ipFamilies")
	for i, family := range spec.IPFamilies {
		errs = append(errs, oneOf(families.Index(i), family, corev1.IPv4Protocol, corev1.IPv6Protocol)...)
		if slices.Contains(spec.IPFamilies[:i], family) {
			errs = append(errs, field.Duplicate(families.Index(i), family))
		}
	}
	if p := spec.IPFamilyPolicy; p != nil {
		errs = append(errs, oneOf(path.Child("ipFamilyPolicy"), *p, corev1.IPFamilyPolicyPreferDualStack,
			corev1.IPFamilyPolicyRequireDualStack, corev1.IPFamilyPolicySingleStack)...)
	}
	return errs
}

func clusterIPPairErrors(spec *corev1.ServiceSpec, path *field.Path) field.ErrorList {
	switch {
	case spec.ClusterIP == "" && len(spec.ClusterIPs) > 0:
		return field.ErrorList{field.Invalid(path, spec.ClusterIPs, "must be empty when `clusterIP` is not specified")}
	case spec.ClusterIP == "":
		return nil
	case len(spec.ClusterIPs) == 0: // of one that is made through its status
		return field.ErrorList{field.Required(path, "")}
	case spec.ClusterIPs[0] != spec.ClusterIP:
		return field.ErrorList{field.Invalid(path, spec.ClusterIPs, "first value must match `clusterIP`")}
	}
	return nil
}

// clusterIPFamilyErrors is for addresses that are well-formed.
func clusterIPFamilyErrors(spec *corev1.ServiceSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := map[corev1.IPFamily]bool{}
	for _, ip := range spec.ClusterIPs {
		if addr, ok := looseIP(ip); ok {
			seen[familyOf(addr)] = true
		}
	}
	if len(spec.ClusterIPs) > 1 && len(seen) < 2 {
		errs = append(errs, field.Invalid(path, spec.ClusterIPs, "may specify no more than one IP for each IP family"))
	}
	for i, ip := range spec.ClusterIPs[:min(len(spec.ClusterIPs), len(spec.IPFamilies))] {
		family := spec.IPFamilies[i]
		if family != corev1.IPv4Protocol && family != corev1.IPv6Protocol {
			continue
		}
		if addr, ok := looseIP(ip); ok && familyOf(addr) != family {
			errs = append(errs, field.Invalid(path.Index(i), ip, fmt.Sprintf("expected an %s value as indicated by `ipFamilies[%v]`", family, i)))
		}
	}
	return errs
}

func familyOf(addr netip.Addr) corev1.IPFamily {
	if addr.Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

// serviceUpdateErrors checks what may not change: the addresses, the class of a load balancer, the health port.
func serviceUpdateErrors(s, old *corev1.Service) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("spec")
	if s.Spec.Type != corev1.ServiceTypeExternalName && old.Spec.Type != corev1.ServiceTypeExternalName && (!headless(s) || !headless(old)) {
		errs = append(errs, clusterIPChangeErrors(s, old, path)...)
	}
	class := path.Child("loadBalancerClass")
	if s.Spec.Type == corev1.ServiceTypeLoadBalancer && old.Spec.Type == s.Spec.Type &&
		!sameValue(s.Spec.LoadBalancerClass, old.Spec.LoadBalancerClass) {
		errs = append(errs, field.Invalid(class, s.Spec.LoadBalancerClass, "may not change once set"))
	}
	errs = append(errs, loadBalancerClassErrors(s, class)...) // twice, as upstream
	if needsHealthPort(s) && needsHealthPort(old) && s.Spec.HealthCheckNodePort != old.Spec.HealthCheckNodePort {
		errs = append(errs, field.Forbidden(path.Child("healthCheckNodePort"), "field is immutable"))
	}
	return errs
}

func clusterIPChangeErrors(s, old *corev1.Service, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	ips, before, at := s.Spec.ClusterIPs, old.Spec.ClusterIPs, path.Child("clusterIPs")
	for i := range min(len(ips), len(before)) {
		if ips[i] != before[i] {
			errs = append(errs, field.Invalid(at.Index(i), ips, "may not change once set"))
		}
	}
	return errs
}
