package node

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/skiff-sh/skiff/internal/network"
)

// settleTime is how long the machine's network may take to settle when something
// in it has changed: what sets it up does one thing after the other.
const settleTime = 200 * time.Millisecond

// followAddresses tells who has to know when the machine has another address,
// unless a person has set them.
func (n *node) followAddresses(ctx context.Context) error {
	if len(n.Settings.NodeIPs) > 0 {
		return nil
	}
	return mover{linkPrefix: n.Host.LinkPrefix, log: n.Log, tell: func(former, addresses []netip.Addr) {
		n.policy.SetAddresses(addresses)
		n.pods.SetAddresses(addresses)
		if n.Moved != nil {
			n.Moved(addresses)
		}
		for _, a := range former {
			n.Uplink.Leave(a)
		}
	}}.run(ctx, n.Addresses)
}

// mover notices that the machine has another address than before. One that has
// none for a while keeps the one it had.
type mover struct {
	linkPrefix string // of links that do not count
	tell       func(former, now []netip.Addr)
	log        *zap.Logger
}

// run follows the kernel's news until the context ends.
func (m mover) run(ctx context.Context, present []netip.Addr) error {
	news := make(chan struct{}, 1)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return network.Watch(ctx, m.linkPrefix, func() {
			select {
			case news <- struct{}{}:
			default: // it will be looked at anyway
			}
		})
	})
	group.Go(func() error {
		for settled(ctx, news) {
			present = m.look(present)
		}
		return nil
	})
	return group.Wait()
}

// settled waits for news and for what comes with it. It returns false when the
// context ended.
func settled(ctx context.Context, news <-chan struct{}) bool {
	select {
	case <-ctx.Done():
		return false
	case <-news:
	}
	timer := time.NewTimer(settleTime)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// look returns the addresses that the machine goes by now.
func (m mover) look(present []netip.Addr) []netip.Addr {
	found, err := look(present[0])
	if err != nil {
		m.log.Warn("machine's addresses not read; the node keeps those it had", zap.Error(err))
		return present
	}
	now := []netip.Addr{found}
	if !found.IsValid() || slices.Equal(now, present) {
		return present
	}
	m.log.Info("machine has another address", zap.Stringer("address", found), zap.Stringer("former", present[0]))
	m.tell(present, now)
	return now
}
