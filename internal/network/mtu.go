package network

import (
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// encapsulation is what VXLAN adds to a packet over IPv4: Ethernet 14, VXLAN 8,
// UDP 8, IP 20.
const encapsulation = 50

const (
	usualMTU = 1500
	leastMTU = 576 // RFC 791; a link with less says nothing of the uplink
)

// PodMTU is the size of the largest packets that Pods send: those of the
// uplink, less what VXLAN adds. It is the same whatever way leads to another
// node, since ways change while connections last, and on a cluster's first
// node, since others come later.
func PodMTU() int { return uplinkMTU() - encapsulation }

// uplinkMTU is that of the link with the default route, else the smallest of
// the links that have an address of the machine's.
func uplinkMTU() int {
	routes, err := Routes(netlink.FAMILY_V4, &netlink.Route{}, netlink.RT_FILTER_DST)
	if err != nil {
		return usualMTU
	}
	for _, r := range routes {
		if l, err := netlink.LinkByIndex(r.LinkIndex); err == nil && l.Attrs().MTU >= leastMTU {
			return l.Attrs().MTU
		}
	}
	return addressedMTU()
}

func addressedMTU() int {
	addrs, err := Addresses(nil, netlink.FAMILY_V4)
	if err != nil {
		return usualMTU
	}
	mtu := 0
	for _, a := range addrs {
		if a.Scope != unix.RT_SCOPE_UNIVERSE {
			continue
		}
		l, err := netlink.LinkByIndex(a.LinkIndex)
		if err != nil || l.Attrs().Flags&net.FlagLoopback != 0 || l.Attrs().MTU < leastMTU {
			continue
		}
		if mtu == 0 || l.Attrs().MTU < mtu {
			mtu = l.Attrs().MTU
		}
	}
	if mtu == 0 {
		return usualMTU
	}
	return mtu
}
