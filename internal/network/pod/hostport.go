package pod

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/network"
	"github.com/skiff-sh/skiff/internal/nft"
)

// hostPort is a port of the node, at one of its addresses or, where the place has
// none, at all of them, and the Pod's port that it leads to, whose family is the
// one that it is for.
type hostPort struct {
	place nft.Place
	to    netip.AddrPort
}

// Expose has what is sent to the host ports of these container ports go to the
// Pod, and what was sent to others of its before no more. The Pod must be
// attached; Detach ends it. A port that another Pod has goes to the one that asks
// last: that two have the same is the scheduler's to prevent. Addresses of the
// loopback work on IPv4 only, as with upstream's network plugin.
func (n *Network) Expose(podUID string, ports []corev1.ContainerPort) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	want, err := hostPortsOf(n.pods[podUID], ports)
	if err == nil {
		err = n.changeHostPorts(podUID, want)
	}
	if err != nil {
		return fmt.Errorf("expose pod %s: %w", podUID, err)
	}
	return nil
}

// hostPortsOf are the host ports among container ports of a Pod with these
// addresses.
func hostPortsOf(addrs []netip.Addr, ports []corev1.ContainerPort) ([]hostPort, error) {
	var all []hostPort
	for _, p := range ports {
		if p.HostPort == 0 {
			continue
		}
		var at netip.Addr
		if p.HostIP != "" {
			var err error
			if at, err = netip.ParseAddr(p.HostIP); err != nil {
				return nil, fmt.Errorf("hostIP: %w", err)
			}
		}
		for _, a := range addrs {
			if at.IsValid() && at.Unmap().Is4() != a.Is4() {
				continue
			}
			place := nft.Place{Proto: protocol(p.Protocol), Port: uint16(p.HostPort)}
			if !at.IsUnspecified() {
				place.Addr = at.Unmap()
			}
			all = append(all, hostPort{place, netip.AddrPortFrom(a, uint16(p.ContainerPort))})
		}
	}
	return all, nil
}

func protocol(p corev1.Protocol) uint8 {
	switch p {
	case corev1.ProtocolUDP:
		return unix.IPPROTO_UDP
	case corev1.ProtocolSCTP:
		return unix.IPPROTO_SCTP
	}
	return unix.IPPROTO_TCP
}

// changeHostPorts gives the Pod these host ports and no others.
func (n *Network) changeHostPorts(podUID string, want []hostPort) error {
	gone := without(n.exposed[podUID], want)
	come := without(want, n.exposed[podUID])
	for uid, has := range n.exposed {
		if uid != podUID {
			gone = append(gone, slices.DeleteFunc(slices.Clone(has), func(h hostPort) bool { return !claimed(h, come) })...)
		}
	}
	if err := n.letLoopbackIn(podUID, want); err != nil || len(gone)+len(come) == 0 {
		return err
	}
	for _, f := range []nft.Family{nft.IPv4, nft.IPv6} {
		// What is noted is what the kernel has, also when the other family fails.
		gone, come := ofFamily(f, gone), ofFamily(f, come)
		if err := n.applyHostPorts(f, gone, come); err != nil {
			return err
		}
		n.noteHostPorts(podUID, gone, come)
	}
	return errors.Join(forgetUDP(netlink.FAMILY_V4, gone, come), forgetUDP(netlink.FAMILY_V6, gone, come))
}

// noteHostPorts notes that nobody has the one, and the Pod the other.
func (n *Network) noteHostPorts(podUID string, gone, come []hostPort) {
	n.exposed[podUID] = append(n.exposed[podUID], come...)
	for uid, has := range n.exposed {
		if n.exposed[uid] = without(has, gone); len(n.exposed[uid]) == 0 {
			delete(n.exposed, uid)
		}
	}
}

func ofFamily(f nft.Family, all []hostPort) []hostPort {
	return slices.DeleteFunc(slices.Clone(all), func(h hostPort) bool { return tableFamily(h.to.Addr()) != f })
}

func without(all, others []hostPort) []hostPort {
	return slices.DeleteFunc(slices.Clone(all), func(h hostPort) bool { return slices.Contains(others, h) })
}

// claimed says whether one of the others is at the same place.
func claimed(h hostPort, others []hostPort) bool {
	return slices.ContainsFunc(others, func(o hostPort) bool {
		return o.place == h.place && o.to.Addr().Is4() == h.to.Addr().Is4()
	})
}

func (n *Network) applyHostPorts(f nft.Family, gone, come []hostPort) error {
	change := nft.Change{Delete: entries(f, gone, false), Add: entries(f, come, true)}
	if change.Empty() {
		return nil
	}
	conn, err := nft.Open(f, n.cfg.Host.Table)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Apply(change)
}

// entries are the elements of a family's maps.
func entries(f nft.Family, ports []hostPort, values bool) []nft.Entries {
	var all []nft.Entries
	for _, anywhere := range []bool{false, true} {
		e := nft.Entries{Set: hostPortMap(f, anywhere)}
		for _, p := range ports {
			if anywhere == p.place.Addr.IsValid() {
				continue
			}
			el := nft.Element{Key: p.place.Encode()}
			if values {
				el.Value = nft.EncodeEndpoint(p.to)
			}
			e.Elements = append(e.Elements, el)
		}
		if len(e.Elements) > 0 {
			all = append(all, e)
		}
	}
	return all
}

// hostPortMap is the map of places with an address, or of those anywhere.
func hostPortMap(f nft.Family, anywhere bool) nft.Set {
	if anywhere {
		return nft.Set{Name: "port-hostport", Key: nft.PortKey(), Data: nft.EndpointValue(f)}
	}
	return nft.Set{Name: "hostport", Key: nft.AddressPortKey(f), Data: nft.EndpointValue(f)}
}

// hostPortRules are the maps and the chains that look into them, before Services do,
// with the host ports there are.
//
// A packet from the loopback to a Pod gets this node's source, and its answer comes
// back to the loopback by the Pod's link: that is let in there, and what a Pod sends
// to the loopback itself is not.
func (n *Network) hostPortRules(f nft.Family) nft.Change {
	places, ports := hostPortMap(f, false), hostPortMap(f, true)
	nat := func(h *nftables.ChainHook) *nft.Hook {
		return &nft.Hook{Type: nftables.ChainTypeNAT, Hook: h, Priority: nftables.ChainPriorityRef(*nftables.ChainPriorityNATDest - 1)}
	}
	change := nft.Change{
		Sets: []nft.Set{places, ports},
		NewChains: []nft.Chain{
			{Name: "hostports-in", Hook: nat(nftables.ChainHookPrerouting), Rules: [][]expr.Any{nft.Jump("hostports")}},
			{Name: "hostports-out", Hook: nat(nftables.ChainHookOutput), Rules: [][]expr.Any{nft.Jump("hostports")}},
			{Name: "hostports", Rules: [][]expr.Any{
				nft.Rule(nft.AddressPort(f), nft.DNAT(f, places.Name)),
				nft.Rule(nft.ToLocal(), nft.Port(), nft.DNAT(f, ports.Name)),
			}},
		},
	}
	if f == nft.IPv4 {
		change.NewChains = append(change.NewChains, nft.Chain{
			Name:  "loopback",
			Hook:  &nft.Hook{Type: nftables.ChainTypeFilter, Hook: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw},
			Rules: [][]expr.Any{nft.Rule(nft.FromLinks(n.cfg.Host.LinkPrefix), nft.To(loopback), nft.Drop())},
		})
	}
	for _, has := range n.exposed {
		change.Add = append(change.Add, entries(f, ofFamily(f, has), true)...)
	}
	return change
}

var loopback = netip.MustParsePrefix("127.0.0.0/8")

// letLoopbackIn has the Pod's link take packets to 127.0.0.1, the answers to what
// was sent from there.
func (n *Network) letLoopbackIn(podUID string, ports []hostPort) error {
	for _, p := range ports {
		if p.to.Addr().Is4() && (!p.place.Addr.IsValid() || p.place.Addr.IsLoopback()) {
			return network.SetSysctl("net/ipv4/conf/"+n.linkName(podUID)+"/route_localnet", "1")
		}
	}
	return nil
}

// readHostPorts reads from the kernel which host ports the attached Pods have.
func (n *Network) readHostPorts() error {
	owners := map[netip.Addr]string{}
	for uid, addrs := range n.pods {
		for _, a := range addrs {
			owners[a] = uid
		}
	}
	n.exposed = map[string][]hostPort{}
	for _, f := range []nft.Family{nft.IPv4, nft.IPv6} {
		conn, err := nft.Open(f, n.cfg.Host.Table)
		if err != nil {
			return err
		}
		found, stray, err := hostPortsIn(conn, f, owners)
		if err == nil && len(stray) > 0 {
			err = conn.Apply(nft.Change{Delete: entries(f, stray, false)})
		}
		conn.Close()
		if err != nil {
			return fmt.Errorf("read host ports: %w", err)
		}
		for _, p := range found {
			uid := owners[p.to.Addr()]
			n.exposed[uid] = append(n.exposed[uid], p)
		}
	}
	return nil
}

// hostPortsIn are those in a family's maps, and those that lead to nobody.
func hostPortsIn(conn *nft.Conn, f nft.Family, owners map[netip.Addr]string) (found, stray []hostPort, err error) {
	for _, anywhere := range []bool{false, true} {
		set := hostPortMap(f, anywhere)
		elements, err := conn.Elements(set)
		if err != nil {
			return nil, nil, err
		}
		for _, el := range elements[set.Name] {
			var p hostPort
			if p.place, err = nft.DecodePlace(el.Key, anywhere); err == nil {
				p.to, err = nft.DecodeEndpoint(el.Value)
			}
			if err != nil {
				return nil, nil, err
			}
			if owners[p.to.Addr()] == "" {
				stray = append(stray, p)
			} else {
				found = append(found, p)
			}
		}
	}
	return found, stray, nil
}

// passedBy matches conntrack's entries of UDP to a host port that do not lead where
// it leads now: a busy client keeps one alive for ever.
type passedBy struct{ gone, come []hostPort }

// MatchConntrackFlow is called for each entry.
func (b passedBy) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	to, ok := netip.AddrFromSlice(f.Forward.DstIP)
	by, ok2 := netip.AddrFromSlice(f.Reverse.SrcIP)
	if f.Forward.Protocol != unix.IPPROTO_UDP || !ok || !ok2 {
		return false
	}
	answers := netip.AddrPortFrom(by.Unmap(), f.Reverse.SrcPort)
	at := func(h hostPort) bool {
		return h.place.Proto == unix.IPPROTO_UDP && h.place.Port == f.Forward.DstPort &&
			(!h.place.Addr.IsValid() || h.place.Addr == to.Unmap())
	}
	// What leads to no Pod yet has the answers of the address that was asked.
	return slices.ContainsFunc(b.gone, func(h hostPort) bool { return at(h) && h.to == answers }) ||
		slices.ContainsFunc(b.come, func(h hostPort) bool { return at(h) && by == to && h.to != answers })
}

// forgetUDP deletes conntrack's entries that changed host ports make wrong. TCP
// connections end by themselves.
func forgetUDP(family netlink.InetFamily, gone, come []hostPort) error {
	if !slices.ContainsFunc(append(slices.Clone(gone), come...), func(h hostPort) bool { return h.place.Proto == unix.IPPROTO_UDP }) {
		return nil
	}
	if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, passedBy{gone, come}); err != nil {
		return fmt.Errorf("delete UDP connections: %w", err)
	}
	return nil
}
