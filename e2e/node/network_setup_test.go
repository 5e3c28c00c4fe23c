package node

import (
	"fmt"
	"net"
	"path/filepath"

	"github.com/vishvananda/netlink"
	nlns "github.com/vishvananda/netns"

	"github.com/skiff-sh/skiff/internal/netns"
)

// The address plan: the shared machine and its neighbour, which has another
// address behind it that only the default route leads to.
const (
	nodeAddress   = "192.0.2.1"
	neighbour     = "192.0.2.2"
	farAddress    = "198.51.100.7"
	lonelyAddress = "192.0.0.8" // of machines without a network
)

// outside is the pin of the neighbour's network namespace.
func outside() string { return filepath.Join(base, "net", "outside") }

func connectOutside() error {
	ns, err := nlns.GetFromPath(outside())
	if err != nil {
		return err
	}
	defer ns.Close()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "up0"
	err = netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(ns)})
	if err != nil {
		return err
	}
	if err := addressUp("up0", nodeAddress+"/24"); err != nil {
		return err
	}
	if err := netns.Do(outside(), func() error { return addressUp("eth0", neighbour+"/24", farAddress+"/32") }); err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(neighbour)})
}

func addressUp(name string, addresses ...string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, text := range addresses {
		a, err := netlink.ParseAddr(text)
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(link, a); err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
	}
	return netlink.LinkSetUp(link)
}
