package mesh

import (
	"crypto/sha256"
	"net"
	"net/netip"
)

// plan is all that the kernel shall have for the other nodes: what to send them
// by which way, and where those are that VXLAN leads to.
type plan struct {
	source netip.Addr // of the machine's own packets to Pods
	hops   map[netip.Prefix]hop
	vteps  map[netip.Addr]netip.Addr // a peer's address in the Pod range → its own
}

// hop is a route.
type hop struct {
	path Path
	link int        // Direct only: the link that the peer is on
	via  netip.Addr // the next hop; not valid for Relay
	mtu  int
}

func newPlan(own netip.Prefix) plan {
	return plan{source: gateway(own), hops: map[netip.Prefix]hop{}, vteps: map[netip.Addr]netip.Addr{}}
}

// add puts in what a peer needs: the route to its Pods, and while a path is
// tested one to its beacon alone.
func (p plan) add(to peer, f facts, c *course) {
	p.route(to.pods, to, f, c.path, c.mtu)
	if c.test != None {
		p.route(netip.PrefixFrom(beacon(to.pods), beacon(to.pods).BitLen()), to, f, c.test, c.full)
	}
	if c.ways.vxlan {
		p.vteps[gateway(to.pods)] = to.node
	}
}

func (p plan) route(dst netip.Prefix, to peer, f facts, path Path, mtu int) {
	h := hop{path: path, mtu: mtu}
	switch path {
	case None:
		return // below is the range's unreachable route
	case VXLAN:
		h.via = gateway(to.pods)
	case Direct:
		h.via, h.link = to.node, f.link
	}
	p.hops[dst] = h
}

// vtepMAC is the hardware address of a node's VXLAN link, the same for all who
// know its share of the Pod range: nothing has to be announced.
func vtepMAC(gateway netip.Addr) net.HardwareAddr {
	b := gateway.AsSlice()
	if len(b) > 4 {
		sum := sha256.Sum256(b)
		b = sum[:4]
	}
	return append(net.HardwareAddr{0x0a, 0x53}, b...)
}
