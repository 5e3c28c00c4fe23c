package pod

import (
	"errors"

	"github.com/vishvananda/netlink"
)

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

func listLinks() ([]netlink.Link, error) { return dump(netlink.LinkList) }

func listAddrs(l netlink.Link, family int) ([]netlink.Addr, error) {
	return dump(func() ([]netlink.Addr, error) { return netlink.AddrList(l, family) })
}

func listRoutes(family int, like *netlink.Route, mask uint64) ([]netlink.Route, error) {
	return dump(func() ([]netlink.Route, error) { return netlink.RouteListFiltered(family, like, mask) })
}
