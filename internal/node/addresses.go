package node

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// lonely is the address of a machine without a network: on the loopback link,
// where Pods reach it all the same. It is the dummy address of RFC 7600, since
// endpoints may not be link-local.
var lonely = netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 0, 8}), 32)

// Addresses returns the addresses by which others reach this machine: the
// first global one of the default route's link, else of any link that is up,
// else one that it gives the machine itself.
func Addresses() ([]netip.Addr, error) {
	links, err := candidates()
	if err != nil {
		return nil, fmt.Errorf("find this machine's address (or set it with --node-ip): %w", err)
	}
	for _, link := range links {
		addresses, err := netlink.AddrList(link, unix.AF_INET)
		if err != nil {
			return nil, fmt.Errorf("list addresses of %s: %w", link.Attrs().Name, err)
		}
		for _, a := range addresses {
			ip, ok := netip.AddrFromSlice(a.IP.To4())
			if ok && ip.IsGlobalUnicast() {
				return []netip.Addr{ip}, nil
			}
		}
	}
	return []netip.Addr{lonely.Addr()}, addLonely()
}

// candidates returns the links to look at: that of the default route first, no
// Pod's and no loopback.
func candidates() ([]netlink.Link, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	routes, err := netlink.RouteListFiltered(unix.AF_INET, &netlink.Route{Dst: nil}, netlink.RT_FILTER_DST)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	first := -1
	for _, r := range routes {
		if r.LinkIndex > 0 && (r.Type == 0 || r.Type == unix.RTN_UNICAST) {
			first = r.LinkIndex
			break
		}
	}
	links = slices.DeleteFunc(links, func(l netlink.Link) bool {
		a := l.Attrs()
		return a.Flags&net.FlagUp == 0 || a.Flags&net.FlagLoopback != 0 || a.Alias != "" && l.Type() == "veth"
	})
	slices.SortStableFunc(links, func(a, b netlink.Link) int {
		return rank(a, first) - rank(b, first)
	})
	return links, nil
}

func rank(l netlink.Link, first int) int {
	if l.Attrs().Index == first {
		return 0
	}
	return 1
}

func addLonely() error {
	lo, err := loopbackLink()
	if err != nil {
		return err
	}
	err = netlink.AddrReplace(lo, lonelyAddr())
	if err != nil {
		return fmt.Errorf("give this machine an address (or set one with --node-ip): %w", err)
	}
	return nil
}

// removeLonely takes back what addLonely gave.
func removeLonely() error {
	lo, err := loopbackLink()
	if err != nil {
		return err
	}
	err = netlink.AddrDel(lo, lonelyAddr())
	if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("remove address %s: %w", lonely, err)
	}
	return nil
}

func loopbackLink() (netlink.Link, error) {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return nil, fmt.Errorf("find the loopback link: %w", err)
	}
	return lo, netlink.LinkSetUp(lo)
}

func lonelyAddr() *netlink.Addr {
	return &netlink.Addr{
		IPNet: &net.IPNet{IP: lonely.Addr().AsSlice(), Mask: net.CIDRMask(lonely.Bits(), 32)},
		Scope: int(netlink.SCOPE_UNIVERSE),
	}
}
