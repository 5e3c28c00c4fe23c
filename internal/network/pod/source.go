package pod

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/internal/network"
	"github.com/skiff-sh/skiff/internal/nft"
)

// The host speaks to Pods and Services with whatever address the kernel
// chooses for it, which is what a UDP server on the host needs to answer from
// the address it was asked at. A machine without any address has only the one
// in the Pod range, and then the routes prefer that.

// preferred returns the gateways that routes must name as source: those of
// families in which the machine has no address of its own.
func preferred(gateways []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(gateways), hasAddress)
}

// hasAddress says whether the machine has an address of the family that the
// kernel may choose as a source.
func hasAddress(gw netip.Addr) bool {
	addrs, err := network.Addresses(nil, network.Family(gw))
	if err != nil {
		return false
	}
	return slices.ContainsFunc(addrs, func(a netlink.Addr) bool {
		return a.Scope == unix.RT_SCOPE_UNIVERSE && !a.IP.IsLoopback()
	})
}

// sourceFor picks the source of the destination's family, if one is preferred.
func sourceFor(dst netip.Addr, sources []netip.Addr) net.IP {
	for _, s := range sources {
		if s.BitLen() == dst.BitLen() {
			return s.AsSlice()
		}
	}
	return nil
}

// Run keeps what others may take away until the context ends. When the
// machine's last address goes or its first one comes, the routes to Pods and
// Services get or lose their preferred source; when the uplink's MTU changes,
// so does that of the route to Services. Pods keep the one they started with.
// When somebody deletes the table, as restarting a firewall does, its rules
// come back.
func (n *Network) Run(ctx context.Context) error {
	select {
	case <-n.ready:
	case <-ctx.Done():
		return nil
	}
	changed, lost := make(chan struct{}, 1), make(chan struct{}, 1)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return network.Watch(ctx, n.cfg.Host.LinkPrefix, wake(changed)) })
	group.Go(func() error { return nft.Watch(ctx, n.cfg.Host.Table, wake(lost)) })
	group.Go(func() error { return n.follow(ctx, changed, lost) })
	return group.Wait()
}

func wake(c chan<- struct{}) func() {
	return func() {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

func (n *Network) follow(ctx context.Context, changed, lost <-chan struct{}) error {
	had := -1 // what the routes say is not known yet
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-lost:
			err = n.reapplyRules()
		case <-changed:
			if had, err = n.chooseSources(had); err == nil {
				err = n.followMTU()
			}
		}
		if err != nil {
			return err
		}
	}
}

func (n *Network) reapplyRules() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.applyRules(n.pools)
}

// chooseSources rewrites the routes if the number of families without an
// address is not what it was, and returns it.
func (n *Network) chooseSources(had int) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var gateways []netip.Addr
	for _, p := range n.pools {
		gateways = append(gateways, p.gateway())
	}
	sources := preferred(gateways)
	if len(sources) == had {
		return had, nil
	}
	routes, err := network.Routes(netlink.FAMILY_ALL,
		&netlink.Route{Protocol: routeProtocol}, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return had, fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		dst, ok := netip.AddrFromSlice(r.Dst.IP)
		if !ok || r.Type == unix.RTN_UNREACHABLE {
			continue
		}
		if want := sourceFor(dst, sources); !want.Equal(r.Src) {
			r.Src = want
			// A Pod may be gone since the list: then so is its route.
			if err := netlink.RouteReplace(&r); err != nil && !network.IsGone(err) {
				return had, fmt.Errorf("choose the source towards %s: %w", r.Dst, err)
			}
		}
	}
	return len(sources), nil
}
