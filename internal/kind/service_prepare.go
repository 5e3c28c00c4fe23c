package kind

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// prepareService drops what only the server says.
func prepareService(s *corev1.Service) {
	s.Status = corev1.ServiceStatus{}
}

func prepareServiceUpdate(s, old *corev1.Service) {
	old.Status.DeepCopyInto(&s.Status)
	dropForType(s, old)
}

// canonicalService is what upstream's server makes of each Service that it reads.
func canonicalService(s *corev1.Service) {
	if s.Spec.ClusterIP != "" && len(s.Spec.ClusterIPs) == 0 {
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	}
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		s.Spec.InternalTrafficPolicy = nil
	}
}

// CompleteService makes of a Service that a client may have written with only
// one of clusterIP and clusterIPs, or without what was allocated for it, the one
// it means. It comes before anything is allocated. old is nil at creation.
func CompleteService(s, old *corev1.Service) {
	if old == nil {
		if s.Spec.ClusterIP != "" && len(s.Spec.ClusterIPs) == 0 {
			s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
		}
		return
	}
	keepAllocated(s, old)
	syncClusterIPs(s, old)
}

// keepAllocated fills in what was allocated before and is still needed, so
// that applying the same manifest twice changes nothing.
func keepAllocated(s, old *corev1.Service) {
	if needsClusterIP(old) && needsClusterIP(s) {
		if s.Spec.ClusterIP == "" {
			s.Spec.ClusterIP = old.Spec.ClusterIP
		}
		if len(s.Spec.ClusterIPs) == 0 {
			s.Spec.ClusterIPs = slices.Clone(old.Spec.ClusterIPs)
		}
	}
	if opensNodePorts(old) && opensNodePorts(s) {
		keepNodePorts(s, old)
	}
	if needsHealthPort(old) && needsHealthPort(s) && s.Spec.HealthCheckNodePort == 0 {
		s.Spec.HealthCheckNodePort = old.Spec.HealthCheckNodePort
	}
}

// keepNodePorts gives ports without a node port the one that the port of that
// name had, unless another one asks for it.
func keepNodePorts(s, old *corev1.Service) {
	asked := map[int32]bool{}
	for _, p := range s.Spec.Ports {
		asked[p.NodePort] = true
	}
	before := map[string]int32{}
	for _, p := range old.Spec.Ports {
		before[p.Name] = p.NodePort
	}
	for i := range s.Spec.Ports {
		if p := &s.Spec.Ports[i]; p.NodePort == 0 && !asked[before[p.Name]] {
			p.NodePort = before[p.Name]
		}
	}
}

// syncClusterIPs lets a client that knows only clusterIP change or clear it.
func syncClusterIPs(s, old *corev1.Service) {
	switch {
	case s.Spec.ClusterIP == old.Spec.ClusterIP:
		if len(s.Spec.ClusterIPs) == 0 {
			s.Spec.ClusterIPs = slices.Clone(old.Spec.ClusterIPs)
		}
	case !slices.Equal(s.Spec.ClusterIPs, old.Spec.ClusterIPs):
	case s.Spec.ClusterIP == "":
		s.Spec.ClusterIPs = nil
	default:
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	}
}

func sameClusterIPs(s, old *corev1.Service) bool {
	return s.Spec.ClusterIP == old.Spec.ClusterIP && slices.Equal(s.Spec.ClusterIPs, old.Spec.ClusterIPs)
}

// dropForType clears what the new type does not have, as long as the client
// did not also set it: then it is an error. It is what makes a change of type
// alone possible.
func dropForType(s, old *corev1.Service) {
	spec, before := &s.Spec, &old.Spec
	if needsClusterIP(old) && !needsClusterIP(s) {
		if sameClusterIPs(s, old) {
			spec.ClusterIP, spec.ClusterIPs = "", nil
		}
		if slices.Equal(spec.IPFamilies, before.IPFamilies) {
			spec.IPFamilies = nil
		}
		if sameValue(spec.IPFamilyPolicy, before.IPFamilyPolicy) {
			spec.IPFamilyPolicy = nil
		}
	}
	if needsNodePort(old) && !needsNodePort(s) && !gainsNodePort(s, old) {
		for i := range spec.Ports {
			spec.Ports[i].NodePort = 0
		}
	}
	if needsHealthPort(old) && !needsHealthPort(s) && spec.HealthCheckNodePort == before.HealthCheckNodePort {
		spec.HealthCheckNodePort = 0
	}
	if externallyAccessible(old) && !externallyAccessible(s) && spec.ExternalTrafficPolicy == before.ExternalTrafficPolicy {
		spec.ExternalTrafficPolicy = ""
	}
	if spec.Type == corev1.ServiceTypeLoadBalancer {
		return
	}
	if before.Type == corev1.ServiceTypeLoadBalancer {
		if sameValue(spec.AllocateLoadBalancerNodePorts, before.AllocateLoadBalancerNodePorts) {
			spec.AllocateLoadBalancerNodePorts = nil
		}
		if sameValue(spec.LoadBalancerClass, before.LoadBalancerClass) {
			spec.LoadBalancerClass = nil
		}
	}
	s.Status.LoadBalancer = corev1.LoadBalancerStatus{}
}

func gainsNodePort(s, old *corev1.Service) bool {
	had := map[int32]bool{0: true}
	for _, p := range old.Spec.Ports {
		had[p.NodePort] = true
	}
	return slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return !had[p.NodePort] })
}

func sameValue[T comparable](a, b *T) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}
