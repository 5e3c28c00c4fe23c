package endpointslice

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/skiff-sh/skiff/internal/kind"
)

// backend is a Pod behind a Service: its endpoint, and the ports under which
// the Service's ports are reached on it.
type backend struct {
	pod      *corev1.Pod
	endpoint discoveryv1.Endpoint
	ports    []discoveryv1.EndpointPort
	family   discoveryv1.AddressType
}

// backends returns the endpoints of a Service, one for each Pod and family. Pods
// on a node that is not there (any more) are left out unless the Service wants
// those that are not ready, too. A Pod that has none of the Service's ports is
// an endpoint without ports.
func backends(svc *corev1.Service, pods []*corev1.Pod, zone func(node string) (string, bool)) []backend {
	var list []backend
	for _, pod := range pods {
		if !mayServe(pod) {
			continue
		}
		zone, exists := zone(pod.Spec.NodeName)
		if pod.Spec.NodeName != "" && !exists && !svc.Spec.PublishNotReadyAddresses {
			continue
		}
		ports := portsOn(svc, pod)
		for _, family := range families(svc) {
			addresses := addressesOf(pod, family)
			if len(addresses) == 0 {
				continue
			}
			list = append(list, backend{
				pod: pod, ports: ports, family: family,
				endpoint: endpoint(svc, pod, addresses, zone),
			})
		}
	}
	return list
}

// mayServe says whether a Pod can stand behind a Service at all: it has an
// address and has not come to its end. One that terminates is told as such.
func mayServe(pod *corev1.Pod) bool {
	return pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed && pod.Status.PodIP != ""
}

func families(svc *corev1.Service) []discoveryv1.AddressType {
	var list []discoveryv1.AddressType
	for _, f := range svc.Spec.IPFamilies {
		list = append(list, discoveryv1.AddressType(f))
	}
	if len(list) == 0 {
		list = []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4}
	}
	return list
}

func addressesOf(pod *corev1.Pod, family discoveryv1.AddressType) []string {
	for _, ip := range pod.Status.PodIPs {
		a, err := netip.ParseAddr(ip.IP)
		if err == nil && a.Is4() == (family == discoveryv1.AddressTypeIPv4) {
			return []string{ip.IP}
		}
	}
	return nil
}

func podReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func endpoint(svc *corev1.Service, pod *corev1.Pod, addresses []string, zone string) discoveryv1.Endpoint {
	serving, terminating := podReady(pod), pod.DeletionTimestamp != nil
	ready := svc.Spec.PublishNotReadyAddresses || serving && !terminating
	e := discoveryv1.Endpoint{
		Addresses:  addresses,
		Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating},
		TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
	}
	if pod.Spec.NodeName != "" {
		e.NodeName = new(pod.Spec.NodeName) // a pointer into the Pod would keep all of it
		if zone != "" {
			e.Zone = &zone
		}
	}
	if pod.Spec.Hostname != "" && pod.Spec.Subdomain == svc.Name {
		e.Hostname = new(pod.Spec.Hostname)
	}
	return e
}

// portsOn resolves the Service's ports on one Pod; those that it does not have
// are left out.
func portsOn(svc *corev1.Service, pod *corev1.Pod) []discoveryv1.EndpointPort {
	ports := []discoveryv1.EndpointPort{}
	for _, p := range svc.Spec.Ports {
		number, ok := findPort(pod, p)
		if !ok {
			continue
		}
		ports = append(ports, discoveryv1.EndpointPort{
			Name: new(p.Name), Protocol: new(p.Protocol), Port: &number, AppProtocol: p.AppProtocol,
		})
	}
	return ports
}

func findPort(pod *corev1.Pod, p corev1.ServicePort) (int32, bool) {
	if p.TargetPort.Type == intstr.Int {
		return int32(p.TargetPort.IntValue()), true
	}
	containers := slices.Clone(pod.Spec.Containers)
	for _, c := range pod.Spec.InitContainers {
		if kind.IsSidecar(&c) {
			containers = append(containers, c)
		}
	}
	for _, c := range containers {
		for _, port := range c.Ports {
			if port.Name == p.TargetPort.StrVal && port.Protocol == p.Protocol {
				return port.ContainerPort, true
			}
		}
	}
	return 0, false
}

// portsKey is equal for equal lists of ports.
func portsKey(family discoveryv1.AddressType, ports []discoveryv1.EndpointPort) string {
	parts := make([]string, len(ports))
	for i, p := range ports {
		parts[i] = p.String()
	}
	slices.SortFunc(parts, cmp.Compare)
	return string(family) + "|" + strings.Join(parts, "|")
}
