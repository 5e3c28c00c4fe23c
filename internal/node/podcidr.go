package node

import "net/netip"

// setPodCIDRs tells the network the node's share of the Pod range.
func (n *node) setPodCIDRs(ranges []netip.Prefix) error {
	n.policy.SetPodCIDRs(ranges)
	return n.network.SetPodCIDRs(ranges)
}
