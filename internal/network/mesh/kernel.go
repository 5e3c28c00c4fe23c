package mesh

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/internal/network"
)

// links are the mesh's own, by index; 0 for one that cannot be had here.
type links struct{ vxlan, relay int }

func (l links) of(h hop) int {
	switch h.path {
	case VXLAN:
		return l.vxlan
	case Relay:
		return l.relay
	}
	return h.link
}

// found reads which way the routes lead that a former process left.
func (l links) found() (map[netip.Prefix]hop, error) {
	routes, err := meshRoutes()
	if err != nil {
		return nil, err
	}
	hops := map[netip.Prefix]hop{}
	for _, r := range routes {
		dst, ok := network.Prefix(r.Dst)
		if !ok {
			continue
		}
		h := hop{mtu: r.MTU}
		switch {
		case r.LinkIndex == l.vxlan:
			h.path = VXLAN
		case r.LinkIndex == l.relay:
			h.path = Relay
		default:
			h.path, h.link = Direct, r.LinkIndex
			h.via, _ = netip.AddrFromSlice(r.Gw)
			h.via = h.via.Unmap()
		}
		hops[dst] = h
	}
	return hops, nil
}

func meshRoutes() ([]netlink.Route, error) {
	routes, err := network.Routes(netlink.FAMILY_V4, &netlink.Route{Protocol: network.MeshRoutes}, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	return routes, nil
}

// apply makes the kernel have what the plan says and nothing else of the mesh's.
// It reads what is there and changes what differs; where peers are comes before
// the routes that lead to them. One failure does not keep the rest from being
// done.
func (l links) apply(p plan) error {
	var errs []error
	if l.vxlan != 0 {
		errs = append(errs, l.applyVTEPs(p))
	}
	routes, err := meshRoutes()
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	have := map[netip.Prefix]netlink.Route{}
	for _, r := range routes {
		if dst, ok := network.Prefix(r.Dst); ok {
			have[dst] = r
		}
	}
	for dst, h := range p.hops {
		want := l.route(dst, h, p.source)
		if r, is := have[dst]; is && sameRoute(r, want) {
			continue
		}
		if err := netlink.RouteReplace(want); err != nil {
			errs = append(errs, fmt.Errorf("route %s by %s: %w", dst, h.path, err))
		}
	}
	for dst, r := range have {
		if _, wanted := p.hops[dst]; !wanted {
			errs = append(errs, removeRoute(r))
		}
	}
	return errors.Join(errs...)
}

func removeRoute(r netlink.Route) error {
	if err := netlink.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("remove route to %s: %w", r.Dst, err)
	}
	return nil
}

func (l links) route(dst netip.Prefix, h hop, source netip.Addr) *netlink.Route {
	r := &netlink.Route{
		Dst: network.Range(dst), LinkIndex: l.of(h), Src: source.AsSlice(), MTU: h.mtu, Protocol: network.MeshRoutes,
	}
	if h.via.IsValid() {
		r.Gw, r.Flags = h.via.AsSlice(), int(netlink.FLAG_ONLINK)
	} else {
		r.Scope = netlink.SCOPE_LINK
	}
	return r
}

func sameRoute(a netlink.Route, b *netlink.Route) bool {
	const dead = unix.RTNH_F_DEAD
	return a.LinkIndex == b.LinkIndex && a.Gw.Equal(b.Gw) && a.Src.Equal(b.Src) && a.MTU == b.MTU && a.Flags&dead == 0
}

// applyVTEPs says behind which hardware address each peer is, and at which
// machine that is.
func (l links) applyVTEPs(p plan) error {
	addrs, err := network.Neighbours(l.vxlan, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list neighbours: %w", err)
	}
	macs, err := network.Neighbours(l.vxlan, unix.AF_BRIDGE)
	if err != nil {
		return fmt.Errorf("list hardware addresses: %w", err)
	}
	want := map[string]*netlink.Neigh{}
	for gateway, node := range p.vteps {
		mac := vtepMAC(gateway)
		for _, n := range []*netlink.Neigh{
			{Family: netlink.FAMILY_V4, IP: gateway.AsSlice(), Type: unix.RTN_UNICAST},
			{Family: unix.AF_BRIDGE, IP: node.AsSlice(), Flags: netlink.NTF_SELF},
		} {
			n.LinkIndex, n.State, n.HardwareAddr = l.vxlan, netlink.NUD_PERMANENT, mac
			want[neighbourKey(*n)] = n
		}
	}
	var errs []error
	for _, have := range append(addrs, macs...) {
		if have.Family != unix.AF_BRIDGE && have.State&netlink.NUD_PERMANENT == 0 {
			continue // the kernel's own, of a multicast address
		}
		key := neighbourKey(have)
		if n, is := want[key]; is && n.IP.Equal(have.IP) && sameMAC(n, have) && have.State&netlink.NUD_PERMANENT != 0 {
			delete(want, key)
		} else if !is {
			if err := netlink.NeighDel(&have); err != nil && !errors.Is(err, unix.ENOENT) {
				errs = append(errs, fmt.Errorf("remove neighbour %s: %w", have.IP, err))
			}
		}
	}
	for _, n := range want {
		if err := netlink.NeighSet(n); err != nil {
			errs = append(errs, fmt.Errorf("add neighbour %s: %w", n.IP, err))
		}
	}
	return errors.Join(errs...)
}

func sameMAC(a *netlink.Neigh, b netlink.Neigh) bool {
	return a.HardwareAddr.String() == b.HardwareAddr.String()
}

// neighbourKey is what there is one entry for: an address, or a hardware
// address.
func neighbourKey(n netlink.Neigh) string {
	if n.Family == unix.AF_BRIDGE {
		return "at " + net.HardwareAddr(n.HardwareAddr).String()
	}
	return "is " + n.IP.String()
}
