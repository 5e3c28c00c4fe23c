package kind

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// serviceStatusErrors checks what a load balancer reports.
func serviceStatusErrors(s, old *corev1.Service) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("status", "loadBalancer", "ingress")
	ingresses := s.Status.LoadBalancer.Ingress
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer && len(ingresses) > 0 {
		return field.ErrorList{field.Forbidden(path, "may only be used when `spec.type` is 'LoadBalancer'")}
	}
	var known []string
	for _, ingress := range old.Status.LoadBalancer.Ingress {
		known = append(known, ingress.IP)
	}
	for i, ingress := range ingresses {
		errs = append(errs, ingressErrors(ingress, known, path.Index(i))...)
	}
	return errs
}

func ingressErrors(g corev1.LoadBalancerIngress, known []string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if g.IP != "" {
		errs = append(errs, ipAddress(path.Child("ip"), g.IP, known...)...)
	}
	mode := path.Child("ipMode")
	switch {
	case g.IPMode != nil && g.IP == "":
		errs = append(errs, field.Forbidden(mode, "may not be specified when `ip` is not set"))
	case g.IPMode != nil:
		errs = append(errs, oneOf(mode, *g.IPMode, corev1.LoadBalancerIPModeProxy, corev1.LoadBalancerIPModeVIP)...)
	}
	if g.Hostname != "" {
		errs = append(errs, dnsSubdomain(path.Child("hostname"), g.Hostname)...)
		if _, isIP := looseIP(g.Hostname); isIP {
			errs = append(errs, field.Invalid(path.Child("hostname"), g.Hostname, "must be a DNS name, not an IP address"))
		}
	}
	return errs
}

func serviceStatusWarnings(s *corev1.Service) []string {
	var warnings []string
	for i, ingress := range s.Status.LoadBalancer.Ingress {
		if ingress.IP != "" {
			warnings = append(warnings, validation.GetWarningsForIP(field.NewPath("status", "loadBalancer", "ingress").Index(i), ingress.IP)...)
		}
	}
	return warnings
}
