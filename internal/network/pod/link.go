package pod

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/network"
)

const (
	podLink  = "eth0"
	aliasTag = "pod " // an alias is this and the Pod's UID

	routeProtocol = netlink.RouteProtocol(network.PodRoutes)
)

// hostMAC is the hardware address of the host's end of every Pod's link. It
// never leaves the link, and being set explicitly it is not udev's to change.
func hostMAC() net.HardwareAddr { return net.HardwareAddr{0xee, 0xee, 0xee, 0xee, 0xee, 0xee} }

// podMAC derives the Pod's end from the Pod's first address.
func podMAC(a netip.Addr) net.HardwareAddr {
	b := a.AsSlice()
	return append(net.HardwareAddr{0x0a, 0x58}, b[len(b)-4:]...)
}

// podGateway is the address that a Pod's default route names; nobody has it,
// the neighbour entry says where to send.
func podGateway(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.AddrFrom4([4]byte{169, 254, 1, 1})
	}
	return netip.MustParseAddr("fe80::1")
}

func (n *Network) linkName(podUID string) string { return linkName(n.cfg.Host, podUID) }

func linkName(h config.Host, podUID string) string {
	sum := sha256.Sum256([]byte(podUID))
	return h.LinkPrefix + hex.EncodeToString(sum[:])[:network.MaxLinkName-len(h.LinkPrefix)]
}

// ours says whether a link is the host's end of a Pod's.
func ours(h config.Host, l netlink.Link) bool {
	return l.Type() == "veth" && network.IsPodLink(l.Attrs().Name, h.LinkPrefix)
}

// attached reads from the kernel which Pods have which addresses.
func attached(h config.Host) (map[string][]netip.Addr, error) {
	links, err := network.Links()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	byIndex := map[int]string{}
	for _, l := range links {
		if uid, is := strings.CutPrefix(l.Attrs().Alias, aliasTag); is && ours(h, l) {
			byIndex[l.Attrs().Index] = uid
		}
	}
	routes, err := network.Routes(netlink.FAMILY_ALL,
		&netlink.Route{Protocol: routeProtocol}, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	pods := map[string][]netip.Addr{}
	for _, r := range routes {
		uid, is := byIndex[r.LinkIndex]
		if !is || r.Dst == nil {
			continue
		}
		if a, ok := netip.AddrFromSlice(r.Dst.IP); ok {
			pods[uid] = append(pods[uid], a.Unmap())
		}
	}
	return pods, nil
}

// wire makes the Pod's link unless it is whole already. Anything half made is
// made anew.
func (n *Network) wire(podUID, netnsPath string, addrs, gateways []netip.Addr) error {
	ns, err := netns.GetFromPath(netnsPath)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", netnsPath, err)
	}
	defer ns.Close()
	inside, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink in %s: %w", netnsPath, err)
	}
	defer inside.Close()

	name := n.linkName(podUID)
	if whole(name, inside, addrs) {
		return nil
	}
	if err := network.DeleteLink(name); err != nil {
		return err
	}
	mtu := network.PodMTU()
	host, err := addLink(name, podUID, ns, mtu, podMAC(addrs[0]))
	if err != nil {
		return err
	}
	if err := configurePod(inside, addrs); err != nil {
		return errors.Join(err, network.DeleteLink(name))
	}
	carrier, stop, err := awaitCarrier(ns)
	if err != nil {
		return errors.Join(err, network.DeleteLink(name))
	}
	defer stop()
	if err := configureHost(host, addrs, preferred(gateways)); err != nil {
		return errors.Join(err, network.DeleteLink(name))
	}
	carrier()
	return nil
}

// carrierPatience bounds the wait for the kernel to start a link's queue, which
// it does within a millisecond.
const carrierPatience = time.Second

// awaitCarrier returns a wait for the Pod's end to be able to send. The end of a
// pair that came up first gets its queue only some time after the other came
// up, and drops what it is given until then: a peer would try again after a
// second.
func awaitCarrier(ns netns.NsHandle) (wait, stop func(), err error) {
	updates, done := make(chan netlink.LinkUpdate, 64), make(chan struct{})
	err = netlink.LinkSubscribeWithOptions(updates, done, netlink.LinkSubscribeOptions{
		Namespace: &ns, ErrorCallback: func(error) {}, // ends the updates, and with them the wait
	})
	if err != nil {
		return nil, nil, fmt.Errorf("follow the Pod's link: %w", err)
	}
	wait = func() {
		late := time.NewTimer(carrierPatience)
		defer late.Stop()
		for {
			select {
			case u, open := <-updates:
				if !open || u.Attrs().Name == podLink && u.Attrs().OperState == netlink.OperUp {
					return
				}
			case <-late.C:
				return
			}
		}
	}
	return wait, func() { close(done) }, nil
}

// whole says whether the link and all of its addresses and routes are there.
// The host's route is made last, so that it stands for the rest.
func whole(name string, inside *netlink.Handle, addrs []netip.Addr) bool {
	host, err := netlink.LinkByName(name)
	if err != nil {
		return false
	}
	eth, err := inside.LinkByName(podLink)
	if err != nil || eth.Attrs().ParentIndex != host.Attrs().Index {
		return false
	}
	for _, a := range addrs {
		routes, err := network.Routes(network.Family(a),
			&netlink.Route{LinkIndex: host.Attrs().Index, Dst: network.Single(a)}, netlink.RT_FILTER_OIF|netlink.RT_FILTER_DST)
		if err != nil || len(routes) == 0 {
			return false
		}
	}
	return true
}

// addLink makes the pair, the Pod's end right inside the Pod.
func addLink(name, podUID string, ns netns.NsHandle, mtu int, mac net.HardwareAddr) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = name, mtu, hostMAC()
	err := netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: attrs, PeerName: podLink, PeerHardwareAddr: mac,
		PeerNamespace: netlink.NsFd(ns), PeerMTU: uint32(mtu),
	})
	if err != nil {
		return nil, fmt.Errorf("add link %s: %w", name, err)
	}
	host, err := netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("find link %s: %w", name, err)
	}
	if err := netlink.LinkSetAlias(host, aliasTag+podUID); err != nil {
		return nil, errors.Join(fmt.Errorf("name link %s: %w", name, err), network.DeleteLink(name))
	}
	return host, nil
}

func configurePod(inside *netlink.Handle, addrs []netip.Addr) error {
	eth, err := inside.LinkByName(podLink)
	if err != nil {
		return fmt.Errorf("find %s in the Pod: %w", podLink, err)
	}
	if err := inside.LinkSetUp(eth); err != nil {
		return fmt.Errorf("bring %s up in the Pod: %w", podLink, err)
	}
	index := eth.Attrs().Index
	for _, a := range addrs {
		gw := podGateway(a)
		addr := &netlink.Addr{IPNet: network.Single(a)}
		if a.Is6() {
			addr.Flags = unix.IFA_F_NODAD // nobody else is on the link
		}
		if err := inside.AddrAdd(eth, addr); err != nil {
			return fmt.Errorf("add address %s to the Pod: %w", a, err)
		}
		if err := inside.NeighSet(permanentNeighbour(index, gw, hostMAC())); err != nil {
			return fmt.Errorf("add neighbour %s to the Pod: %w", gw, err)
		}
		if err := inside.RouteAdd(&netlink.Route{LinkIndex: index, Dst: network.Single(gw), Scope: netlink.SCOPE_LINK}); err != nil {
			return fmt.Errorf("add route to %s to the Pod: %w", gw, err)
		}
		if err := inside.RouteAdd(&netlink.Route{LinkIndex: index, Dst: everything(a), Gw: gw.AsSlice()}); err != nil {
			return fmt.Errorf("add default route to the Pod: %w", err)
		}
	}
	return nil
}

func configureHost(host netlink.Link, addrs, sources []netip.Addr) error {
	name, index := host.Attrs().Name, host.Attrs().Index
	// Strict: a Pod speaks with its own addresses only.
	if err := network.PrepareLink(name, network.Strict); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(host); err != nil {
		return fmt.Errorf("bring %s up: %w", name, err)
	}
	for _, a := range addrs {
		if err := netlink.NeighSet(permanentNeighbour(index, a, podMAC(addrs[0]))); err != nil {
			return fmt.Errorf("add neighbour %s: %w", a, err)
		}
		r := &netlink.Route{
			LinkIndex: index, Dst: network.Single(a), Scope: netlink.SCOPE_LINK,
			Src: sourceFor(a, sources), Protocol: routeProtocol,
		}
		if err := netlink.RouteReplace(r); err != nil {
			return fmt.Errorf("add route to %s: %w", a, err)
		}
	}
	return nil
}

func permanentNeighbour(index int, a netip.Addr, mac net.HardwareAddr) *netlink.Neigh {
	return &netlink.Neigh{
		LinkIndex: index, Family: network.Family(a), State: netlink.NUD_PERMANENT, IP: a.AsSlice(), HardwareAddr: mac,
	}
}

// deleteStrays deletes links of ours that are no Pod's: what a process killed in
// the middle of Attach leaves has no alias yet.
func (n *Network) deleteStrays() error {
	links, err := network.Links()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	// After the list: a Pod is known before its link is made.
	keep := n.linkNames()
	for _, l := range links {
		if ours(n.cfg.Host, l) && !keep[l.Attrs().Name] {
			if err := network.DeleteLink(l.Attrs().Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// linkNames are the links that Pods have or are about to get.
func (n *Network) linkNames() map[string]bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	names := make(map[string]bool, len(n.pods))
	for uid := range n.pods {
		names[n.linkName(uid)] = true
	}
	return names
}

func everything(a netip.Addr) *net.IPNet {
	return network.Range(netip.PrefixFrom(a, 0).Masked())
}
