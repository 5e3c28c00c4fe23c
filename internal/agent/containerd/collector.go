package containerd

import (
	"context"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/metadata"
	"go.uber.org/zap"
)

// collectDelay gathers deletions that come together into one collection.
const collectDelay = 500 * time.Millisecond

type (
	comparer = diff.Comparer
	applier  = diff.Applier
)

// collector deletes what nothing refers to any more. It runs after deletions
// and once at the start, for what a crash left, and otherwise sleeps.
type collector struct {
	cancel context.CancelFunc
	ended  sync.WaitGroup
}

func startCollector(meta *metadata.DB, log *zap.Logger) *collector {
	ctx, cancel := context.WithCancel(context.Background())
	c := &collector{cancel: cancel}
	wanted := make(chan struct{}, 1)
	wanted <- struct{}{}
	meta.RegisterMutationCallback(func(deleted bool) {
		if deleted {
			select {
			case wanted <- struct{}{}:
			default:
			}
		}
	})
	c.ended.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-wanted:
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(collectDelay):
			}
			if _, err := meta.GarbageCollect(ctx); err != nil && ctx.Err() == nil {
				log.Warn("collect unused images and snapshots", zap.Error(err))
			}
		}
	})
	return c
}

func (c *collector) stop() {
	c.cancel()
	c.ended.Wait()
}
