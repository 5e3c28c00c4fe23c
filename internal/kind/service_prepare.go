package kind

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// serviceFamilies are the address families that Services can have, the
// cluster's first choice first.
func serviceFamilies() []corev1.IPFamily { return []corev1.IPFamily{corev1.IPv4Protocol} }

func prepareService(s *corev1.Service) {
	s.Status = corev1.ServiceStatus{}
	if s.Spec.ClusterIP != "" && len(s.Spec.ClusterIPs) == 0 {
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	}
	fillFamilies(s, nil)
}

// prepareServiceUpdate makes of a Service that a client may have written
// without what was allocated for it, or with another type, the one it means.
func prepareServiceUpdate(s, old *corev1.Service) {
	old.Status.DeepCopyInto(&s.Status)
	keepAllocated(s, old)
	syncClusterIPs(s, old)
	fillFamilies(s, old)
	dropForType(s, old)
}

// keepAllocated fills in what was allocated before and is still needed, so
// that applying the same manifest twice changes nothing.
func keepAllocated(s, old *corev1.Service) {
	if needsClusterIP(old) && needsClusterIP(s) {
		if s.Spec.ClusterIP == "" {
			s.Spec.ClusterIP = old.Spec.ClusterIP
		}
		if len(s.Spec.ClusterIPs) == 0 && s.Spec.ClusterIP == old.Spec.ClusterIP {
			s.Spec.ClusterIPs = slices.Clone(old.Spec.ClusterIPs)
		}
	}
	if needsNodePort(old) && needsNodePort(s) {
		keepNodePorts(s, old)
	}
	if needsHealthPort(old) && needsHealthPort(s) && s.Spec.HealthCheckNodePort == 0 {
		s.Spec.HealthCheckNodePort = old.Spec.HealthCheckNodePort
	}
}

func keepNodePorts(s, old *corev1.Service) {
	taken := map[int32]bool{}
	for _, p := range s.Spec.Ports {
		taken[p.NodePort] = true
	}
	before := map[string]int32{}
	for _, p := range old.Spec.Ports {
		before[p.Name] = p.NodePort
	}
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		if port := before[p.Name]; p.NodePort == 0 && port != 0 && !taken[port] {
			p.NodePort = port
			taken[port] = true
		}
	}
}

// syncClusterIPs lets a client that knows only clusterIP change or clear it.
func syncClusterIPs(s, old *corev1.Service) {
	if s.Spec.ClusterIP == old.Spec.ClusterIP || !slices.Equal(s.Spec.ClusterIPs, old.Spec.ClusterIPs) {
		return
	}
	s.Spec.ClusterIPs = nil
	if s.Spec.ClusterIP != "" {
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	}
}

// fillFamilies settles the family policy and the families. What a client asked
// for and cannot have is left as it is, for familyErrors to tell. old is nil at
// creation.
func fillFamilies(s, old *corev1.Service) {
	spec := &s.Spec
	if spec.Type == corev1.ServiceTypeExternalName || keepsPreference(s, old) {
		return
	}
	anyEndpoints := spec.ClusterIP == corev1.ClusterIPNone && len(spec.Selector) == 0
	if spec.IPFamilyPolicy == nil {
		policy := corev1.IPFamilyPolicySingleStack
		if old != nil && old.Spec.IPFamilyPolicy != nil {
			policy = *old.Spec.IPFamilyPolicy
		} else if anyEndpoints {
			policy = corev1.IPFamilyPolicyRequireDualStack
		}
		spec.IPFamilyPolicy = &policy
	}
	single := *spec.IPFamilyPolicy == corev1.IPFamilyPolicySingleStack
	if old != nil && single {
		if len(spec.ClusterIPs) > 1 && sameClusterIPs(s, old) {
			spec.ClusterIPs = spec.ClusterIPs[:1]
		}
		if len(spec.IPFamilies) > 1 && slices.Equal(spec.IPFamilies, old.Spec.IPFamilies) {
			spec.IPFamilies = spec.IPFamilies[:1]
		}
	}
	for _, ip := range spec.ClusterIPs[min(len(spec.IPFamilies), len(spec.ClusterIPs)):] {
		if addr, err := netip.ParseAddr(ip); err == nil {
			spec.IPFamilies = append(spec.IPFamilies, familyOf(addr))
		}
	}
	if len(spec.IPFamilies) == 0 {
		spec.IPFamilies = serviceFamilies()[:1:1]
	}
	// Endpoints that someone else writes can be of any family, so a headless
	// Service without a selector has both even where the cluster has one.
	if !single && len(spec.IPFamilies) == 1 && (anyEndpoints || len(serviceFamilies()) == 2) {
		spec.IPFamilies = append(spec.IPFamilies, otherFamily(spec.IPFamilies[0]))
	}
}

// keepsPreference is an update that leaves a Service which prefers dual stack
// with the families it got, whatever the cluster has become since.
func keepsPreference(s, old *corev1.Service) bool {
	if old == nil || s.Spec.IPFamilyPolicy == nil || old.Spec.IPFamilyPolicy == nil {
		return false
	}
	return *s.Spec.IPFamilyPolicy == corev1.IPFamilyPolicyPreferDualStack &&
		*old.Spec.IPFamilyPolicy == corev1.IPFamilyPolicyPreferDualStack &&
		old.Spec.Type != corev1.ServiceTypeExternalName &&
		sameClusterIPs(s, old) && slices.Equal(s.Spec.IPFamilies, old.Spec.IPFamilies)
}

func familyOf(addr netip.Addr) corev1.IPFamily {
	if addr.Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

func otherFamily(f corev1.IPFamily) corev1.IPFamily {
	if f == corev1.IPv4Protocol {
		return corev1.IPv6Protocol
	}
	return corev1.IPv4Protocol
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
