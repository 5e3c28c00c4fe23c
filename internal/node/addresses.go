package node

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/internal/network"
)

// lonely is the address of a machine without a network: on the loopback link,
// where Pods reach it all the same. It is the dummy address of RFC 7600, since
// endpoints may not be link-local.
var lonely = netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 0, 8}), 32)

// Addresses returns the addresses by which others reach this machine: the
// first global one of the default route's link, else of any link that is up,
// else one that it gives the machine itself.
func Addresses() ([]netip.Addr, error) {
	found, err := look(netip.Addr{})
	if err != nil {
		return nil, fmt.Errorf("find this machine's address (or set it with --node-ip): %w", err)
	}
	if !found.IsValid() {
		return []netip.Addr{lonely.Addr()}, addLonely()
	}
	return []netip.Addr{found}, nil
}

// look returns the address that the machine has, given the one it went by; an
// invalid one if there is none.
func look(present netip.Addr) (netip.Addr, error) {
	links, err := candidates()
	if err != nil {
		return netip.Addr{}, err
	}
	var each [][]netip.Addr
	for _, link := range links {
		list, err := network.Addresses(link, netlink.FAMILY_V4)
		if err != nil {
			return netip.Addr{}, fmt.Errorf("list addresses of %s: %w", link.Attrs().Name, err)
		}
		var addresses []netip.Addr
		for _, a := range list {
			// One of a smaller scope is not for others, as those of the mesh's links.
			if ip, ok := netip.AddrFromSlice(a.IP.To4()); ok && a.Scope == unix.RT_SCOPE_UNIVERSE {
				addresses = append(addresses, ip)
			}
		}
		each = append(each, addresses)
	}
	return choose(each, present), nil
}

// choose returns the address to go by, of those of each link, the best link
// first: the one of before as long as that link has it.
func choose(links [][]netip.Addr, present netip.Addr) netip.Addr {
	for _, addresses := range links {
		global := slices.DeleteFunc(slices.Clone(addresses), func(a netip.Addr) bool { return !a.IsGlobalUnicast() })
		switch {
		case slices.Contains(global, present):
			return present
		case len(global) > 0:
			return global[0]
		}
	}
	return netip.Addr{}
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
