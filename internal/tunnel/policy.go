package tunnel

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
)

// RefusedError says that a node's policy does not let a server connect there.
type RefusedError struct{ Address, Why string }

func (e *RefusedError) Error() string {
	return fmt.Sprintf("the node does not let the server connect to %s: %s", e.Address, e.Why)
}

// Policy is what of a node's network its servers may reach: the node's own API,
// its Pods, and what runs on its own addresses. A server that was broken into
// gets no further, neither to other machines near the node nor to what the node
// keeps on its loopback. It is safe for concurrent use.
type Policy struct {
	port uint16 // of the node's own API

	mu        sync.Mutex // guards what follows
	addresses []netip.Addr
	pods      []netip.Prefix
}

// NewPolicy returns the policy of a node whose API is on a port.
func NewPolicy(port uint16) *Policy { return &Policy{port: port} }

// SetAddresses says which addresses are the node's own.
func (p *Policy) SetAddresses(addresses []netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.addresses = slices.Clone(addresses)
}

// SetPodCIDRs says which addresses are the node's Pods'.
func (p *Policy) SetPodCIDRs(ranges []netip.Prefix) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pods = slices.Clone(ranges)
}

// Allow returns a RefusedError for what the node's servers may not connect to.
func (p *Policy) Allow(network, address string) error {
	refuse := func(why string) error { return &RefusedError{Address: address, Why: why} }
	if network != "tcp" {
		return refuse("only TCP goes through a tunnel")
	}
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return refuse("expected an IP address and a port")
	}
	ip := to.Addr().Unmap()
	if ip.IsLoopback() {
		if to.Port() != p.port {
			return refuse("of the loopback only the node's own API is open")
		}
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.Contains(p.addresses, ip) || slices.ContainsFunc(p.pods, func(r netip.Prefix) bool { return r.Contains(ip) }) {
		return nil
	}
	return refuse("it is neither the node's address nor one of its Pods'")
}

// Dial connects to what the policy allows. It is a Dialer.
func (p *Policy) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if err := p.Allow(network, address); err != nil {
		return nil, err
	}
	return new(net.Dialer).DialContext(ctx, network, address)
}
