package kind

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// loadBalancerOnly is what upstream says of a field that only this type has.
const loadBalancerOnly = "may only be used when `type` is 'LoadBalancer'"

// serviceErrors checks a whole Service, allocated fields included. It accepts
// addresses that old, which may be nil, already has.
func serviceErrors(s, old *corev1.Service) field.ErrorList {
	spec, path := &s.Spec, field.NewPath("spec")
	errs := topologyErrors(s)
	if len(spec.Ports) == 0 && !headless(s) && spec.Type != corev1.ServiceTypeExternalName {
		errs = append(errs, field.Required(path.Child("ports"), ""))
	}
	errs = append(errs, serviceTypeErrors(s, path)...)
	names := map[string]bool{}
	for i := range spec.Ports {
		errs = append(errs, servicePortErrors(&spec.Ports[i], len(spec.Ports) > 1, names, path.Child("ports").Index(i))...)
	}
	if spec.Selector != nil {
		errs = append(errs, metavalidation.ValidateLabels(spec.Selector, path.Child("selector"))...)
	}
	errs = append(errs, affinityErrors(spec, path)...)
	errs = append(errs, ServiceAddressErrors(s, old)...)
	errs = append(errs, externalIPErrors(s, old, path.Child("externalIPs"))...)
	errs = append(errs, requiredOneOf(path.Child("type"), spec.Type, corev1.ServiceTypeClusterIP,
		corev1.ServiceTypeExternalName, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort)...)
	errs = append(errs, duplicatePortErrors(spec, path.Child("ports"))...)
	errs = append(errs, sourceRangeErrors(s, old, path.Child("LoadBalancerSourceRanges"))...)
	errs = append(errs, loadBalancerErrors(s, path)...)
	return append(errs, trafficErrors(s, path)...)
}

// externalIPErrors accepts addresses that old already has, unless they mean
// something else on every node.
func externalIPErrors(s, old *corev1.Service, path *field.Path) field.ErrorList {
	var known []string
	if old != nil {
		known = old.Spec.ExternalIPs
	}
	var errs field.ErrorList
	for i, ip := range s.Spec.ExternalIPs {
		if bad := ipAddress(path.Index(i), ip, known...); len(bad) > 0 {
			errs = append(errs, bad...)
		} else {
			errs = append(errs, specialIPErrors(ip, path.Index(i))...)
		}
	}
	return errs
}

func topologyErrors(s *corev1.Service) field.ErrorList {
	hints, hinted := s.Annotations[corev1.DeprecatedAnnotationTopologyAwareHints]
	mode, moded := s.Annotations[corev1.AnnotationTopologyMode]
	if !hinted || !moded || hints == mode {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("metadata", "annotations").Key(corev1.AnnotationTopologyMode), mode,
		fmt.Sprintf("must match annotations[%s] when both are specified", corev1.DeprecatedAnnotationTopologyAwareHints))}
}

func serviceTypeErrors(s *corev1.Service, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	spec := &s.Spec
	switch spec.Type {
	case corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort:
		if headless(s) {
			errs = append(errs, field.Invalid(path.Child("clusterIPs").Index(0), spec.ClusterIPs[0],
				fmt.Sprintf("may not be set to 'None' for %s services", spec.Type)))
		}
	case corev1.ServiceTypeExternalName:
		const refused = "may not be set for ExternalName services"
		if len(spec.ClusterIPs) > 0 {
			errs = append(errs, field.Forbidden(path.Child("clusterIPs"), refused))
		}
		if len(spec.IPFamilies) > 0 {
			errs = append(errs, field.Forbidden(path.Child("ipFamilies"), refused))
		}
		if spec.IPFamilyPolicy != nil {
			errs = append(errs, field.Forbidden(path.Child("ipFamilyPolicy"), refused))
		}
		if cname := strings.TrimSuffix(spec.ExternalName, "."); cname != "" {
			errs = append(errs, dnsSubdomain(path.Child("externalName"), cname)...)
		} else {
			errs = append(errs, field.Required(path.Child("externalName"), ""))
		}
	}
	return errs
}

func servicePortErrors(p *corev1.ServicePort, named bool, names map[string]bool, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if p.Name != "" {
		errs = append(errs, dnsLabel(path.Child("name"), p.Name)...)
		if names[p.Name] {
			errs = append(errs, field.Duplicate(path.Child("name"), p.Name))
		}
		names[p.Name] = true
	} else if named {
		errs = append(errs, field.Required(path.Child("name"), ""))
	}
	errs = append(errs, portNumber(path.Child("port"), p.Port)...)
	errs = append(errs, protocolErrors(p.Protocol, path.Child("protocol"))...)
	target := path.Child("targetPort")
	if p.TargetPort.Type == intstr.Int {
		errs = append(errs, invalidEach(target, p.TargetPort.IntValue(), validation.IsValidPortNum(p.TargetPort.IntValue()))...)
	} else {
		errs = append(errs, invalidEach(target, p.TargetPort.StrVal, validation.IsValidPortName(p.TargetPort.StrVal))...)
	}
	if p.AppProtocol != nil {
		errs = append(errs, qualifiedName(path.Child("appProtocol"), *p.AppProtocol)...)
	}
	return errs
}

// duplicatePortErrors finds ports and node ports given twice for a protocol.
func duplicatePortErrors(spec *corev1.ServiceSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if spec.Type == corev1.ServiceTypeClusterIP {
		for i, p := range spec.Ports {
			if p.NodePort != 0 {
				errs = append(errs, field.Forbidden(path.Index(i).Child("nodePort"), "may not be used when `type` is 'ClusterIP'"))
			}
		}
	}
	type key struct {
		protocol corev1.Protocol
		port     int32
	}
	seen := map[key]bool{}
	for i, p := range spec.Ports {
		if p.NodePort == 0 {
			continue
		}
		k := key{p.Protocol, p.NodePort}
		if seen[k] {
			errs = append(errs, field.Duplicate(path.Index(i).Child("nodePort"), p.NodePort))
		}
		seen[k] = true
	}
	clear(seen)
	for i, p := range spec.Ports {
		k := key{p.Protocol, p.Port}
		if seen[k] {
			errs = append(errs, field.Duplicate(path.Index(i), untagged{corev1.ServicePort{Protocol: p.Protocol, Port: p.Port}}))
		}
		seen[k] = true
	}
	return errs
}

// maxAffinitySeconds is a day.
const maxAffinitySeconds = 86400

// affinityErrors finds what defaults have left: a timeout with ClientIP, nothing with None.
func affinityErrors(spec *corev1.ServiceSpec, path *field.Path) field.ErrorList {
	errs := requiredOneOf(path.Child("sessionAffinity"), spec.SessionAffinity, corev1.ServiceAffinityClientIP, corev1.ServiceAffinityNone)
	if spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return errs
	}
	seconds := *spec.SessionAffinityConfig.ClientIP.TimeoutSeconds
	if seconds <= 0 || seconds > maxAffinitySeconds {
		errs = append(errs, field.Invalid(path.Child("sessionAffinityConfig", "clientIP", "timeoutSeconds"), seconds,
			fmt.Sprintf("must be greater than 0 and less than %d", maxAffinitySeconds)))
	}
	return errs
}

// sourceRangeErrors is given a path with a capital because upstream's has one.
// Ranges may have spaces around them.
func sourceRangeErrors(s, old *corev1.Service, path *field.Path) field.ErrorList {
	const key = corev1.AnnotationLoadBalancerSourceRangesKey
	text, annotated := s.Annotations[key]
	ranges, at := s.Spec.LoadBalancerSourceRanges, func(i int) *field.Path { return path.Index(i) }
	var known []string
	switch {
	case len(ranges) > 0:
		if old != nil {
			known = trimmed(old.Spec.LoadBalancerSourceRanges)
		}
	case annotated:
		path = metaPath().Child("annotations").Key(key)
		at = func(int) *field.Path { return path }
		if text = strings.TrimSpace(text); text != "" && (old == nil || old.Annotations[key] != s.Annotations[key]) {
			ranges = strings.Split(text, ",")
		}
	default:
		return nil
	}
	var errs field.ErrorList
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		errs = append(errs, field.Forbidden(path, loadBalancerOnly))
	}
	for i, cidr := range trimmed(ranges) {
		errs = append(errs, validation.IsValidCIDRForLegacyField(at(i), cidr, true, known)...)
	}
	return errs
}

func trimmed(texts []string) []string {
	out := make([]string, len(texts))
	for i, text := range texts {
		out[i] = strings.TrimSpace(text)
	}
	return out
}

func loadBalancerErrors(s *corev1.Service, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	allocate, balanced := s.Spec.AllocateLoadBalancerNodePorts, s.Spec.Type == corev1.ServiceTypeLoadBalancer
	if allocate != nil && !balanced {
		errs = append(errs, field.Forbidden(path.Child("allocateLoadBalancerNodePorts"), loadBalancerOnly))
	}
	return append(errs, loadBalancerClassErrors(s, path.Child("loadBalancerClass"))...)
}

func loadBalancerClassErrors(s *corev1.Service, path *field.Path) field.ErrorList {
	class := s.Spec.LoadBalancerClass
	switch {
	case class == nil:
		return nil
	case s.Spec.Type != corev1.ServiceTypeLoadBalancer:
		return field.ErrorList{field.Forbidden(path, loadBalancerOnly)}
	}
	return qualifiedName(path, *class)
}

func trafficErrors(s *corev1.Service, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	spec := &s.Spec
	external := path.Child("externalTrafficPolicy")
	if externallyAccessible(s) {
		errs = append(errs, requiredOneOf(external, spec.ExternalTrafficPolicy,
			corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal)...)
	} else if spec.ExternalTrafficPolicy != "" {
		errs = append(errs, field.Invalid(external, spec.ExternalTrafficPolicy, "may only be set for externally-accessible services"))
	}
	health := path.Child("healthCheckNodePort")
	switch {
	case needsHealthPort(s) && spec.HealthCheckNodePort == 0:
		errs = append(errs, field.Required(health, ""))
	case needsHealthPort(s):
		errs = append(errs, portNumber(health, spec.HealthCheckNodePort)...)
	case spec.HealthCheckNodePort != 0:
		errs = append(errs, field.Invalid(health, spec.HealthCheckNodePort,
			"may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"))
	}
	internal := path.Child("internalTrafficPolicy")
	if p := spec.InternalTrafficPolicy; p != nil {
		errs = append(errs, oneOf(internal, *p, corev1.ServiceInternalTrafficPolicyCluster, corev1.ServiceInternalTrafficPolicyLocal)...)
	}
	if d := spec.TrafficDistribution; d != nil {
		errs = append(errs, oneOf(path.Child("trafficDistribution"), *d, corev1.ServiceTrafficDistributionPreferClose,
			corev1.ServiceTrafficDistributionPreferSameZone, corev1.ServiceTrafficDistributionPreferSameNode)...)
	}
	return errs
}
