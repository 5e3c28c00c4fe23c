package mesh

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// peer is another node, as far as the way to it goes.
type peer struct {
	name string
	pods netip.Prefix // its share of the Pod range
	node netip.Addr   // its own address; not valid if it has none that will do
}

// gateway is a node's own address in its share of the Pod range.
func gateway(share netip.Prefix) netip.Addr { return share.Addr().Next() }

// beacon is the address at which a node answers probes, and nothing else: a
// route that follows the path under test leads to it, and answers to the peer's
// own probes, which go to its gateway, keep to the path in use.
func beacon(share netip.Prefix) netip.Addr { return share.Addr() }

// strip keeps of a Node what the mesh looks at: Nodes are large.
func strip(obj any) (any, error) {
	node, is := obj.(*corev1.Node)
	if !is {
		return obj, nil
	}
	kept := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: node.Name, ResourceVersion: node.ResourceVersion, CreationTimestamp: node.CreationTimestamp,
		},
		Spec: corev1.NodeSpec{PodCIDRs: node.Spec.PodCIDRs},
	}
	for _, a := range node.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			kept.Status.Addresses = append(kept.Status.Addresses, a)
		}
	}
	return kept, nil
}

// same says whether two stripped Nodes mean the same to the mesh.
func same(a, b *corev1.Node) bool {
	return slices.Equal(a.Spec.PodCIDRs, b.Spec.PodCIDRs) && slices.Equal(a.Status.Addresses, b.Status.Addresses)
}

// roster is who is in the mesh.
type roster struct {
	own     netip.Prefix // this node's share; not valid without
	peers   []peer
	refused []string // what Nodes claim and do not get, for people
}

// newRoster reads the Nodes. A share of the Pod range that overlaps with one of
// an older Node's, or lies outside of the range, is nobody's: a node says itself
// what it claims, and must not get what is another's. Only IPv4, as everywhere.
func newRoster(nodes []*corev1.Node, self string, ranges []netip.Prefix) roster {
	slices.SortFunc(nodes, func(a, b *corev1.Node) int {
		return cmp.Or(
			cmp.Compare(rank(a, self), rank(b, self)),
			a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
			cmp.Compare(a.Name, b.Name),
		)
	})
	var r roster
	var taken claims
	for _, n := range nodes {
		share, ok := podRange(n)
		if !ok {
			continue
		}
		if !within(share, ranges) {
			r.refused = append(r.refused, fmt.Sprintf("%s of node %s is not of the Pod range", share, n.Name))
			continue
		}
		if by := taken.add(share, n.Name); by != "" {
			r.refused = append(r.refused, fmt.Sprintf("%s of node %s overlaps with that of node %s", share, n.Name, by))
			continue
		}
		if n.Name == self {
			r.own = share
			continue
		}
		r.peers = append(r.peers, peer{name: n.Name, pods: share, node: address(n, ranges)})
	}
	return r
}

func rank(n *corev1.Node, self string) int {
	if n.Name == self {
		return 0
	}
	return 1
}

func podRange(n *corev1.Node) (netip.Prefix, bool) {
	for _, text := range n.Spec.PodCIDRs {
		p, err := netip.ParsePrefix(text)
		if err == nil && p.Addr().Is4() && p == p.Masked() && p.Bits() <= 30 {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

func within(p netip.Prefix, ranges []netip.Prefix) bool {
	return slices.ContainsFunc(ranges, func(r netip.Prefix) bool { return r.Bits() <= p.Bits() && r.Contains(p.Addr()) })
}

// address is where packets for the node may be sent.
func address(n *corev1.Node, ranges []netip.Prefix) netip.Addr {
	for _, a := range n.Status.Addresses {
		ip, err := netip.ParseAddr(a.Address)
		if err == nil && ip.Is4() && ip.IsGlobalUnicast() && !within(netip.PrefixFrom(ip, 32), ranges) {
			return ip
		}
	}
	return netip.Addr{}
}

// claims are shares that do not overlap, in order.
type claims []claim

type claim struct {
	share netip.Prefix
	node  string
}

// add takes the share, or returns whose it overlaps with.
func (c *claims) add(share netip.Prefix, node string) (by string) {
	i, _ := slices.BinarySearchFunc(*c, share, func(have claim, want netip.Prefix) int {
		return have.share.Addr().Compare(want.Addr())
	})
	for _, at := range []int{i - 1, i} {
		if at >= 0 && at < len(*c) && (*c)[at].share.Overlaps(share) {
			return (*c)[at].node
		}
	}
	*c = slices.Insert(*c, i, claim{share, node})
	return ""
}
