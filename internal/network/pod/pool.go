package pod

import (
	"fmt"
	"net/netip"
)

// pool hands out the addresses of one prefix in turn, so that an address that
// was freed is the last to be used again. The first address is the node's own,
// the network's and the broadcast address of IPv4 stay unused. Callers lock.
type pool struct {
	prefix netip.Prefix
	last   netip.Addr // handed out most recently
	taken  map[netip.Addr]string
}

func newPool(prefix netip.Prefix) (*pool, error) {
	prefix = prefix.Masked()
	if prefix.Addr().BitLen()-prefix.Bits() < 2 {
		return nil, fmt.Errorf("Pod CIDR %s has no room for Pods; give a larger --cluster-cidr", prefix)
	}
	p := &pool{prefix: prefix, taken: map[netip.Addr]string{}}
	p.last = p.gateway()
	return p, nil
}

// gateway is the node's own address in the prefix.
func (p *pool) gateway() netip.Addr { return p.prefix.Addr().Next() }

// take notes an address that a Pod has already. One outside of the prefix is
// left alone.
func (p *pool) take(a netip.Addr, uid string) {
	if !p.prefix.Contains(a) {
		return
	}
	p.taken[a] = uid
	if p.last.Less(a) {
		p.last = a
	}
}

// again hands out the first of some addresses that can be had, or else the next.
func (p *pool) again(uid string, former []netip.Addr) (netip.Addr, error) {
	for _, a := range former {
		_, used := p.taken[a]
		if !used && p.gateway().Less(a) && p.prefix.Contains(a) && !p.broadcast(a) {
			p.take(a, uid)
			return a, nil
		}
	}
	return p.next(uid)
}

// next hands out an address.
func (p *pool) next(uid string) (netip.Addr, error) {
	a := p.last
	for range len(p.taken) + 4 { // more than those that cannot be had
		a = a.Next()
		if !p.prefix.Contains(a) {
			a = p.gateway()
			continue
		}
		if _, used := p.taken[a]; used || a == p.gateway() || p.broadcast(a) {
			continue
		}
		p.taken[a], p.last = uid, a
		return a, nil
	}
	return netip.Addr{}, fmt.Errorf("no free address in Pod CIDR %s: %d are in use; delete Pods or give nodes a larger share of the Pod range", p.prefix, len(p.taken))
}

func (p *pool) broadcast(a netip.Addr) bool { return a.Is4() && !p.prefix.Contains(a.Next()) }

func (p *pool) release(uid string) {
	for a, u := range p.taken {
		if u == uid {
			delete(p.taken, a)
		}
	}
}
