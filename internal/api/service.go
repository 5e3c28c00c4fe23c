package api

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

// allocate gives a Service the addresses and ports it is to have and returns
// the writes that claim them and free what it no longer needs. old is nil at
// creation. Other kinds have nothing to allocate.
func (a *API) allocate(_ *Request, obj, old kind.Object) ([]state.Write, error) {
	svc, ok := obj.(*corev1.Service)
	if !ok {
		return nil, nil
	}
	before, _ := old.(*corev1.Service)
	if err := a.families(svc, before); err != nil {
		return nil, err
	}
	c := a.newClaims(svc, before)
	if hasAddress(svc) {
		if err := a.allocateAddresses(c, svc); err != nil {
			return nil, err
		}
	}
	if err := a.allocatePorts(c, svc); err != nil {
		return nil, err
	}
	if err := a.allocateHealthPort(c, svc); err != nil {
		return nil, err
	}
	return c.writes(), nil
}

// prepareService completes what a Service says about its addresses, and carries
// over from the one it replaces what the server had decided and the client left
// out (a PUT of a manifest must not lose its address).
func prepareService(obj, old kind.Object) {
	svc, ok := obj.(*corev1.Service)
	if !ok {
		return
	}
	before, _ := old.(*corev1.Service)
	if before != nil {
		dropForType(svc, before)
		carryAddress(svc, before)
		carryPorts(svc, before)
	}
	if svc.Spec.ClusterIP != "" && len(svc.Spec.ClusterIPs) == 0 {
		svc.Spec.ClusterIPs = []string{svc.Spec.ClusterIP}
	}
}

func carryAddress(svc, before *corev1.Service) {
	if !needsAddress(svc) || !needsAddress(before) {
		return
	}
	s, b := &svc.Spec, &before.Spec
	switch {
	case s.ClusterIP == "" && slices.Equal(s.ClusterIPs, b.ClusterIPs), s.ClusterIP == "" && len(s.ClusterIPs) == 0:
		s.ClusterIP, s.ClusterIPs = b.ClusterIP, slices.Clone(b.ClusterIPs)
	case s.ClusterIP == b.ClusterIP && len(s.ClusterIPs) == 0:
		s.ClusterIPs = slices.Clone(b.ClusterIPs)
	case s.ClusterIP != b.ClusterIP && slices.Equal(s.ClusterIPs, b.ClusterIPs):
		s.ClusterIPs = []string{s.ClusterIP}
	}
	if len(s.IPFamilies) == 0 && slices.Equal(s.ClusterIPs, b.ClusterIPs) {
		s.IPFamilies = slices.Clone(b.IPFamilies)
	}
	if s.IPFamilyPolicy == nil && b.IPFamilyPolicy != nil {
		policy := *b.IPFamilyPolicy
		s.IPFamilyPolicy = &policy
	}
}

func carryPorts(svc, before *corev1.Service) {
	if opensPorts(svc) && opensPorts(before) {
		type key struct {
			protocol corev1.Protocol
			port     int32
		}
		had := map[key]int32{}
		for _, p := range before.Spec.Ports {
			had[key{p.Protocol, p.Port}] = p.NodePort
		}
		used := map[int32]bool{}
		for _, p := range svc.Spec.Ports {
			used[p.NodePort] = true
		}
		for i := range svc.Spec.Ports {
			p := &svc.Spec.Ports[i]
			if n := had[key{p.Protocol, p.Port}]; p.NodePort == 0 && n != 0 && !used[n] {
				p.NodePort = n
			}
		}
	}
	if needsHealthPort(svc) && needsHealthPort(before) && svc.Spec.HealthCheckNodePort == 0 {
		svc.Spec.HealthCheckNodePort = before.Spec.HealthCheckNodePort
	}
}

// dropForType clears what belonged to the type that the Service had, where the
// client sent it back unchanged.
func dropForType(svc, before *corev1.Service) {
	s, b := &svc.Spec, &before.Spec
	if needsAddress(before) && !needsAddress(svc) {
		if s.ClusterIP == b.ClusterIP && slices.Equal(s.ClusterIPs, b.ClusterIPs) {
			s.ClusterIP, s.ClusterIPs = "", nil
		}
		if slices.Equal(s.IPFamilies, b.IPFamilies) {
			s.IPFamilies = nil
		}
		if s.IPFamilyPolicy != nil && b.IPFamilyPolicy != nil && *s.IPFamilyPolicy == *b.IPFamilyPolicy {
			s.IPFamilyPolicy = nil
		}
	}
	if opensPorts(before) && !opensPorts(svc) && sameNodePorts(s.Ports, b.Ports) {
		for i := range s.Ports {
			s.Ports[i].NodePort = 0
		}
	}
	if needsHealthPort(before) && !needsHealthPort(svc) && s.HealthCheckNodePort == b.HealthCheckNodePort {
		s.HealthCheckNodePort = 0
	}
	if b.Type == corev1.ServiceTypeLoadBalancer && s.Type != corev1.ServiceTypeLoadBalancer {
		s.AllocateLoadBalancerNodePorts = nil
		if s.LoadBalancerClass != nil && b.LoadBalancerClass != nil && *s.LoadBalancerClass == *b.LoadBalancerClass {
			s.LoadBalancerClass = nil
		}
	}
	if facesOutside(before) && !facesOutside(svc) && s.ExternalTrafficPolicy == b.ExternalTrafficPolicy {
		s.ExternalTrafficPolicy = ""
	}
}

func sameNodePorts(a, b []corev1.ServicePort) bool {
	return slices.EqualFunc(a, b, func(x, y corev1.ServicePort) bool { return x.NodePort == y.NodePort })
}

// needsAddress: all Services but aliases have a cluster address or "None".
func needsAddress(svc *corev1.Service) bool {
	return svc.Spec.Type != corev1.ServiceTypeExternalName
}

// hasAddress: … and headless ones have none.
func hasAddress(svc *corev1.Service) bool {
	return needsAddress(svc) && svc.Spec.ClusterIP != corev1.ClusterIPNone
}

// opensPorts reports whether the Service gets node ports without asking.
func opensPorts(svc *corev1.Service) bool {
	switch svc.Spec.Type {
	case corev1.ServiceTypeNodePort:
		return true
	case corev1.ServiceTypeLoadBalancer:
		return svc.Spec.AllocateLoadBalancerNodePorts == nil || *svc.Spec.AllocateLoadBalancerNodePorts
	}
	return false
}

func facesOutside(svc *corev1.Service) bool {
	return svc.Spec.Type == corev1.ServiceTypeNodePort || svc.Spec.Type == corev1.ServiceTypeLoadBalancer ||
		svc.Spec.Type == corev1.ServiceTypeClusterIP && len(svc.Spec.ExternalIPs) > 0
}

func needsHealthPort(svc *corev1.Service) bool {
	return svc.Spec.Type == corev1.ServiceTypeLoadBalancer &&
		svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// allocatePorts gives the Service's ports node ports. Ports with one number and
// several protocols share theirs.
func (a *API) allocatePorts(c *claims, svc *corev1.Service) error {
	if svc.Spec.Type != corev1.ServiceTypeNodePort && svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return nil
	}
	shared := map[int32]int32{}
	for i, p := range svc.Spec.Ports {
		if p.NodePort == 0 {
			continue
		}
		if err := a.ports.take(c, p.NodePort); err != nil {
			return apierrors.NewInvalid(kind.Service.GVK().GroupKind(), svc.Name, field.ErrorList{
				field.Invalid(field.NewPath("spec", "ports").Index(i).Child("nodePort"), p.NodePort, err.Error()),
			})
		}
		if shared[p.Port] == 0 {
			shared[p.Port] = p.NodePort
		}
	}
	if !opensPorts(svc) {
		return nil
	}
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		if p.NodePort != 0 {
			continue
		}
		if n := shared[p.Port]; n != 0 {
			p.NodePort = n
			continue
		}
		n, err := a.ports.pick(c)
		if err != nil {
			return apierrors.NewInternalError(fmt.Errorf("failed to allocate a nodePort: %w", err))
		}
		p.NodePort, shared[p.Port] = n, n
	}
	return nil
}

func (a *API) allocateHealthPort(c *claims, svc *corev1.Service) error {
	if !needsHealthPort(svc) {
		return nil
	}
	if want := svc.Spec.HealthCheckNodePort; want != 0 {
		if err := a.ports.take(c, want); err != nil {
			return apierrors.NewInternalError(fmt.Errorf("failed to allocate requested HealthCheck NodePort %v: %w", want, err))
		}
		return nil
	}
	n, err := a.ports.pick(c)
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("failed to allocate a HealthCheck NodePort: %w", err))
	}
	svc.Spec.HealthCheckNodePort = n
	return nil
}
