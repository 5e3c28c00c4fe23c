package endpointslice

import (
	"cmp"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// mostPerEndpoints is where upstream cuts an Endpoints object off.
const mostPerEndpoints = 1000

const (
	overCapacity       = "endpoints.kubernetes.io/over-capacity"
	endpointsManagedBy = "endpoints.kubernetes.io/managed-by"
)

// legacy returns the Endpoints object that says the same as the slices, for
// clients that still read it.
func legacy(svc *corev1.Service, list []backend) *corev1.Endpoints {
	e := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{
		Name: svc.Name, Namespace: svc.Namespace, Labels: maps.Clone(svc.Labels),
	}}
	if e.Labels == nil {
		e.Labels = map[string]string{}
	}
	e.Labels[endpointsManagedBy] = "endpoint-controller"
	if svc.Spec.ClusterIP == corev1.ClusterIPNone {
		e.Labels[corev1.IsHeadlessService] = ""
	} else {
		delete(e.Labels, corev1.IsHeadlessService)
	}
	subsets := map[string]*corev1.EndpointSubset{}
	var order []string
	n := 0
	for _, b := range list {
		if b.family != families(svc)[0] || *b.endpoint.Conditions.Terminating && !svc.Spec.PublishNotReadyAddresses {
			continue
		}
		if n++; n > mostPerEndpoints {
			e.Annotations = map[string]string{overCapacity: "truncated"}
			break
		}
		key := portsKey(b.family, b.ports)
		if subsets[key] == nil {
			subsets[key] = &corev1.EndpointSubset{Ports: legacyPorts(b.ports)}
			order = append(order, key)
		}
		addAddress(subsets[key], b.endpoint)
	}
	slices.Sort(order)
	for _, key := range order {
		sortAddresses(subsets[key])
		e.Subsets = append(e.Subsets, *subsets[key])
	}
	return e
}

func addAddress(s *corev1.EndpointSubset, e discoveryv1.Endpoint) {
	a := corev1.EndpointAddress{IP: e.Addresses[0], NodeName: e.NodeName, TargetRef: e.TargetRef}
	if e.Hostname != nil {
		a.Hostname = *e.Hostname
	}
	if *e.Conditions.Ready {
		s.Addresses = append(s.Addresses, a)
	} else {
		s.NotReadyAddresses = append(s.NotReadyAddresses, a)
	}
}

func sortAddresses(s *corev1.EndpointSubset) {
	byIP := func(a, b corev1.EndpointAddress) int { return cmp.Compare(a.IP, b.IP) }
	slices.SortFunc(s.Addresses, byIP)
	slices.SortFunc(s.NotReadyAddresses, byIP)
}

func legacyPorts(ports []discoveryv1.EndpointPort) []corev1.EndpointPort {
	var list []corev1.EndpointPort
	for _, p := range ports {
		list = append(list, corev1.EndpointPort{Name: *p.Name, Port: *p.Port, Protocol: *p.Protocol, AppProtocol: p.AppProtocol})
	}
	return list
}
