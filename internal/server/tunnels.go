package server

import (
	"context"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skiff-sh/skiff/internal/controller"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/rest"
	"github.com/skiff-sh/skiff/internal/state"
	"github.com/skiff-sh/skiff/internal/tunnel"
)

// openTunnels opens the server's end of all nodes' tunnels, which is the way to
// every node but the one beside this server.
func (s *server) openTunnels(direct rest.Direct) (rest.Tunnels, error) {
	hub, err := tunnel.NewHub(s.log.Named("tunnel"))
	if err != nil {
		return rest.Tunnels{}, err
	}
	s.tunnels = hub
	s.closers = append(s.closers, func() error { hub.Close(); return nil })
	s.metrics.gauge("skiff_tunnels", "Nodes that have a tunnel to this server.", func() int64 { return int64(hub.Count()) })
	s.metrics.count("skiff_relay_dropped_packets_total", "Packets between nodes whose receiver took none, or not fast enough.",
		func() int64 { return hub.RelayStats().Dropped })
	s.metrics.count("skiff_relay_spoofed_packets_total", "Packets that a node sent under an address that is not its Pods'.",
		func() int64 { return hub.RelayStats().Spoofed })
	way := rest.Tunnels{Hub: hub, Direct: direct}
	if !s.settings.DisableAgent {
		way.Own = s.settings.NodeName
	}
	return way, nil
}

// followPodCIDRs tells the tunnels which node has which Pods' addresses, so that
// packets between nodes that do not reach each other find their way.
func (s *server) followPodCIDRs() controller.Runner {
	return controller.Controller[types.NamespacedName]{
		Name:    "pod-cidr-relay",
		Sources: []controller.Source[types.NamespacedName]{controller.Own(kind.Node)},
		Workers: 1, // of two nodes that claim one range the first has it
		Reconcile: func(_ context.Context, key types.NamespacedName) (time.Duration, error) {
			var ranges []netip.Prefix
			if node, ok := state.Get[*corev1.Node](s.state, kind.Node, "", key.Name); ok {
				for _, text := range node.Spec.PodCIDRs {
					if p, err := netip.ParsePrefix(text); err == nil {
						ranges = append(ranges, p)
					}
				}
			}
			s.tunnels.SetPodCIDRs(key.Name, ranges)
			return 0, nil
		},
	}
}
