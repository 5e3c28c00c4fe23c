package api

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skiff-sh/skiff/internal/kind"
)

// claimPorts gives a Service the node ports it is to have. It comes before
// validation, which asks for them; old is nil at creation. Other kinds have
// nothing to claim and get nil.
func (a *API) claimPorts(obj, old kind.Object) (*claims, error) {
	svc, ok := obj.(*corev1.Service)
	if !ok {
		return nil, nil
	}
	before, _ := old.(*corev1.Service)
	c := a.newClaims(svc, before)
	if err := a.allocatePorts(c, svc); err != nil {
		return nil, err
	}
	return c, a.allocateHealthPort(c, svc)
}

// claimAddresses gives a Service its cluster addresses. It comes after
// validation, so that it need not doubt what the Service says.
func (a *API) claimAddresses(c *claims, obj, old kind.Object) error {
	if c == nil {
		return nil
	}
	svc := obj.(*corev1.Service)
	before, _ := old.(*corev1.Service)
	if err := a.families(svc, before); err != nil {
		return err
	}
	if !hasAddress(svc) {
		return nil
	}
	return a.allocateAddresses(c, svc)
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
