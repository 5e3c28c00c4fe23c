package endpointslice

import (
	"cmp"
	"maps"
	"slices"
	"time"

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
func legacy(svc *corev1.Service, list []backend, since time.Time) *corev1.Endpoints {
	e := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{
		Name: svc.Name, Namespace: svc.Namespace, Labels: maps.Clone(svc.Labels), Annotations: map[string]string{},
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
	if !since.IsZero() {
		e.Annotations[corev1.EndpointsLastChangeTriggerTime] = since.UTC().Format(time.RFC3339Nano)
	}
	told := slices.DeleteFunc(slices.Clone(list), func(b backend) bool {
		return b.family != families(svc)[0] || len(svc.Spec.Ports) > 0 && len(b.ports) == 0 ||
			*b.endpoint.Conditions.Terminating && !svc.Spec.PublishNotReadyAddresses
	})
	if len(told) > mostPerEndpoints { // those that are ready matter more
		slices.SortStableFunc(told, func(a, b backend) int {
			return -cmp.Compare(rank(*a.endpoint.Conditions.Ready), rank(*b.endpoint.Conditions.Ready))
		})
		told = told[:mostPerEndpoints]
		e.Annotations[overCapacity] = "truncated"
	}
	e.Subsets = subsets(told)
	return e
}

func rank(ready bool) int {
	if ready {
		return 1
	}
	return 0
}

// subsets joins the ports that have the same addresses behind them.
func subsets(list []backend) []corev1.EndpointSubset {
	behind := map[string]*corev1.EndpointSubset{} // by port
	var order []string
	for _, b := range list {
		ports := legacyPorts(b.ports)
		if len(ports) == 0 {
			ports = []corev1.EndpointPort{{}} // none asked for: addresses alone
		}
		for _, port := range ports {
			key := port.String()
			if behind[key] == nil {
				behind[key] = &corev1.EndpointSubset{Ports: []corev1.EndpointPort{port}}
				order = append(order, key)
			}
			addAddress(behind[key], b.endpoint)
		}
	}
	slices.Sort(order)
	same := map[string]int{} // index in joined, by addresses
	var joined []corev1.EndpointSubset
	for _, key := range order {
		s := behind[key]
		sortAddresses(s)
		ports := s.Ports
		if ports[0] == (corev1.EndpointPort{}) {
			ports = nil
		}
		s.Ports = nil
		addresses := s.String()
		i, seen := same[addresses]
		if !seen {
			i = len(joined)
			same[addresses] = i
			joined = append(joined, *s)
		}
		joined[i].Ports = append(joined[i].Ports, ports...)
	}
	return joined
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
