package pod

import (
	"errors"
	"fmt"
	"math"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/network"
	"github.com/skiff-sh/skiff/internal/nft"
)

// label marks the node's own addresses on the loopback, so that clean-up knows
// them by the host's names alone. IPv6 addresses have no labels.
func label(h config.Host) string { return "lo:" + h.LinkPrefix }

// prepareHost makes everything that is the node's and no single Pod's.
func (n *Network) prepareHost(pools []*pool) error {
	if err := setHostSysctls(); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loopback: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("bring loopback up: %w", err)
	}
	if err := n.dropFormerGateways(lo, pools); err != nil {
		return err
	}
	mtu := network.PodMTU()
	for _, p := range pools {
		if err := n.addGateway(lo, p.gateway()); err != nil {
			return err
		}
		if err := n.addRoutes(lo, p.gateway(), mtu); err != nil {
			return err
		}
	}
	n.mtu = mtu
	return n.applyRules(pools)
}

// followMTU gives the routes the MTU that Pods get now.
func (n *Network) followMTU() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	mtu := network.PodMTU()
	if mtu == n.mtu {
		return nil
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loopback: %w", err)
	}
	for _, p := range n.pools {
		if err := n.addRoutes(lo, p.gateway(), mtu); err != nil {
			return err
		}
	}
	n.mtu = mtu
	return nil
}

// addGateway gives the host an address in the Pod range. Its scope keeps the
// kernel from choosing it where no route of ours asks for it.
func (n *Network) addGateway(lo netlink.Link, gw netip.Addr) error {
	addr := &netlink.Addr{IPNet: network.Single(gw), Scope: unix.RT_SCOPE_HOST}
	if gw.Is4() {
		addr.Label = label(n.cfg.Host)
	}
	if err := netlink.AddrReplace(lo, addr); err != nil {
		return fmt.Errorf("add address %s to the loopback: %w", gw, err)
	}
	return nil
}

// dropFormerGateways removes the addresses of a share that the node no longer
// has.
func (n *Network) dropFormerGateways(lo netlink.Link, pools []*pool) error {
	have, err := network.Addresses(lo, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list addresses of the loopback: %w", err)
	}
	for _, a := range have {
		if a.Label != label(n.cfg.Host) || keeps(pools, a) {
			continue
		}
		if err := netlink.AddrDel(lo, &a); err != nil {
			return fmt.Errorf("remove address %s from the loopback: %w", a.IP, err)
		}
	}
	return nil
}

func keeps(pools []*pool, a netlink.Addr) bool {
	for _, p := range pools {
		if a.IP.Equal(p.gateway().AsSlice()) {
			return true
		}
	}
	return false
}

// addRoutes routes the ranges. The host's own packets to a Service are routed
// before their destination is translated, so they need a route to start with,
// default route or not: the loopback, where what no Service takes is rejected.
// Below it and below the Pods' routes lies an unreachable one for each range:
// what is meant for the cluster never leaves by the default route.
func (n *Network) addRoutes(lo netlink.Link, gw netip.Addr, mtu int) error {
	for _, c := range sameFamily(n.cfg.ServiceCIDRs, gw) {
		r := &netlink.Route{
			LinkIndex: lo.Attrs().Index, Dst: network.Range(c), Scope: netlink.SCOPE_LINK,
			Src: sourceFor(gw, preferred([]netip.Addr{gw})), Protocol: routeProtocol, MTU: mtu,
		}
		if err := netlink.RouteReplace(r); err != nil {
			return fmt.Errorf("route Service range %s: %w", c, err)
		}
	}
	ranges := append(sameFamily(n.cfg.ClusterCIDRs, gw), sameFamily(n.cfg.ServiceCIDRs, gw)...)
	for _, c := range ranges {
		r := &netlink.Route{Dst: network.Range(c), Type: unix.RTN_UNREACHABLE, Priority: math.MaxUint32, Protocol: routeProtocol}
		if err := netlink.RouteReplace(r); err != nil {
			return fmt.Errorf("make %s unreachable: %w", c, err)
		}
	}
	return nil
}

func sameFamily(cidrs []netip.Prefix, a netip.Addr) []netip.Prefix {
	var out []netip.Prefix
	for _, c := range cidrs {
		if c.Addr().Is4() == a.Is4() {
			out = append(out, c.Masked())
		}
	}
	return out
}

// Cleanup removes everything that the Pod networks of this host's data
// directory made: links, routes, addresses and the nftables table. It is for
// killall; nothing that runs may still use them.
func Cleanup(h config.Host) error {
	links, err := network.Links()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	var errs []error
	for _, l := range links {
		if ours(h, l) {
			errs = append(errs, network.DeleteLink(l.Attrs().Name))
		}
	}
	errs = append(errs, removeGateways(h), nft.Remove(h.Table))
	return errors.Join(errs...)
}

// removeGateways removes the node's addresses in the Pod range and the routes
// of the ranges.
func removeGateways(h config.Host) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loopback: %w", err)
	}
	have, err := network.Addresses(lo, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list addresses of the loopback: %w", err)
	}
	var errs []error
	mine := false
	for _, a := range have {
		if a.Label != label(h) {
			continue
		}
		mine = true
		if err := netlink.AddrDel(lo, &a); err != nil {
			errs = append(errs, fmt.Errorf("remove address %s from the loopback: %w", a.IP, err))
		}
	}
	if mine { // else the routes, if any, are another data directory's
		errs = append(errs, removeRoutes())
	}
	return errors.Join(errs...)
}

func removeRoutes() error {
	routes, err := network.Routes(netlink.FAMILY_ALL,
		&netlink.Route{Protocol: routeProtocol}, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	var errs []error
	for _, r := range routes {
		if err := netlink.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("remove route to %s: %w", r.Dst, err))
		}
	}
	return errors.Join(errs...)
}
