package bolt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt/format"
)

// compactSuffix is behind the store's name in that of the copy.
const compactSuffix = ".compact"

const (
	// restRecords and restBytes are the most that may be left for the step for
	// which the committer stops.
	restRecords = 1 << 10
	restBytes   = 2 << 20
	// catchUps is how often a compaction tries to get there.
	catchUps = 50
	// compactRetry is how long no compaction starts of its own accord after
	// one that failed.
	compactRetry = time.Hour
	// spareBytes is what a compaction leaves on the disk for others.
	spareBytes = 8 << 20
)

// Compact makes the file as small as what is in it. Commits go on meanwhile;
// they stop for the last step, in which at most 1,024 records or 2 MiB are
// written, and the file is renamed. It takes as much room on the disk as what is
// in use, and changes nothing when that is not there, or when ctx ends.
func (e *Engine) Compact(ctx context.Context) error {
	select {
	case e.compacting <- struct{}{}:
		defer func() { <-e.compacting }()
	case <-ctx.Done():
		return ctx.Err()
	case <-e.closing:
		return store.ErrClosed
	}
	if err := newCompaction(e).run(ctx); err != nil {
		return fmt.Errorf("compact store: %w", err)
	}
	return nil
}

// considerCompaction starts a compaction when most of the file is free. The
// committer calls it after each transaction, with mu.
func (e *Engine) considerCompaction() {
	select {
	case <-e.closing:
		return
	default:
	}
	used, free := e.stats.used.Load(), e.stats.free.Load()
	if e.options.CompactBytes < 0 || used < e.options.CompactBytes || free*2 < used || e.copying != nil ||
		len(e.compacting) > 0 || time.Now().Unix() < e.compactAt.Load() {
		return
	}
	// Not again while this one has not begun; it has its turn when it succeeds.
	e.compactAt.Store(time.Now().Add(compactRetry).Unix())
	e.background.Go(func() {
		err := e.Compact(context.Background())
		switch {
		case err == nil:
			e.compactAt.Store(0)
			e.options.Log.Info("compacted the store", zap.Int64("before", used), zap.Int64("after", e.stats.used.Load()),
				zap.Duration("pause", time.Duration(e.stats.pause.Load())))
		case !errors.Is(err, store.ErrClosed):
			e.options.Log.Warn("the store stays as large as it is", zap.Error(err))
		}
	})
}

// compaction is a copy of the store that is to take its place.
//
// It reads a piece at a time, each in a transaction of its own, and after each
// piece what the committer has changed behind it: so it never holds on to old
// pages. In the end the copy is compared with the store's own account of what
// it holds.
type compaction struct {
	engine  *Engine
	path    string
	to      *database
	changed *changed
	copier
	closing <-chan struct{}
	placed  chan error // what came of it
}

func newCompaction(e *Engine) *compaction {
	return &compaction{
		engine: e, path: e.path + compactSuffix, changed: newChanged(), closing: e.closing, placed: make(chan error, 1),
	}
}

func (c *compaction) run(ctx context.Context) (err error) {
	if err := c.roomy(c.engine.stats.used.Load() - c.engine.stats.free.Load()); err != nil {
		return err
	}
	if c.to, err = createCopy(c.path); err != nil {
		return err
	}
	inPlace := false
	defer func() {
		c.watch(nil)
		if !inPlace {
			c.to.Close()
			os.Remove(c.path)
		}
	}()
	c.watch(c.changed)
	for !c.end {
		if err := c.step(ctx); err != nil {
			return err
		}
	}
	for range catchUps {
		if c.restIsSmall() {
			inPlace, err = c.place(ctx)
			return err
		}
		if err := c.step(ctx); err != nil {
			return err
		}
	}
	return errors.New("too much is being written; it is tried again when there is less")
}

// watch has the committer note what it changes, or no longer.
func (c *compaction) watch(changed *changed) {
	c.engine.mu.Lock()
	defer c.engine.mu.Unlock()
	c.engine.copying = changed
}

// roomy checks that the disk has so much room, and some for others.
func (c *compaction) roomy(bytes int64) error {
	var stat unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(c.path), &stat); err != nil {
		return fmt.Errorf("ask for the room on the disk: %w", err)
	}
	if available := int64(stat.Bavail) * stat.Bsize; available < bytes+spareBytes {
		return fmt.Errorf("%w: a copy takes %d MiB, %d are there; free some space first", store.ErrFull,
			(bytes+spareBytes)>>20, available>>20)
	}
	return nil
}

func (c *compaction) restIsSmall() bool {
	records, bytes := c.changed.size()
	return records <= restRecords && bytes <= restBytes
}

// step copies a piece, and what has changed before it if that is much or if
// there is nothing else.
func (c *compaction) step(ctx context.Context) error {
	select {
	case <-c.closing:
		return store.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	default:
	}
	if err := c.roomy(copyBytes); err != nil {
		return err
	}
	var again []store.Key
	if _, bytes := c.changed.size(); c.end || bytes > copyBytes {
		again = c.changed.take()
	}
	err := c.transact(func(from *bbolt.Tx, space *keyspace) error {
		if err := c.repeat(from, space, again); err != nil {
			return err
		}
		if err := c.advance(from, space, space.adopt); err != nil {
			return err
		}
		_, err := space.sealBuckets()
		return err
	})
	if err != nil || c.engine.options.NoSync {
		return err
	}
	return c.to.Sync()
}

// transact runs one transaction from the store into the copy.
func (c *compaction) transact(fn func(from *bbolt.Tx, space *keyspace) error) error {
	return c.engine.view(func(from *bbolt.Tx) error {
		return appendTo(c.to, func(space *keyspace) error { return fn(from, space) })
	})
}

// repeat copies records again that were copied before they changed.
func (c *compaction) repeat(from *bbolt.Tx, space *keyspace, keys []store.Key) error {
	source := newKeyspace(from)
	for _, key := range keys {
		if !c.end && compareKeys(key, c.at) > 0 {
			continue
		}
		var record []byte
		if b := source.bucket(key.Bucket); b.Bucket != nil {
			record = b.Get([]byte(key.Name))
		}
		if record != nil {
			if err := space.adopt(key, record); err != nil {
				return err
			}
			continue
		}
		old, err := space.header(key)
		if err == nil {
			err = space.remove(key, old)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// place has the committer do the last step, and waits for it.
func (c *compaction) place(ctx context.Context) (inPlace bool, err error) {
	select {
	case c.engine.copied <- c:
		err = <-c.placed
		c.engine.mu.RLock()
		defer c.engine.mu.RUnlock()
		return c.engine.db == c.to, err
	case <-c.closing:
		return false, store.ErrClosed
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// place puts a copy that is all but done in the place of the file. The
// committer calls it, so that nothing changes meanwhile.
//
// Until the copy has the file's name, whatever happens to it costs the store
// nothing. Both are the same then, so it does not matter which of them a crash
// leaves under the name. But when the name could not be synced, nobody can tell
// which one a power cut would leave, and nothing may be acknowledged any more.
func (e *Engine) place(c *compaction) error {
	if e.fatal != nil {
		return e.fatal
	}
	start := time.Now()
	c.to.NoSync, c.to.NoGrowSync = e.options.NoSync, false
	if err := c.transact(c.complete); err != nil {
		return err
	}
	if err := e.swapTo(c); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(e.path)); err != nil {
		e.giveUp(err)
		return e.fatal
	}
	e.stats.pause.Store(int64(time.Since(start)))
	return nil
}

// swapTo gives the copy the name, and goes on with it.
func (e *Engine) swapTo(c *compaction) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.swap.Lock()
	defer e.swap.Unlock()
	if err := os.Rename(c.path, e.path); err != nil {
		return err
	}
	replaced := e.db
	e.db, e.copying, e.setAside = c.to, nil, 0
	_ = guard(e.measure)
	e.stats.compactions.Add(1)
	e.background.Go(func() {
		if err := replaced.Close(); err != nil { // once its readers are through
			e.options.Log.Warn("close the file that was compacted", zap.Error(err))
		}
	})
	return nil
}

// complete copies the rest, and compares.
func (c *compaction) complete(from *bbolt.Tx, space *keyspace) error {
	if err := c.repeat(from, space, c.changed.take()); err != nil {
		return err
	}
	err := eachBucket(from, func(bucket string, b *bbolt.Bucket) error {
		copied, err := space.ensure(bucket)
		if err == nil && copied.tally != format.Tally(b.Sequence()) {
			err = fmt.Errorf("%w: bucket %s holds %d records or others than the %d it should", store.ErrDamaged,
				bucket, copied.tally.Count(), format.Tally(b.Sequence()).Count())
		}
		return err
	})
	if err != nil {
		return err
	}
	if space.lazyList().tally != newKeyspace(from).lazyList().tally {
		return fmt.Errorf("%w: the list of lazy records is not what it should be", store.ErrDamaged)
	}
	if _, err := space.sealBuckets(); err != nil {
		return err
	}
	state, err := readState(from)
	if err != nil {
		return err
	}
	have, err := tallyBuckets(space.tx)
	if err == nil && have != state.Buckets {
		err = fmt.Errorf("%w: the copy has other buckets", store.ErrDamaged)
	}
	if err != nil {
		return err
	}
	return writeState(space.tx, state)
}
