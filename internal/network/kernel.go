package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The protocols of routes that are skiff's: Pods' and the ranges', and those to
// other nodes. They are for people, for daemons that tidy away routes they do
// not know the origin of, and for each room to know its own.
const (
	PodRoutes  = 0x53
	MeshRoutes = 0x54
)

// MaxLinkName is how long a link's name may be: IFNAMSIZ less its NUL.
const MaxLinkName = 15

// dumpTries bounds how often a list is asked for that changes while it is read.
const dumpTries = 20

// dump lists what the kernel has. A list during which something came or went,
// as links do when many Pods start at once, may lack what has been there all
// along: it is asked for again.
func dump[T any](list func() ([]T, error)) (all []T, err error) {
	for range dumpTries {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}

// Links lists all links.
func Links() ([]netlink.Link, error) { return dump(netlink.LinkList) }

// Addresses lists the addresses of a link, of all links if it is nil.
func Addresses(l netlink.Link, family int) ([]netlink.Addr, error) {
	return dump(func() ([]netlink.Addr, error) { return netlink.AddrList(l, family) })
}

// Routes lists the routes of the main table that are like one in the masked
// fields.
func Routes(family int, like *netlink.Route, mask uint64) ([]netlink.Route, error) {
	return dump(func() ([]netlink.Route, error) { return netlink.RouteListFiltered(family, like, mask) })
}

// Neighbours lists the entries of a link: of an IP family those that say who
// has an address, of unix.AF_BRIDGE those that say where a hardware address is.
func Neighbours(link, family int) ([]netlink.Neigh, error) {
	return dump(func() ([]netlink.Neigh, error) { return netlink.NeighList(link, family) })
}

// IsGone says whether a link vanished under an operation.
func IsGone(err error) bool { return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENETDOWN) }

// DeleteLink deletes the link of the name. None is no error.
func DeleteLink(name string) error {
	l, err := netlink.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	if err := netlink.LinkDel(l); err != nil && !IsGone(err) {
		return fmt.Errorf("delete link %s: %w", name, err)
	}
	return nil
}

// Family is the address family as netlink numbers it.
func Family(a netip.Addr) int {
	if a.Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}

// Single is the prefix that holds the address alone.
func Single(a netip.Addr) *net.IPNet { return Range(netip.PrefixFrom(a, a.BitLen())) }

// Range is the prefix as netlink has it.
func Range(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// Prefix is what Range came from; none for nil.
func Prefix(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}, false
	}
	ones, bits := n.Mask.Size()
	if a = a.Unmap(); a.BitLen() != bits {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, ones), true
}
