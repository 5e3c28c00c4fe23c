package service

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/skiff-sh/skiff/internal/nft"
)

// Key is where a Service is found: an address, protocol and port, or protocol
// and port on every address of the node if Addr is the zero value.
type Key = nft.Place

// Frontend is one place where a Service is found and what shall happen there.
type Frontend struct {
	Key        Key
	Endpoints  []netip.AddrPort // sorted, without duplicates; none is Reject or Drop
	Drop       bool             // without Endpoints: drop rather than reject
	Masquerade bool             // give packets this node's address as source
	Affinity   time.Duration    // a client keeps its endpoint that long; 0 is not at all
}

// Scope is what a plan depends on besides the objects.
type Scope struct {
	Node   string
	IPv6   bool         // the family planned for
	Exempt []netip.Addr // addresses that are answered on the node itself
}

// Plan says where the Service is found and by what, given its EndpointSlices.
// Headless Services and ExternalNames are found nowhere. The order is that of
// ports, and for each port cluster addresses, external ones, the node port.
func Plan(svc *corev1.Service, eps []*discoveryv1.EndpointSlice, sc Scope) []Frontend {
	if svc.Spec.Type == corev1.ServiceTypeExternalName || svc.Spec.ClusterIP == corev1.ClusterIPNone ||
		svc.Labels["service.kubernetes.io/service-proxy-name"] != "" {
		return nil
	}
	var out []Frontend
	add := func(addr netip.Addr, proto uint8, port int32, e []netip.AddrPort, local, external bool) {
		out = append(out, Frontend{
			Key:       Key{Addr: addr, Proto: proto, Port: uint16(port)},
			Endpoints: e, Drop: local, Masquerade: external && !local, Affinity: affinity(svc),
		})
	}
	inLocal := svc.Spec.InternalTrafficPolicy != nil && *svc.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal
	exLocal := svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
	for _, p := range svc.Spec.Ports {
		proto, ok := protocol(p.Protocol)
		if !ok {
			continue
		}
		all, local := endpoints(eps, p, sc)
		pick := func(onlyLocal bool) []netip.AddrPort {
			if onlyLocal {
				return local
			}
			return all
		}
		for _, a := range addresses(clusterIPs(svc), sc) {
			add(a, proto, p.Port, pick(inLocal), inLocal, false)
		}
		for _, a := range addresses(externalIPs(svc), sc) {
			add(a, proto, p.Port, pick(exLocal), exLocal, true)
		}
		if p.NodePort != 0 {
			add(netip.Addr{}, proto, p.NodePort, pick(exLocal), exLocal, true)
		}
	}
	return out
}

func protocol(p corev1.Protocol) (uint8, bool) {
	switch p {
	case corev1.ProtocolTCP, "":
		return unix.IPPROTO_TCP, true
	case corev1.ProtocolUDP:
		return unix.IPPROTO_UDP, true
	case corev1.ProtocolSCTP:
		return unix.IPPROTO_SCTP, true
	}
	return 0, false
}

func affinity(svc *corev1.Service) time.Duration {
	if svc.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	seconds := corev1.DefaultClientIPServiceAffinitySeconds
	if c := svc.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		seconds = *c.ClientIP.TimeoutSeconds
	}
	return time.Duration(seconds) * time.Second
}

func clusterIPs(svc *corev1.Service) []string {
	if len(svc.Spec.ClusterIPs) > 0 {
		return svc.Spec.ClusterIPs
	}
	return []string{svc.Spec.ClusterIP}
}

func externalIPs(svc *corev1.Service) []string {
	ips := slices.Clone(svc.Spec.ExternalIPs)
	for _, in := range svc.Status.LoadBalancer.Ingress {
		if in.IP != "" && (in.IPMode == nil || *in.IPMode == corev1.LoadBalancerIPModeVIP) {
			ips = append(ips, in.IP)
		}
	}
	return ips
}

// addresses are those of the planned family that are not exempt.
func addresses(ips []string, sc Scope) []netip.Addr {
	var out []netip.Addr
	for _, s := range ips {
		a, err := netip.ParseAddr(s)
		if err == nil && a.Is6() == sc.IPv6 && !slices.Contains(sc.Exempt, a) {
			out = append(out, a)
		}
	}
	return out
}

// endpoints are those of the Service's port that packets may go to, and those
// of them on this node. Where none is ready, ones that terminate but still
// serve are used, as upstream does.
func endpoints(eps []*discoveryv1.EndpointSlice, port corev1.ServicePort, sc Scope) (all, local []netip.AddrPort) {
	want := discoveryv1.AddressTypeIPv4
	if sc.IPv6 {
		want = discoveryv1.AddressTypeIPv6
	}
	var found, fallback candidates
	for _, s := range eps {
		if s.AddressType != want {
			continue
		}
		number, ok := portOf(s, port)
		if !ok {
			continue
		}
		for _, e := range s.Endpoints {
			c := e.Conditions
			ready := c.Ready == nil || *c.Ready
			serving := (c.Serving == nil && ready) || (c.Serving != nil && *c.Serving)
			terminating := c.Terminating != nil && *c.Terminating
			switch {
			case ready:
				found.add(e, number, sc.Node)
			case serving && terminating:
				fallback.add(e, number, sc.Node)
			}
		}
	}
	return or(found.all, fallback.all), or(found.local, fallback.local)
}

type candidates struct{ all, local []netip.AddrPort }

// add takes the endpoint's first address: the others are the same endpoint,
// and clients may not rely on them.
func (c *candidates) add(e discoveryv1.Endpoint, port uint16, node string) {
	if len(e.Addresses) == 0 {
		return
	}
	a, err := netip.ParseAddr(e.Addresses[0])
	if err != nil {
		return
	}
	ap := netip.AddrPortFrom(a, port)
	c.all = append(c.all, ap)
	if e.NodeName != nil && *e.NodeName == node {
		c.local = append(c.local, ap)
	}
}

func or(a, b []netip.AddrPort) []netip.AddrPort {
	if len(a) == 0 {
		a = b
	}
	slices.SortFunc(a, func(x, y netip.AddrPort) int {
		return cmp.Or(x.Addr().Compare(y.Addr()), cmp.Compare(x.Port(), y.Port()))
	})
	return slices.Compact(a)
}

// portOf finds the slice's port for the Service's: they share their name.
func portOf(s *discoveryv1.EndpointSlice, port corev1.ServicePort) (uint16, bool) {
	for _, p := range s.Ports {
		name := ""
		if p.Name != nil {
			name = *p.Name
		}
		if name == port.Name && p.Port != nil && *p.Port > 0 {
			return uint16(*p.Port), true
		}
	}
	return 0, false
}
