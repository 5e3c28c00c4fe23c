package dns

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// reverseAddr reads the address from a name below in-addr.arpa or ip6.arpa.
func reverseAddr(name string) (netip.Addr, bool) {
	if rest, is := strings.CutSuffix(name, ".in-addr.arpa."); is {
		parts := strings.Split(rest, ".")
		slices.Reverse(parts)
		a, err := netip.ParseAddr(strings.Join(parts, "."))
		return a, err == nil && a.Is4()
	}
	rest, is := strings.CutSuffix(name, ".ip6.arpa.")
	if !is {
		return netip.Addr{}, false
	}
	digits := strings.Split(rest, ".")
	if len(digits) != 32 {
		return netip.Addr{}, false
	}
	slices.Reverse(digits)
	var b [16]byte
	for i, d := range digits {
		v, err := strconv.ParseUint(d, 16, 4)
		if err != nil || len(d) != 1 {
			return netip.Addr{}, false
		}
		b[i/2] = b[i/2]<<4 | byte(v)
	}
	return netip.AddrFrom16(b), true
}

// pointers are the names of the Service that has the address, or else those of
// the endpoints that have it, sorted.
func (z *zone) pointers(a netip.Addr) []string {
	var out []string
	for _, s := range z.servicesWith(a) {
		out = append(out, s.Name+"."+s.Namespace+".svc."+z.domain)
	}
	if len(out) == 0 {
		for _, s := range z.slicesWith(a) {
			out = append(out, z.endpointNames(s, a)...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (z *zone) endpointNames(s *discoveryv1.EndpointSlice, a netip.Addr) (out []string) {
	service := s.Labels[discoveryv1.LabelServiceName]
	if service == "" {
		return nil
	}
	svc := z.service(s.Namespace, service)
	if svc == nil || svc.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	for _, e := range s.Endpoints {
		if slices.Contains(e.Addresses, a.String()) && (e.Conditions.Ready == nil || *e.Conditions.Ready) {
			out = append(out, hostname(e, a)+"."+service+"."+s.Namespace+".svc."+z.domain)
		}
	}
	return out
}
