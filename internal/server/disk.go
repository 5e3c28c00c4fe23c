package server

import (
	"context"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/store/bolt"
)

// When a disk is called slow. A worn SD card syncs in some tens of
// milliseconds, twice per transaction; beyond slowDisk on average, leases are
// renewed late and people notice.
const (
	slowDisk     = 200 * time.Millisecond
	slowDiskOver = 16               // transactions that the average looks back on
	slowDiskRest = 10 * time.Minute // between two complaints
)

// diskWatch notices when the disk makes the cluster slow.
type diskWatch struct {
	slow chan time.Duration // what a transaction takes on average, when that is much

	// The committer's own.
	average time.Duration
	told    time.Time
}

func newDiskWatch() *diskWatch { return &diskWatch{slow: make(chan time.Duration, 1)} }

// observe notes a transaction. It is the committer that calls, one at a time.
func (d *diskWatch) observe(t bolt.Transaction) {
	d.average += (t.Took - d.average) / slowDiskOver
	if d.average < slowDisk || !d.told.IsZero() && time.Since(d.told) < slowDiskRest {
		return
	}
	select {
	case d.slow <- d.average:
		d.told = time.Now()
	default: // the last complaint is not written yet
	}
}

// run reports slowness until the context ends.
func (d *diskWatch) run(ctx context.Context, report func(context.Context, time.Duration)) error {
	for {
		select {
		case took := <-d.slow:
			report(ctx, took)
		case <-ctx.Done():
			return nil
		}
	}
}

// observe is told of every transaction of the store.
func (s *server) observe(t bolt.Transaction) {
	s.metrics.observe(t)
	s.disk.observe(t)
}

// reportSlowDisk tells people that the disk is slow.
func (s *server) reportSlowDisk(ctx context.Context, took time.Duration) {
	took = took.Round(time.Millisecond)
	s.log.Warn("the disk is slow: writes to the store take long", zap.Duration("average", took))
	s.warnNode(ctx, "SlowDisk",
		"Writing to the store takes %v on average, which makes the cluster slow; see what else uses the disk, or whether it is worn", took)
}

// warnNode records a Warning on this machine's node. A server without a node of
// its own only logs.
func (s *server) warnNode(ctx context.Context, reason, format string, args ...any) {
	if node, ok := s.state.Get(kind.Node, "", s.settings.NodeName); ok {
		s.events.Event(ctx, kind.Node, node, corev1.EventTypeWarning, reason, format, args...)
	}
}
