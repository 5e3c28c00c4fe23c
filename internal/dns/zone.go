package dns

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/tools/cache"
)

// ttl is the time to live of the cluster's names, in seconds, CoreDNS's.
const ttl = 5

// zone knows what the cluster's names mean.
type zone struct {
	index
	domain string // "cluster.local."
	ranges []netip.Prefix
}

func newZone(cfg Config) (*zone, error) {
	z := &zone{
		index: index{
			services: cfg.Informers.Core().V1().Services().Informer(),
			slices:   cfg.Informers.Discovery().V1().EndpointSlices().Informer(),
		},
		domain: dns.CanonicalName(cfg.ClusterDomain),
		ranges: cfg.Ranges,
	}
	return z, z.prepare()
}

// errNotSynced says that the cluster's objects are not known yet.
var errNotSynced = errors.New("the cluster's Services are not known yet")

// owns says whether the name, in lower case, is the zone's to answer. For one
// that is, it waits a little for the caches to fill.
func (z *zone) owns(ctx context.Context, name string) (bool, error) {
	inDomain := dns.IsSubDomain(z.domain, name)
	addr, reverse := reverseAddr(name)
	if !inDomain && !reverse {
		return false, nil
	}
	if err := z.synced(ctx); err != nil {
		return false, err
	}
	if inDomain {
		return true, nil
	}
	inRange := slices.ContainsFunc(z.ranges, func(p netip.Prefix) bool { return p.Contains(addr) })
	return inRange || len(z.pointers(addr)) > 0, nil
}

func (z *zone) synced(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, i := range []cache.SharedIndexInformer{z.services, z.slices} {
		select {
		case <-i.HasSyncedChecker().Done():
		case <-ctx.Done():
			return errNotSynced
		}
	}
	return nil
}

// answer fills in what the name means. The name is in lower case and the
// zone's; records carry the name as it was asked for.
func (z *zone) answer(resp *dns.Msg, name string, qtype uint16) {
	asked := resp.Question[0].Name
	if addr, reverse := reverseAddr(name); reverse {
		names := z.pointers(addr)
		if qtype == dns.TypePTR {
			for _, n := range names {
				resp.Answer = append(resp.Answer, &dns.PTR{Hdr: header(asked, dns.TypePTR), Ptr: n})
			}
		}
		z.finish(resp, len(names) > 0)
		return
	}
	labels := dns.SplitDomainName(strings.TrimSuffix(name, z.domain))
	exists := false
	if n := len(labels); n == 0 {
		exists = true
		z.apex(resp, asked, qtype)
	} else {
		switch labels[n-1] {
		case "svc":
			exists = z.underSvc(resp, asked, labels[:n-1], qtype)
		case "pod":
			exists = underPod(resp, asked, labels[:n-1], qtype)
		case "dns-version":
			exists = n == 1
			if exists && qtype == dns.TypeTXT {
				resp.Answer = append(resp.Answer, &dns.TXT{Hdr: header(asked, qtype), Txt: []string{"1.1.0"}})
			}
		}
	}
	z.finish(resp, exists)
}

// finish makes an answer without records a proper negative one.
func (z *zone) finish(resp *dns.Msg, exists bool) {
	if len(resp.Answer) > 0 {
		return
	}
	if !exists {
		resp.Rcode = dns.RcodeNameError
	}
	resp.Ns = append(resp.Ns, z.soa())
}

func (z *zone) soa() *dns.SOA {
	return &dns.SOA{
		Hdr: header(z.domain, dns.TypeSOA), Ns: "ns.dns." + z.domain, Mbox: "hostmaster." + z.domain,
		Serial: 1, Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: ttl,
	}
}

func (z *zone) apex(resp *dns.Msg, asked string, qtype uint16) {
	switch qtype {
	case dns.TypeSOA:
		resp.Answer = append(resp.Answer, z.soa())
	case dns.TypeNS:
		resp.Answer = append(resp.Answer, &dns.NS{Hdr: header(asked, qtype), Ns: "ns.dns." + z.domain})
	}
}

func header(name string, t uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: t, Class: dns.ClassINET, Ttl: ttl}
}

// underSvc answers SERVICE.NAMESPACE.svc and what lies below and above it.
func (z *zone) underSvc(resp *dns.Msg, asked string, labels []string, qtype uint16) (exists bool) {
	n := len(labels)
	switch n {
	case 0:
		return true
	case 1:
		return z.hasServices(labels[0])
	}
	svc := z.service(labels[n-1], labels[n-2])
	if svc == nil {
		return false
	}
	below := labels[:n-2]
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		if len(below) == 0 {
			if slices.Contains([]uint16{dns.TypeA, dns.TypeAAAA, dns.TypeCNAME}, qtype) {
				resp.Answer = append(resp.Answer, &dns.CNAME{Hdr: header(asked, dns.TypeCNAME), Target: dns.Fqdn(svc.Spec.ExternalName)})
			}
			return true
		}
		return false
	}
	targets := z.targets(svc)
	switch {
	case len(below) == 2 && strings.HasPrefix(below[0], "_") && strings.HasPrefix(below[1], "_"):
		targets = withPort(targets, below[0][1:], below[1][1:])
		if qtype == dns.TypeSRV {
			z.addSRV(resp, asked, targets)
		}
	case len(below) == 1 && !strings.HasPrefix(below[0], "_"):
		targets = slices.DeleteFunc(targets, func(t target) bool { return t.hostname != below[0] })
		z.add(resp, asked, targets, qtype)
	case len(below) == 0:
		z.add(resp, asked, targets, qtype)
	default:
		return false
	}
	return len(targets) > 0
}

func (z *zone) add(resp *dns.Msg, asked string, targets []target, qtype uint16) {
	switch qtype {
	case dns.TypeA, dns.TypeAAAA:
		seen := map[netip.Addr]bool{}
		for _, t := range targets {
			if !seen[t.addr] {
				seen[t.addr] = true
				resp.Answer = appendAddr(resp.Answer, asked, t.addr, qtype)
			}
		}
		rand.Shuffle(len(resp.Answer), func(i, j int) {
			resp.Answer[i], resp.Answer[j] = resp.Answer[j], resp.Answer[i]
		})
	case dns.TypeSRV:
		z.addSRV(resp, asked, targets)
	}
}

// addSRV adds a record for each name and port, and the names' addresses.
func (z *zone) addSRV(resp *dns.Msg, asked string, targets []target) {
	type at struct {
		name string
		port uint16
	}
	seen, known := map[at]bool{}, map[netip.Addr]bool{}
	for _, t := range targets {
		name := t.name + z.domain
		if t.port != 0 && !seen[at{name, t.port}] {
			seen[at{name, t.port}] = true
			resp.Answer = append(resp.Answer, &dns.SRV{Hdr: header(asked, dns.TypeSRV), Port: t.port, Target: name})
		}
		if t.port != 0 && !known[t.addr] {
			known[t.addr] = true
			resp.Extra = appendAddr(resp.Extra, name, t.addr, typeOf(t.addr))
		}
	}
	for _, rr := range resp.Answer {
		rr.(*dns.SRV).Weight = uint16(max(100/len(resp.Answer), 1))
	}
}

func typeOf(a netip.Addr) uint16 {
	if a.Is4() {
		return dns.TypeA
	}
	return dns.TypeAAAA
}

func appendAddr(rrs []dns.RR, name string, a netip.Addr, qtype uint16) []dns.RR {
	switch {
	case typeOf(a) != qtype:
		return rrs
	case a.Is4():
		return append(rrs, &dns.A{Hdr: header(name, qtype), A: a.AsSlice()})
	}
	return append(rrs, &dns.AAAA{Hdr: header(name, qtype), AAAA: a.AsSlice()})
}

// target is an address and port that a Service's name stands for.
type target struct {
	name     string // relative to the domain, with its dot
	hostname string // of an endpoint
	addr     netip.Addr
	port     uint16 // 0 if the Service or endpoint has none
	portName string
	proto    string // in lower case
}

// targets are a Service's own addresses, or its ready endpoints if it is
// headless.
func (z *zone) targets(svc *corev1.Service) []target {
	name := svc.Name + "." + svc.Namespace + ".svc."
	var out []target
	if svc.Spec.ClusterIP != corev1.ClusterIPNone {
		for _, ip := range clusterIPs(svc) {
			a, err := netip.ParseAddr(ip)
			if err != nil {
				continue
			}
			for _, p := range svc.Spec.Ports {
				out = append(out, target{name: name, addr: a, port: uint16(p.Port), portName: p.Name, proto: protocol(p.Protocol)})
			}
		}
		return out
	}
	for _, s := range z.slicesOf(svc) {
		for _, e := range s.Endpoints {
			if e.Conditions.Ready != nil && !*e.Conditions.Ready {
				continue
			}
			out = append(out, endpointTargets(s, e, name)...)
		}
	}
	return out
}

func endpointTargets(s *discoveryv1.EndpointSlice, e discoveryv1.Endpoint, name string) (out []target) {
	for _, ip := range e.Addresses {
		a, err := netip.ParseAddr(ip)
		if err != nil {
			continue
		}
		t := target{hostname: hostname(e, a), addr: a}
		t.name = t.hostname + "." + name
		if len(s.Ports) == 0 {
			out = append(out, t)
		}
		for _, p := range s.Ports {
			if p.Port == nil {
				continue
			}
			t.port, t.portName, t.proto = uint16(*p.Port), "", "tcp"
			if p.Name != nil {
				t.portName = *p.Name
			}
			if p.Protocol != nil {
				t.proto = protocol(*p.Protocol)
			}
			out = append(out, t)
		}
	}
	return out
}

// hostname is an endpoint's name: its own, or its address with dashes.
func hostname(e discoveryv1.Endpoint, a netip.Addr) string {
	if e.Hostname != nil && *e.Hostname != "" {
		return strings.ToLower(*e.Hostname)
	}
	return strings.NewReplacer(".", "-", ":", "-").Replace(a.String())
}

func protocol(p corev1.Protocol) string {
	if p == "" {
		return "tcp"
	}
	return strings.ToLower(string(p))
}

func withPort(ts []target, name, proto string) []target {
	return slices.DeleteFunc(ts, func(t target) bool { return strings.ToLower(t.portName) != name || t.proto != proto })
}

// underPod answers 10-42-0-5.NAMESPACE.pod with the address in the name,
// whether there is such a Pod or not.
func underPod(resp *dns.Msg, asked string, labels []string, qtype uint16) (exists bool) {
	switch len(labels) {
	case 0, 1:
		return true
	case 2:
	default:
		return false
	}
	dashed := labels[0]
	a, err := netip.ParseAddr(strings.ReplaceAll(dashed, "-", "."))
	if err != nil {
		a, err = netip.ParseAddr(strings.ReplaceAll(dashed, "-", ":"))
	}
	if err != nil {
		return false
	}
	resp.Answer = appendAddr(resp.Answer, asked, a, qtype)
	return true
}
