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
	addrs, err := listAddrs(nil, family(gw))
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
// Services get or lose their preferred source. When somebody deletes the table,
// as restarting a firewall does, its rules come back.
func (n *Network) Run(ctx context.Context) error {
	// The group's context throughout: when the subscription ends with it, that
	// it has ended can be seen.
	group, ctx := errgroup.WithContext(ctx)
	updates := make(chan netlink.AddrUpdate, 64)
	if err := netlink.AddrSubscribe(updates, ctx.Done()); err != nil {
		return fmt.Errorf("follow the machine's addresses: %w", err)
	}
	select {
	case <-n.ready:
	case <-ctx.Done():
		return nil
	}
	lost := make(chan struct{}, 1)
	group.Go(func() error {
		return nft.Watch(ctx, n.cfg.Host.Table, func() {
			select {
			case lost <- struct{}{}:
			default:
			}
		})
	})
	group.Go(func() error { return n.follow(ctx, updates, lost) })
	return group.Wait()
}

func (n *Network) follow(ctx context.Context, updates <-chan netlink.AddrUpdate, lost <-chan struct{}) error {
	had := -1 // what the routes say is not known yet
	for {
		has, err := n.chooseSources(had)
		if err != nil {
			return err
		}
		had = has
		select {
		case <-ctx.Done():
			return nil
		case <-lost:
			if err := n.reapplyRules(); err != nil {
				return err
			}
		case _, open := <-updates:
			if !open && ctx.Err() == nil {
				return fmt.Errorf("follow the machine's addresses: the kernel ended the subscription")
			}
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
	routes, err := listRoutes(netlink.FAMILY_ALL,
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
			if err := netlink.RouteReplace(&r); err != nil && !isGone(err) {
				return had, fmt.Errorf("choose the source towards %s: %w", r.Dst, err)
			}
		}
	}
	return len(sources), nil
}
