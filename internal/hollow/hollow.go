// Package hollow runs many nodes in one process whose containers are only said to
// run, so that what a cluster of a thousand nodes asks of its server can be seen on
// a desk.
//
// Run joins the nodes and runs them. To a server each is what a real one is: it has
// a key, certificates, connections, a Lease, watches and a tunnel of its own, and
// it is run by the agent of real nodes. What is missing is the machine below it.
// The runtime notes what it was told to run and keeps that below the data directory,
// so that a restart finds it; images are all there; probes succeed; addresses are
// from the node's range and lead nowhere. Missing too are those parts of a node that
// program the machine's network (Services, DNS, the way to other nodes) and what it
// remembers for the time without a server. The nodes share nothing but the process
// and its clock.
//
// The invariant: nothing on the machine is touched outside of the data directory,
// and root is not needed.
package hollow

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/local"
	"github.com/skiff-sh/skiff/internal/pki"
	"github.com/skiff-sh/skiff/internal/store/bolt"
	"github.com/skiff-sh/skiff/internal/version"
)

// Run makes hollow nodes members of a cluster, or finds that they are, and runs
// them until the context ends. A node whose name is another machine's waits until it
// gets free. Where joining cannot come to anything, Run returns why; a node that
// ends later ends alone.
func Run(ctx context.Context, settings config.Hollow, log *zap.Logger) error {
	if err := os.MkdirAll(settings.DataDir, 0o700); err != nil {
		return fmt.Errorf("make data directory: %w; name another with --data-dir", err)
	}
	lock, err := bolt.Lock(filepath.Join(settings.DataDir, "hollow"))
	var held *bolt.LockedError
	if errors.As(err, &held) {
		return fmt.Errorf("process %d runs the hollow nodes of %s: stop it, or choose another --data-dir", held.PID, settings.DataDir)
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	clock, err := pki.OpenClock(filepath.Join(settings.DataDir, "clock"), version.Date())
	if err != nil {
		return err
	}
	c := &crowd{
		Hollow: settings, log: log, clock: clock, began: time.Now(),
		places: make(chan struct{}, settings.Joins),
	}
	return errors.Join(c.run(ctx), clock.Past.Save())
}

// crowd are all nodes of the process.
type crowd struct {
	config.Hollow
	log    *zap.Logger
	clock  pki.Clock
	began  time.Time
	places chan struct{} // has one for each node that is joining
	joined atomic.Int64
}

func (c *crowd) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.clock.Past.FollowSets(ctx) })
	group.Go(func() error { return local.Serve(ctx, Socket(c.DataDir), c.handler()) })
	for i := range c.Count {
		group.Go(func() error { return c.node(i).run(ctx) })
	}
	return group.Wait()
}

// joinTime is how long a node that joins may keep others from it: one whose name is
// taken may wait for days.
const joinTime = 15 * time.Second

// enter waits for a place among those that join. leave gives it back.
func (c *crowd) enter(ctx context.Context) (leave func(), err error) {
	select {
	case c.places <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	give := sync.OnceFunc(func() { <-c.places })
	patience := time.AfterFunc(joinTime, give)
	return func() {
		patience.Stop()
		give()
	}, nil
}

// arrived counts a node that has joined.
func (c *crowd) arrived() {
	if c.joined.Add(1) == int64(c.Count) {
		c.log.Info("all nodes have joined", zap.Int("count", c.Count), zap.Duration("after", time.Since(c.began)))
	}
}
