package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/join"
	"github.com/skiff-sh/skiff/internal/local"
	"github.com/skiff-sh/skiff/internal/pki"
	"github.com/skiff-sh/skiff/internal/store/bolt"
	"github.com/skiff-sh/skiff/internal/version"
)

// RunAgent makes this machine a node of a cluster, or finds that it is one, and
// runs it until the context ends: its Pods run on. Leave ends it for good. It
// returns the first failure of a part, or why the machine cannot join.
func RunAgent(ctx context.Context, settings config.Agent, log *zap.Logger) error {
	host := config.NewHost(settings.DataDir)
	lock, err := lockAgent(host)
	if err != nil {
		return err
	}
	defer lock.Close()
	clock, err := pki.OpenClock(filepath.Join(host.DataDir, "agent", "clock"), version.Date())
	if err != nil {
		return err
	}
	addresses := settings.NodeIPs
	if len(addresses) == 0 {
		if addresses, err = Addresses(); err != nil {
			return err
		}
	}
	r := &resident{
		settings: settings, host: host, clock: clock, log: log,
		quit: make(chan struct{}), away: make(chan struct{}), gone: make(chan error, 1),
		place: place{list: addresses, moved: make(chan struct{}, 1)},
	}
	return errors.Join(r.run(ctx), clock.Past.Save())
}

// agentLock is what an agent holds as long as it runs, where a server holds its
// store.
func agentLock(host config.Host) string { return filepath.Join(host.DataDir, "agent", "agent") }

func lockAgent(host config.Host) (io.Closer, error) {
	if err := os.MkdirAll(filepath.Dir(agentLock(host)), 0o755); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	lock, err := bolt.Lock(agentLock(host))
	var held *bolt.LockedError
	if errors.As(err, &held) {
		return nil, fmt.Errorf("process %d is the agent of %s: stop it, or choose another --data-dir", held.PID, host.DataDir)
	}
	return lock, err
}

// resident is the machine of an agent, from before it joins until it leaves.
type resident struct {
	settings config.Agent
	host     config.Host
	clock    pki.Clock
	log      *zap.Logger
	place    place

	leaving sync.Mutex    // held by the one who makes it leave
	quit    chan struct{} // closed when the node has to end, as the machine leaves
	away    chan struct{} // closed when the node has ended
	gone    chan error    // how the leaving ended

	mu     sync.Mutex       // guards what follows
	member *join.Membership // nil until it has joined
}

// run runs the machine's own socket and, as long as it stays, the node.
func (r *resident) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	ctx, end := context.WithCancel(ctx)
	defer end()
	group.Go(func() error { return local.Serve(ctx, agentSocket(r.host), r.commands()) })
	group.Go(func() error {
		defer end()
		err := r.stay(ctx)
		if p := new(join.Problem); errors.As(err, &p) && p.Replaced {
			err = errors.Join(err, r.giveUp(ctx))
		}
		close(r.away)
		select {
		case <-r.quit:
		default:
			return err
		}
		select {
		case left := <-r.gone:
			return errors.Join(err, left)
		case <-ctx.Done():
			return err
		}
	})
	return group.Wait()
}

// stay joins and runs the node until the context ends or the machine leaves.
func (r *resident) stay(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var watch sync.WaitGroup
	defer watch.Wait()
	defer stop()
	watch.Go(func() {
		select {
		case <-r.quit:
			stop()
		case <-ctx.Done():
		}
	})
	m, err := join.Join(ctx, join.Config{
		Host: r.host, NodeName: r.settings.NodeName, Addresses: r.place.now(),
		Servers: r.settings.Servers, Token: r.settings.Token, Clock: r.clock, Log: r.log.Named("join"),
	})
	if ctx.Err() != nil {
		return nil
	}
	if err != nil && r.settings.Token == "" && r.settings.TokenFile != "" {
		return fmt.Errorf("%w (there is no file %s)", err, r.settings.TokenFile)
	}
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.member = m
	r.mu.Unlock()
	return r.runNode(ctx, m)
}

// runNode runs what a member needs beside the node itself: its certificates and
// its knowledge of the cluster are kept up to date.
func (r *resident) runNode(ctx context.Context, m *join.Membership) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, part := range []func(context.Context) error{
		r.clock.Past.FollowSets,
		m.KeepClient,
		func(ctx context.Context) error { return m.KeepServing(ctx, r.place.now, r.place.moved) },
		m.FollowCluster,
		func(ctx context.Context) error { return Run(ctx, r.config(m)) },
	} {
		group.Go(func() error { return part(ctx) })
	}
	return group.Wait()
}

func (r *resident) config(m *join.Membership) Config {
	return Config{
		Settings:      r.settings.Node,
		Host:          r.host,
		Addresses:     r.place.now(),
		Moved:         r.place.set,
		Uplink:        m.Uplink,
		Checkpoint:    filepath.Join(r.host.DataDir, "agent", "checkpoint", "journal"),
		Authority:     m.Authority,
		Serving:       m.Serving,
		ClusterCIDRs:  m.Cluster.ClusterCIDRs,
		ServiceCIDRs:  m.Cluster.ServiceCIDRs,
		ClusterDNS:    m.Cluster.ClusterDNS,
		ClusterDomain: m.Cluster.ClusterDomain,
		Log:           r.log,
	}
}

// place is where the machine is to be found.
type place struct {
	moved chan struct{} // holds something when list is another than before

	mu   sync.Mutex // guards list
	list []netip.Addr
}

func (p *place) now() []netip.Addr {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.list)
}

func (p *place) set(list []netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list = list
	select {
	case p.moved <- struct{}{}:
	default: // it is known already
	}
}
