package hollow

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
)

// addresses gives Pods addresses of the node's ranges, which lead nowhere.
type addresses struct {
	ready chan struct{} // closed when the node has ranges

	mu     sync.Mutex // guards what follows
	ranges []netip.Prefix
	pods   map[string][]netip.Addr // by UID
	used   map[netip.Addr]bool
	last   map[netip.Prefix]netip.Addr // given most recently
}

func newAddresses() *addresses {
	return &addresses{
		ready: make(chan struct{}), pods: map[string][]netip.Addr{},
		used: map[netip.Addr]bool{}, last: map[netip.Prefix]netip.Addr{},
	}
}

// setRanges tells the node's share of the Pod range.
func (a *addresses) setRanges(ranges []netip.Prefix) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ranges == nil {
		close(a.ready)
	}
	a.ranges = ranges
}

// Attach implements agent.Network.
func (a *addresses) Attach(ctx context.Context, uid, _ string, former []netip.Addr) ([]netip.Addr, error) {
	select {
	case <-a.ready:
	case <-ctx.Done():
		return nil, fmt.Errorf("the node has no Pod CIDR yet: %w", ctx.Err())
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if have := a.pods[uid]; have != nil {
		return have, nil
	}
	var given []netip.Addr
	for _, r := range a.ranges {
		free, ok := a.pick(r, former)
		if !ok {
			a.free(given)
			return nil, fmt.Errorf("no free address in Pod CIDR %s", r)
		}
		a.used[free] = true
		given = append(given, free)
	}
	a.pods[uid] = given
	return given, nil
}

// Expose implements agent.Network.
func (a *addresses) Expose(string, []corev1.ContainerPort) error { return nil }

// pick returns a free address of a range: a former one, or the next in turn. The
// first two are the network's and the node's.
func (a *addresses) pick(r netip.Prefix, former []netip.Addr) (netip.Addr, bool) {
	first := r.Masked().Addr().Next().Next()
	if i := slices.IndexFunc(former, func(f netip.Addr) bool { return r.Contains(f) && !f.Less(first) && !a.used[f] }); i >= 0 {
		return former[i], true
	}
	next := a.last[r]
	for range len(a.used) + 2 {
		if next = next.Next(); !next.IsValid() || !r.Contains(next) || next.Is4() && !r.Contains(next.Next()) {
			next = first
		}
		if r.Contains(next) && !a.used[next] {
			a.last[r] = next
			return next, true
		}
	}
	return next, false
}

func (a *addresses) free(given []netip.Addr) {
	for _, one := range given {
		delete(a.used, one)
	}
}

// Detach implements agent.Network.
func (a *addresses) Detach(_ context.Context, uid string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.free(a.pods[uid])
	delete(a.pods, uid)
	return nil
}

// Retain implements agent.Network. Nothing is left of a former process.
func (a *addresses) Retain(context.Context, []string) error { return nil }
