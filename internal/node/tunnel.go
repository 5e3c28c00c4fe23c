package node

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/skiff-sh/skiff/internal/tunnel"
)

// tunnels are what lets servers and other nodes reach a node that cannot be
// dialed: nil where the node runs beside its only server.
type tunnels struct {
	agent   *tunnel.Agent
	packets *tunnel.Packets
}

// openTunnels prepares the node's tunnels, unless it is told another way for
// packets and so that it needs none.
func (n *node) openTunnels() {
	n.policy = tunnel.NewPolicy(apiPort)
	n.policy.SetAddresses(n.Addresses)
	if n.Packets != nil {
		return
	}
	log := n.Log.Named("tunnel")
	packets := tunnel.NewPackets(n.Uplink.Dial, log)
	n.Packets = packets
	n.tunnels = &tunnels{packets: packets, agent: &tunnel.Agent{
		Connect: n.Uplink.Dial, Dial: n.policy.Dial, Packets: packets, Renewed: n.renewed, Log: log,
	}}
}

// renewed returns a channel that is closed when the node has another certificate.
func (n *node) renewed() <-chan struct{} {
	if n.Uplink.Identity == nil {
		return nil
	}
	_, changed := n.Uplink.Identity.Watch()
	return changed
}

// runTunnels keeps the node's tunnels up until the context ends.
func (n *node) runTunnels(ctx context.Context) error {
	if n.tunnels == nil {
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return n.tunnels.agent.Run(ctx) })
	group.Go(func() error { return n.tunnels.packets.Run(ctx) })
	return group.Wait()
}
