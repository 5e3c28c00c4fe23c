package service

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func ptr[T any](v T) *T { return &v }

type svcOption func(*corev1.Service)

func testService(options ...svcOption) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: corev1.ServiceSpec{
			ClusterIP: "10.43.0.80", ClusterIPs: []string{"10.43.0.80"},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}},
		},
	}
	for _, o := range options {
		o(s)
	}
	return s
}

func ready(ip, node string) discoveryv1.Endpoint {
	return discoveryv1.Endpoint{Addresses: []string{ip}, NodeName: ptr(node)}
}

func inState(ip, node string, ready, serving, terminating bool) discoveryv1.Endpoint {
	return discoveryv1.Endpoint{
		Addresses: []string{ip}, NodeName: ptr(node),
		Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating},
	}
}

func testSlice(eps ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: eps,
		Ports: []discoveryv1.EndpointPort{{Name: ptr("http"), Port: ptr(int32(8080))}, {Name: ptr("dns"), Port: ptr(int32(53))}},
	}
}

// text is a line for each frontend.
func text(fs []Frontend) string {
	var b strings.Builder
	for _, f := range fs {
		addr := "node"
		if f.Key.Addr.IsValid() {
			addr = f.Key.Addr.String()
		}
		fmt.Fprintf(&b, "%s/%d/%d ->", addr, f.Key.Proto, f.Key.Port)
		for _, e := range f.Endpoints {
			fmt.Fprintf(&b, " %s", e)
		}
		switch {
		case len(f.Endpoints) > 0:
		case f.Drop:
			b.WriteString(" drop")
		default:
			b.WriteString(" reject")
		}
		if f.Masquerade {
			b.WriteString(" masquerade")
		}
		if f.Affinity > 0 {
			fmt.Fprintf(&b, " affinity %s", f.Affinity)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func TestPlan(t *testing.T) {
	nodePort := func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 30080 }
	exLocal := func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal }
	inLocal := func(s *corev1.Service) {
		s.Spec.InternalTrafficPolicy = ptr(corev1.ServiceInternalTrafficPolicyLocal)
	}
	two := testSlice(ready("10.42.0.3", "here"), ready("10.42.1.2", "there"))
	for _, tc := range []struct {
		name string
		svc  *corev1.Service
		eps  []*discoveryv1.EndpointSlice
		want string
	}{
		{"two endpoints, sorted", testService(), []*discoveryv1.EndpointSlice{testSlice(ready("10.42.1.2", "there"), ready("10.42.0.3", "here"))},
			"10.43.0.80/6/80 -> 10.42.0.3:8080 10.42.1.2:8080\n"},
		{"in two slices, one of them twice", testService(), []*discoveryv1.EndpointSlice{two, testSlice(ready("10.42.0.3", "here"))},
			"10.43.0.80/6/80 -> 10.42.0.3:8080 10.42.1.2:8080\n"},
		{"no endpoints", testService(nodePort), nil, "10.43.0.80/6/80 -> reject\nnode/6/30080 -> reject masquerade\n"},
		{"node port", testService(nodePort), []*discoveryv1.EndpointSlice{testSlice(ready("10.42.0.3", "here"))},
			"10.43.0.80/6/80 -> 10.42.0.3:8080\nnode/6/30080 -> 10.42.0.3:8080 masquerade\n"},
		{"external policy Local", testService(nodePort, exLocal), []*discoveryv1.EndpointSlice{two},
			"10.43.0.80/6/80 -> 10.42.0.3:8080 10.42.1.2:8080\nnode/6/30080 -> 10.42.0.3:8080\n"},
		{"external policy Local, none here", testService(nodePort, exLocal), []*discoveryv1.EndpointSlice{testSlice(ready("10.42.1.2", "there"))},
			"10.43.0.80/6/80 -> 10.42.1.2:8080\nnode/6/30080 -> drop\n"},
		{"internal policy Local", testService(nodePort, inLocal), []*discoveryv1.EndpointSlice{two},
			"10.43.0.80/6/80 -> 10.42.0.3:8080\nnode/6/30080 -> 10.42.0.3:8080 10.42.1.2:8080 masquerade\n"},
		{"not ready ones are left out", testService(), []*discoveryv1.EndpointSlice{testSlice(
			inState("10.42.0.3", "here", true, true, false), inState("10.42.0.4", "here", false, false, false), inState("10.42.0.5", "here", false, true, true))},
			"10.43.0.80/6/80 -> 10.42.0.3:8080\n"},
		{"none ready, but one still serves", testService(), []*discoveryv1.EndpointSlice{testSlice(
			inState("10.42.0.4", "here", false, false, true), inState("10.42.0.5", "here", false, true, true))},
			"10.43.0.80/6/80 -> 10.42.0.5:8080\n"},
		{"none ready, one not terminating", testService(), []*discoveryv1.EndpointSlice{testSlice(inState("10.42.0.4", "here", false, true, false))},
			"10.43.0.80/6/80 -> reject\n"},
		{"external and load balancer addresses", testService(func(s *corev1.Service) {
			s.Spec.ExternalIPs = []string{"198.51.100.7", "2001:db8::1"}
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{
				{IP: "198.51.100.8"}, {IP: "198.51.100.9", IPMode: ptr(corev1.LoadBalancerIPModeProxy)}, {Hostname: "lb"}}
		}), []*discoveryv1.EndpointSlice{testSlice(ready("10.42.0.3", "here"))},
			"10.43.0.80/6/80 -> 10.42.0.3:8080\n198.51.100.7/6/80 -> 10.42.0.3:8080 masquerade\n198.51.100.8/6/80 -> 10.42.0.3:8080 masquerade\n"},
		{"client affinity", testService(func(s *corev1.Service) {
			s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
			s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: ptr(int32(90))}}
		}), []*discoveryv1.EndpointSlice{testSlice(ready("10.42.0.3", "here"))},
			"10.43.0.80/6/80 -> 10.42.0.3:8080 affinity 1m30s\n"},
		{"ports by name, UDP", testService(func(s *corev1.Service) {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP},
				corev1.ServicePort{Name: "other", Port: 99, Protocol: corev1.ProtocolTCP})
		}), []*discoveryv1.EndpointSlice{testSlice(ready("10.42.0.3", "here"))},
			"10.43.0.80/6/80 -> 10.42.0.3:8080\n10.43.0.80/17/53 -> 10.42.0.3:53\n10.43.0.80/6/99 -> reject\n"},
		{"answered on the node", testService(func(s *corev1.Service) {
			s.Spec.ClusterIP, s.Spec.ClusterIPs = "10.43.0.10", []string{"10.43.0.10"}
		}), nil, ""},
		{"headless", testService(func(s *corev1.Service) { s.Spec.ClusterIP = corev1.ClusterIPNone }), []*discoveryv1.EndpointSlice{two}, ""},
		{"external name", testService(func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName }), nil, ""},
		{"another proxy's", testService(func(s *corev1.Service) {
			s.Labels = map[string]string{"service.kubernetes.io/service-proxy-name": "x"}
		}), []*discoveryv1.EndpointSlice{two}, ""},
		{"another family's slice", testService(), []*discoveryv1.EndpointSlice{{AddressType: discoveryv1.AddressTypeIPv6,
			Endpoints: []discoveryv1.Endpoint{ready("fd00::3", "here")}, Ports: two.Ports}}, "10.43.0.80/6/80 -> reject\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := text(Plan(tc.svc, tc.eps, Scope{Node: "here", Exempt: []netip.Addr{netip.MustParseAddr("10.43.0.10")}}))
			if got != tc.want {
				t.Errorf("got\n%swant\n%s", got, tc.want)
			}
		})
	}
}

func TestPlanIPv6(t *testing.T) {
	svc := testService(func(s *corev1.Service) { s.Spec.ClusterIPs = []string{"10.43.0.80", "fd43::80"} })
	six := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv6,
		Endpoints: []discoveryv1.Endpoint{ready("fd42::3", "here")}, Ports: testSlice().Ports}
	got := text(Plan(svc, []*discoveryv1.EndpointSlice{six}, Scope{Node: "here", IPv6: true}))
	if want := "fd43::80/6/80 -> [fd42::3]:8080\n"; got != want {
		t.Errorf("got %swant %s", got, want)
	}
}
