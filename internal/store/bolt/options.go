package bolt

import (
	"time"

	"go.uber.org/zap"

	"github.com/skiff-sh/skiff/internal/store"
)

// Options are the bounds of an engine; the zero value is good.
type Options struct {
	// LazyWindow is how long a lazy write may stay in memory: 0 is the default
	// of 10 minutes, and with a negative one every write is durable at once.
	// LazyWindows has other values by bucket; there 0 is durable, too.
	LazyWindow  time.Duration
	LazyWindows map[string]time.Duration
	// LazyBytes bounds what lazy writes keep in memory before they are written
	// early, default 8 MiB.
	LazyBytes int
	// Reserve is how many revisions each transaction sets aside for lazy writes
	// after it, default 65,536. A crash skips that many at most.
	Reserve int64
	// BatchBytes bounds one transaction, default 4 MiB; QueueBytes what waits
	// for the disk before Commit blocks, default 16 MiB.
	BatchBytes, QueueBytes int64
	// CompactBytes is how large the file must be to be compacted of its own
	// accord, once more than half of it is free: default 16 MiB, negative never.
	CompactBytes int64
	// NoSync leaves durability to the kernel. For benchmarks and tests.
	NoSync bool
	// Observe is told of every transaction that came to disk, by the committer,
	// so it must not block; nil: nobody is.
	Observe func(Transaction)
	// Log hears of lazy writes that could not be flushed and of compactions; nil:
	// nobody does.
	Log *zap.Logger
}

// Transaction is what one trip to the disk was.
type Transaction struct {
	Requests   int // callers answered
	Operations int // records put and deleted
	Bytes      int64
	Took       time.Duration // writing and syncing
}

func (o Options) withDefaults() Options {
	if o.LazyWindow == 0 {
		o.LazyWindow = 10 * time.Minute
	}
	if o.LazyBytes == 0 {
		o.LazyBytes = 8 << 20
	}
	if o.Reserve == 0 {
		o.Reserve = 1 << 16
	}
	if o.BatchBytes == 0 {
		o.BatchBytes = 4 << 20
	}
	if o.QueueBytes == 0 {
		o.QueueBytes = 16 << 20
	}
	if o.CompactBytes == 0 {
		o.CompactBytes = 16 << 20
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return o
}

// window returns the lazy window of a bucket; its writes are durable when it is
// not positive.
func (o *Options) window(bucket string) time.Duration {
	if window, ok := o.LazyWindows[bucket]; ok {
		return window
	}
	return o.LazyWindow
}

// lazy reports whether an operation may be acknowledged before it is on disk.
func (o *Options) lazy(op *store.Op) bool { return op.Lazy && o.window(op.Key.Bucket) > 0 }
