// Package pod connects Pods to their node: a veth pair each, addresses from
// the node's share of the Pod range, a host route instead of a bridge, and
// what leaves the cluster masqueraded.
//
// Network is the agent's view: Attach, Expose, Detach, Retain. The kernel is the
// only record: the host's end of a Pod's link carries the Pod's UID as its alias,
// its routes are the Pod's addresses, and maps of the nftables table lead host
// ports to these, so that a new process finds what the last one left, and nothing
// is written to disk. Whatever it makes on the
// host is named after config.Host, and Cleanup finds it by that alone.
//
// Inside a Pod the gateway is a fixed link-local address with a permanent
// neighbour entry, the same in every Pod; nothing waits for ARP. The package
// translates sources only: whoever wants a packet's source translated to this
// node's sets MasqueradeMark. It never looks at Services or the API.
package pod

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"go.uber.org/zap"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/network"
)

// MasqueradeMark is the mark bit of packets whose source is translated to one
// of this node's addresses when they leave, as with kube-proxy.
const MasqueradeMark = 0x4000

// Config is what a node's Pod network is made from.
type Config struct {
	Host         config.Host
	PodCIDRs     []netip.Prefix // this node's share; may come later by SetPodCIDRs
	ClusterCIDRs []netip.Prefix // of all Pods
	ServiceCIDRs []netip.Prefix
	Log          *zap.Logger
}

// Network connects the Pods of one node. It is safe for concurrent use, in the
// network namespace that New was called in.
type Network struct {
	cfg   Config
	ready chan struct{} // closed when pools is set

	mu    sync.Mutex // guards what follows
	pools []*pool    // one for each of the node's Pod CIDRs
	mtu   int        // of the route to Services
	pods  map[string][]netip.Addr
	// former are those of pods that were attached before New and that nobody
	// has asked for since.
	former map[string]bool
	// exposed are the Pods' host ports.
	exposed map[string][]hostPort
}

// New reads from the kernel which Pods are attached and, if cfg has the node's
// Pod CIDRs, prepares the host for them.
func New(cfg Config) (*Network, error) {
	n := &Network{cfg: cfg, ready: make(chan struct{}), former: map[string]bool{}}
	pods, err := attached(cfg.Host)
	if err != nil {
		return nil, err
	}
	n.pods = pods
	for uid := range pods {
		n.former[uid] = true
	}
	if err := n.readHostPorts(); err != nil {
		return nil, err
	}
	if len(cfg.PodCIDRs) > 0 {
		if err := n.SetPodCIDRs(cfg.PodCIDRs); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// SetPodCIDRs tells the node's share of the Pod range, known once the Node is
// registered, and prepares the host: forwarding, routes, rules. Attach waits
// for it. Saying the same again is free; Pods that are attached keep their
// addresses when it changes.
func (n *Network) SetPodCIDRs(cidrs []netip.Prefix) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if slices.EqualFunc(n.pools, cidrs, func(p *pool, c netip.Prefix) bool { return p.prefix == c.Masked() }) {
		return nil
	}
	var pools []*pool
	for _, c := range cidrs {
		p, err := newPool(c)
		if err != nil {
			return err
		}
		for uid, addrs := range n.pods {
			for _, a := range addrs {
				p.take(a, uid)
			}
		}
		pools = append(pools, p)
	}
	if len(pools) == 0 {
		return fmt.Errorf("set Pod CIDRs: the node has none; see its spec.podCIDRs and --cluster-cidr")
	}
	if err := n.prepareHost(pools); err != nil {
		return fmt.Errorf("prepare host network: %w", err)
	}
	first := n.pools == nil
	n.pools = pools
	if first {
		close(n.ready)
	}
	n.warnOfConflicts()
	return nil
}

// Attach gives the namespace pinned at netns its link and addresses. It is
// idempotent by Pod UID: a Pod that has addresses keeps them, also across a
// restart of skiff. After a restart of the machine none has, and a Pod gets those
// that it had formerly, if nobody has them now: as long as no server answers,
// Services lead there. It waits for the node's Pod CIDRs until the context ends.
func (n *Network) Attach(ctx context.Context, podUID, netns string, former []netip.Addr) ([]netip.Addr, error) {
	select {
	case <-n.ready:
	case <-ctx.Done():
		return nil, fmt.Errorf("attach pod %s: the node has no Pod CIDR yet: %w", podUID, ctx.Err())
	}
	addrs, gateways, err := n.allocate(podUID, former)
	if err != nil {
		return nil, fmt.Errorf("attach pod %s: %w", podUID, err)
	}
	if err := n.wire(podUID, netns, addrs, gateways); err != nil {
		// The addresses stay the Pod's: the agent tries again or detaches.
		return nil, fmt.Errorf("attach pod %s: %w", podUID, err)
	}
	return addrs, nil
}

// Detach frees what Attach made. A Pod that is not attached is no error.
func (n *Network) Detach(_ context.Context, podUID string) error {
	if err := network.DeleteLink(n.linkName(podUID)); err != nil {
		return fmt.Errorf("detach pod %s: %w", podUID, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.changeHostPorts(podUID, nil); err != nil {
		return fmt.Errorf("detach pod %s: %w", podUID, err)
	}
	delete(n.pods, podUID)
	delete(n.former, podUID)
	for _, p := range n.pools {
		p.release(podUID)
	}
	return nil
}

// Retain detaches every Pod that a former process attached, that is not in the
// list and that nobody has attached since: Pods may come while it works.
func (n *Network) Retain(ctx context.Context, podUIDs []string) error {
	n.mu.Lock()
	for _, uid := range podUIDs {
		delete(n.former, uid)
	}
	gone := slices.Collect(maps.Keys(n.former))
	n.mu.Unlock()
	for _, uid := range gone {
		if !n.isFormer(uid) {
			continue
		}
		if err := n.Detach(ctx, uid); err != nil {
			return err
		}
	}
	return n.deleteStrays()
}

func (n *Network) isFormer(uid string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.former[uid]
}

// allocate returns the Pod's addresses, taking the former or new ones if it has
// none, and the node's own address in the Pod range of each one's family.
func (n *Network) allocate(podUID string, former []netip.Addr) (addrs, gateways []netip.Addr, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.former, podUID)
	for _, p := range n.pools {
		gateways = append(gateways, p.gateway())
	}
	if addrs = n.pods[podUID]; len(addrs) > 0 {
		return addrs, gateways, nil
	}
	for _, p := range n.pools {
		a, err := p.again(podUID, former)
		if err != nil {
			p.release(podUID)
			return nil, nil, err
		}
		addrs = append(addrs, a)
	}
	n.pods[podUID] = addrs
	return addrs, gateways, nil
}
