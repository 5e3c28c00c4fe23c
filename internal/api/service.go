package api

import (
	"context"
	"fmt"
	"slices"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skiff-sh/skiff/internal/kind"
)

// allocate completes a Service and gives it its cluster addresses and node ports,
// in upstream's order: before it is prepared and validated. old is nil at
// creation. Other kinds, and parts of a Service, have nothing to claim and get nil.
func (a *API) allocate(req *Request, obj, old kind.Object) (*claims, error) {
	svc, ok := obj.(*corev1.Service)
	if !ok || req.Subresource != "" {
		return nil, nil
	}
	before, _ := old.(*corev1.Service)
	kind.CompleteService(svc, before)
	c := a.newClaims(svc, before)
	c.dry = req.DryRun
	if err := a.families(svc, before); err != nil {
		return nil, err
	}
	if err := a.allocateAddresses(c, svc, before); err != nil {
		return nil, err
	}
	if before == nil {
		if err := a.initialPorts(c, svc); err != nil {
			return nil, err
		}
	} else if err := a.changedPorts(c, svc, before); err != nil {
		return nil, err
	}
	return c, a.allocateHealthPort(c, svc, before)
}

// needsAddress: all Services but aliases have a cluster address or "None".
func needsAddress(svc *corev1.Service) bool {
	return svc.Spec.Type != corev1.ServiceTypeExternalName
}

// hasAddress: … and headless ones have none.
func hasAddress(svc *corev1.Service) bool {
	return needsAddress(svc) && (len(svc.Spec.ClusterIPs) == 0 || svc.Spec.ClusterIPs[0] != corev1.ClusterIPNone)
}

func needsPorts(svc *corev1.Service) bool {
	return svc.Spec.Type == corev1.ServiceTypeNodePort || svc.Spec.Type == corev1.ServiceTypeLoadBalancer
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

// deleteEndpoints deletes the Endpoints of a Service that is gone, so that another
// of its name does not begin with them. Their controller would do it later.
func (a *API) deleteEndpoints(ctx context.Context, req Request, svc kind.Object) {
	req.Kind, req.Face, req.Namespace, req.Name, req.Subresource = kind.Endpoints, nil, svc.GetNamespace(), svc.GetName(), ""
	if _, _, err := a.Delete(ctx, req, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		a.log.Warn("Endpoints not deleted with their Service", zap.String("namespace", req.Namespace), zap.String("name", req.Name), zap.Error(err))
	}
}

// initialPorts gives a new Service's ports node ports. Ports with one number and
// several protocols share theirs, also one that only a later one asks for.
func (a *API) initialPorts(c *claims, svc *corev1.Service) error {
	if !needsPorts(svc) {
		return nil
	}
	shared := map[int32]int32{}
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		if p.NodePort == 0 && !opensPorts(svc) {
			continue
		}
		want, known := p.NodePort, shared[p.Port]
		switch {
		case known == 0:
			want = askedPort(svc, p.Port)
		case want == 0 || want == known:
			p.NodePort = known
			continue
		}
		if want != 0 {
			if err := a.ports.take(c, want); err != nil {
				return portRefused(svc, i, want, err)
			}
			p.NodePort = want
		} else if err := a.pickPort(c, p); err != nil {
			return err
		}
		if known == 0 {
			shared[p.Port] = p.NodePort
		}
	}
	return nil
}

// askedPort is the first node port that is asked for a port's number, or 0.
func askedPort(svc *corev1.Service, number int32) int32 {
	i := slices.IndexFunc(svc.Spec.Ports, func(p corev1.ServicePort) bool { return p.Port == number && p.NodePort != 0 })
	if i < 0 {
		return 0
	}
	return svc.Spec.Ports[i].NodePort
}

// changedPorts gives ports that come to a Service node ports, each its own.
func (a *API) changedPorts(c *claims, svc, before *corev1.Service) error {
	if !needsPorts(svc) {
		return nil
	}
	had, taken := map[int32]bool{}, map[int32]bool{}
	for _, p := range before.Spec.Ports {
		had[p.NodePort] = true
	}
	seen := map[nodePort]bool{}
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		switch {
		case p.NodePort == 0 && !opensPorts(svc):
			continue
		case p.NodePort == 0:
			if err := a.pickPort(c, p); err != nil {
				return err
			}
		case had[p.NodePort] && c.held[portClaim(p.NodePort)]:
			c.wants[portClaim(p.NodePort)] = true
		case !taken[p.NodePort]:
			if err := a.ports.take(c, p.NodePort); err != nil {
				return portRefused(svc, i, p.NodePort, err)
			}
			taken[p.NodePort] = true
		}
		key := nodePort{p.Protocol, p.NodePort}
		if seen[key] {
			return unknown(fmt.Errorf("duplicate nodePort: %v", key))
		}
		seen[key] = true
	}
	return nil
}

// nodePort is what only one port of a Service may have.
type nodePort struct {
	protocol corev1.Protocol
	number   int32
}

func portRefused(svc *corev1.Service, i int, port int32, err error) error {
	return invalidService(svc, field.ErrorList{
		field.Invalid(field.NewPath("spec", "ports").Index(i).Child("nodePort"), port, err.Error()),
	})
}

func (a *API) pickPort(c *claims, p *corev1.ServicePort) error {
	n, err := a.ports.pick(c)
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("failed to allocate a nodePort: %w", err))
	}
	p.NodePort = n
	return nil
}

// allocateHealthPort leaves a port that there was as it is: that it does not
// change, validation sees to.
func (a *API) allocateHealthPort(c *claims, svc, before *corev1.Service) error {
	if !needsHealthPort(svc) {
		return nil
	}
	if before != nil && needsHealthPort(before) {
		c.wants[portClaim(before.Spec.HealthCheckNodePort)] = true
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
		return apierrors.NewInternalError(fmt.Errorf("failed to allocate a HealthCheck NodePort %v: %w", n, err))
	}
	svc.Spec.HealthCheckNodePort = n
	return nil
}
