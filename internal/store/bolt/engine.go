// Package bolt is the embedded engine of the store: one bbolt file, one
// committer.
//
// Engine is what Open returns, from what is there or what Restore made of a
// snapshot; a request is one caller's commit in the queue; a
// batch is what the committer makes of all requests that came in while the disk
// was busy, and becomes one bbolt transaction. The committer is one at a time: a
// goroutine of the engine's, or the caller where nobody else wants anything. The invariant: what was
// acknowledged as durable is on disk together with everything before it, and no
// revision is ever handed out twice. What the file looks like is in the package
// format below this one.
//
// # Lazy writes
//
// A lazy write is acknowledged from memory and comes to disk with the first
// transaction after half of its bucket's window, or in one of its own at the
// window's end; so a record that beats all the time is written at most once per
// half window however many durable commits pass by, which is what SD cards
// care about. The first lazy write to a record that is on disk without being
// listed in "lazy" is made durable, as is one for which no revision is reserved.
//
// # Compaction
//
// When more than half of the file is free, what is in it is copied to a new one
// beside it, a piece at a time, while commits go on. The committer notes what
// they change, and stops for the last piece: at most 1,024 records or 2 MiB, two
// syncs, the copy's renaming and a sync of the directory. Readers that have begun
// finish on the old file. The copy takes the name only when it holds what the
// old file's sequence numbers say.
//
// # Failure
//
// A full disk fails the transaction's callers with store.ErrFull; lazy writes
// and reads go on, and commits succeed again when there is room. Some of the disk
// is set aside for commits that make nothing larger, deletions above all, so
// that these succeed still. A sync error
// is final: the kernel may have dropped what it could not write, so the engine
// refuses all further commits. Panics of bbolt over a damaged file and faults of
// the memory map become errors.
//
// # Beside the file
//
// Each of these has the store's name and then: ".lock", who has it; ".restored",
// the revision that the last restore went on from; ".format-" and a number, a
// file of an older format until the first clean stop after its upgrade. And work
// in progress, which the next Open removes: ".compact", ".upgrade", ".check-" and
// ".restore-".
//
// The package knows no kind and never interprets a value.
package bolt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sync/semaphore"

	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt/format"
)

// Engine is an open store. All methods are safe for concurrent use.
type Engine struct {
	options Options
	path    string
	lock    *os.File

	queue    queue
	room     *semaphore.Weighted // bytes of the queue
	turn     chan struct{}       // holds one while somebody is the committer
	wake     chan struct{}
	crashed  chan string // how a caller's turn ended the process
	closing  chan struct{}
	stopped  chan struct{} // closed when the committer has ended
	failed   chan struct{} // closed after fatal is set
	shutdown sync.Once
	closed   error // what Close returned

	follower  store.Follower
	published atomic.Int64
	stats     counters

	// The committer's own, after Open.
	revision store.Revision // last one handed out
	reserved store.Revision // last one that may be handed out lazily
	fatal    error          // why nothing can be committed any more
	retryAt  time.Time      // no lazy flush before, after one that failed
	armed    time.Time      // when run wakes up for a lazy flush; zero: not at all
	usable   int64          // bytes of the file that are free
	setAside int64          // … and up to where the disk keeps it room to grow

	// mu makes a transaction and the lazy writes that go with it one step for
	// readers: it guards all below, and is held while bbolt commits. The
	// committer, which alone changes db and pending, reads them without it.
	mu      sync.RWMutex
	db      *database
	pending pending
	copying *changed // nil unless a compaction is under way
	// swap guards which file has the store's name, and the figures about it.
	swap sync.Mutex

	compacting chan struct{}    // holds one while somebody compacts
	compactAt  atomic.Int64     // no compaction of its own accord before, in Unix seconds
	copied     chan *compaction // those that are all but done
	background sync.WaitGroup   // compactions, and closing of what they replaced
}

type counters struct {
	written, commits, operations, syncs, compactions atomic.Int64
	lazy, used, free                                 atomic.Int64 // bytes
	pause                                            atomic.Int64 // of the last compaction, in nanoseconds
}

// Open opens or creates the store in the file at path, and waits for nobody:
// when another process has it, the error is a *LockedError.
func Open(path string, options Options) (*Engine, error) { return open(path, options, oldFormats()) }

func open(path string, options Options, formats map[byte]oldFormat) (*Engine, error) {
	options = options.withDefaults()
	lock, err := prepare(path)
	if err != nil {
		return nil, err
	}
	e := &Engine{
		options: options,
		path:    path,
		lock:    lock,
		room:    semaphore.NewWeighted(options.QueueBytes),
		turn:    make(chan struct{}, 1),
		wake:    make(chan struct{}, 1),
		crashed: make(chan string, 1),
		closing: make(chan struct{}),
		stopped: make(chan struct{}),
		failed:  make(chan struct{}),
		pending: newPending(options),

		compacting: make(chan struct{}, 1),
		copied:     make(chan *compaction),
	}
	if err := guard(func() error { return e.open(formats) }); err != nil {
		if e.db != nil {
			e.db.Close()
		}
		lock.Close()
		return nil, fmt.Errorf("open store %s: %w", path, accessError(path, err))
	}
	go e.run()
	return e, nil
}

// prepare makes the directory and takes the lock.
func prepare(path string) (lock *os.File, err error) {
	if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
		if info, statErr := os.Stat(path); statErr == nil && info.IsDir() {
			err = syscall.EISDIR
		}
	}
	if err == nil {
		lock, err = lockFile(path)
	}
	var locked *LockedError
	if err != nil && !errors.As(err, &locked) {
		err = fmt.Errorf("open store %s: %w", path, accessError(path, err))
	}
	return lock, err
}

// open opens the file and finds out where it stands.
func (e *Engine) open(formats map[byte]oldFormat) error {
	if err := removeLeftovers(e.path); err != nil {
		return err
	}
	if err := format.VerifyPages(e.path); err != nil {
		return diskError(err)
	}
	db, err := openDatabase(e.path, e.options.NoSync)
	if err != nil {
		return err
	}
	e.db = db
	if err := e.upgrade(formats); err != nil {
		return err
	}
	if err := e.recover(); err != nil {
		return err
	}
	return e.measure()
}

// removeLeftovers removes what a process that ended early was making.
func removeLeftovers(path string) error {
	restores, _ := filepath.Glob(path + restoreSuffix + "*") // the patterns are right
	checks, _ := filepath.Glob(path + checkSuffix + "*")
	for _, left := range slices.Concat(restores, checks, []string{path + compactSuffix, path + upgradeSuffix}) {
		if err := os.RemoveAll(left); err != nil {
			return err
		}
	}
	return nil
}

// Follow sets the one follower. It is called before the first Commit.
func (e *Engine) Follow(follower store.Follower) { e.follower = follower }

// Revision returns the last revision published.
func (e *Engine) Revision() store.Revision { return store.Revision(e.published.Load()) }

// Barrier returns the current revision: there is nobody else who could have
// committed.
func (e *Engine) Barrier(context.Context) (store.Revision, error) { return e.Revision(), nil }

// Snapshot writes a copy of the file, lazy writes included. When the disk is
// full or can no longer be written to, which is when a copy is wanted most, the
// copy has what is on disk. Who opens it continues behind every revision that
// had been handed out.
func (e *Engine) Snapshot(ctx context.Context, w io.Writer) error {
	var fatal *fatalError
	err := e.Flush(ctx)
	if err != nil && !errors.Is(err, store.ErrFull) && !errors.As(err, &fatal) {
		return fmt.Errorf("snapshot store: %w", err)
	}
	err = e.view(func(tx *bbolt.Tx) error {
		_, err := tx.WriteTo(contextWriter{ctx, w})
		return err
	})
	if err != nil {
		return fmt.Errorf("snapshot store: %w", err)
	}
	return nil
}

// view runs fn over a consistent state of what is on disk.
func (e *Engine) view(fn func(*bbolt.Tx) error) error {
	return e.viewFile(func(_ *os.File, tx *bbolt.Tx) error { return fn(tx) })
}

// viewFile does so with the file that the state is in.
func (e *Engine) viewFile(fn func(*os.File, *bbolt.Tx) error) error {
	return guard(func() error {
		e.mu.RLock()
		db, tx, err := e.begin()
		e.mu.RUnlock()
		if err != nil {
			return err
		}
		defer db.undo(tx)
		return fn(db.file, tx)
	})
}

// begin starts a reading transaction, for who holds mu.
func (e *Engine) begin() (db *database, tx *bbolt.Tx, err error) {
	err = guard(func() (err error) {
		tx, err = e.db.begin(false)
		return err
	})
	return e.db, tx, err
}

// measure notes how much of the file is in use.
func (e *Engine) measure() error {
	tx, err := e.db.begin(false)
	if err != nil {
		return err
	}
	e.stats.used.Store(tx.Size())
	defer e.countFree()
	return e.db.undo(tx)
}

// countFree notes how much of what the file has in use is free.
func (e *Engine) countFree() {
	stats := e.db.Stats()
	free, pending := int64(stats.FreePageN)*pageSize, int64(stats.PendingPageN)*pageSize
	e.stats.free.Store(free + pending)
	if e.usable = free; stats.OpenTxN == 0 {
		e.usable += pending // no reader holds on to them
	}
}

// Stats returns figures about the file and the work done.
func (e *Engine) Stats() store.Stats {
	e.swap.Lock()
	defer e.swap.Unlock()
	s := store.Stats{
		WrittenBytes: e.stats.written.Load(),
		Commits:      e.stats.commits.Load(),
		Operations:   e.stats.operations.Load(),
		Syncs:        e.stats.syncs.Load(),
		Compactions:  e.stats.compactions.Load(),
		LazyBytes:    e.stats.lazy.Load(),
		FreeBytes:    e.stats.free.Load(),
	}
	if info, err := os.Stat(e.path); err == nil {
		s.FileBytes = info.Size()
	}
	return s
}

// Failed is closed when nothing can be committed any more; Err then says why.
// Opening the store anew reads what is on disk, which nobody else can tell.
func (e *Engine) Failed() <-chan struct{} { return e.failed }

// Err returns why nothing can be committed any more, nil while it can.
func (e *Engine) Err() error {
	select {
	case <-e.failed:
		return e.fatal
	default:
		return nil
	}
}

// Close finishes what is queued, writes what is lazy and releases the file. It
// is idempotent.
func (e *Engine) Close() error {
	e.shutdown.Do(func() {
		e.queue.close()
		close(e.closing)
		<-e.stopped
		e.compacting <- struct{}{} // whoever compacts has noticed
		e.background.Wait()
		if e.closed == nil {
			dropOldFormats(e.path)
		}
		if err := e.db.Close(); err != nil && e.closed == nil {
			e.closed = fmt.Errorf("close store %s: %w", e.path, err)
		}
		e.lock.Close()
	})
	return e.closed
}

// Buckets returns the names of the buckets that have or had records, in order.
func (e *Engine) Buckets(context.Context) ([]string, error) {
	var names []string
	err := e.view(func(tx *bbolt.Tx) error {
		return eachBucket(tx, func(bucket string, _ *bbolt.Bucket) error {
			names = append(names, bucket)
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list buckets of the store: %w", err)
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.pending.buckets(names), nil
}
