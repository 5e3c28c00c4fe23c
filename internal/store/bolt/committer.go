package bolt

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"

	"go.uber.org/zap"

	"github.com/skiff-sh/skiff/internal/store"
)

// flushRetry is how long a failed flush of lazy writes waits.
const flushRetry = time.Minute

// Whoever has the turn is the committer, the only one who writes: run, or a caller
// who found nobody at it. Who ends a turn sees to it that what was queued meanwhile
// is not forgotten.

// run takes the turn whenever somebody wants something done. It ends when Close has
// been called and everything queued has been answered.
func (e *Engine) run() {
	defer close(e.stopped)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-e.wake:
			e.takeTurn()
		case <-timer.C:
			e.takeTurn()
			e.flushIfDue()
		case c := <-e.copied:
			e.takeTurn()
			c.placed <- e.place(c)
		case crash := <-e.crashed:
			panic(crash)
		case <-e.closing:
			e.takeTurn()
			e.drain()
			e.closed = e.finish()
			<-e.turn
			return
		}
		e.drain()
		e.arm(timer)
		e.endTurn()
	}
}

func (e *Engine) takeTurn() {
	select {
	case e.turn <- struct{}{}:
	case crash := <-e.crashed:
		panic(crash)
	}
}

func (e *Engine) endTurn() {
	at, ok := e.flushAt()
	wanted := ok && (e.armed.IsZero() || at.Before(e.armed))
	<-e.turn
	if wanted || e.queue.len() > 0 {
		e.wakeUp()
	}
}

func (e *Engine) wakeUp() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// lead has the caller, who has queued a request, be the committer for a transaction
// unless somebody is: a lone writer then waits for the disk, and not for two
// goroutines to have their turns as well. Otherwise whoever ends the turn sees what
// was queued.
func (e *Engine) lead() {
	select {
	case e.turn <- struct{}{}:
	default:
		return
	}
	led := false
	defer func() {
		if !led {
			// Half of what a commit does has happened: this is not the caller's to
			// recover from, who waits until the process has ended.
			e.crashed <- fmt.Sprintf("%v\n%s", recover(), debug.Stack())
		}
	}()
	if requests := e.queue.take(e.options.BatchBytes); len(requests) > 0 {
		e.process(requests)
		e.flushIfDue()
	}
	led = true
	e.endTurn()
}

// drain processes what is queued until there is nothing more. Who never pauses
// does not keep from the disk what is due there.
func (e *Engine) drain() {
	for {
		requests := e.queue.take(e.options.BatchBytes)
		if len(requests) == 0 {
			return
		}
		e.process(requests)
		e.flushIfDue()
		select {
		case c := <-e.copied:
			c.placed <- e.place(c)
		default:
		}
		e.gather()
	}
}

// gather lets the callers just answered queue what they have next, so that it
// comes into one transaction and not into the one after the next. It takes
// microseconds, and nothing when nobody else wants to run.
func (e *Engine) gather() {
	for before := -1; ; {
		n := e.queue.len()
		if n == before {
			return
		}
		before = n
		runtime.Gosched()
	}
}

// arm sets the timer to the time when a lazy write must go to disk, and leaves
// it off while there is none.
func (e *Engine) arm(timer *time.Timer) {
	timer.Stop()
	e.armed = time.Time{}
	if at, ok := e.flushAt(); ok {
		e.armed = at
		timer.Reset(time.Until(at))
	}
}

// flushAt returns when a lazy write must go to disk; ok is false when there is
// none, or no disk.
func (e *Engine) flushAt() (at time.Time, ok bool) {
	at, ok = e.pending.deadline()
	if at.Before(e.retryAt) {
		at = e.retryAt
	}
	return at, ok && e.fatal == nil
}

// flushIfDue writes lazy values in a transaction of their own once one must go to
// disk.
func (e *Engine) flushIfDue() {
	if at, ok := e.flushAt(); !ok || time.Now().Before(at) {
		return
	}
	if err := e.transact(nil, commitMode{durable: true, flush: true}); err != nil {
		e.retryAt = time.Now().Add(flushRetry)
		e.options.Log.Warn("write lazy values; they stay in memory", zap.Error(err))
	}
}

// finish writes everything that is lazy and notes that the stop was clean.
func (e *Engine) finish() error {
	if e.fatal != nil {
		return e.fatal
	}
	if len(e.pending.byKey) == 0 && e.reserved == e.revision {
		return nil
	}
	if err := e.transact(nil, commitMode{durable: true, all: true, last: true}); err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	return nil
}

// process commits requests and answers them.
func (e *Engine) process(requests []*request) {
	mode := commitMode{}
	for _, r := range requests {
		mode.all = mode.all || r.flush
		mode.durable = mode.durable || r.flush || !r.lazy
	}
	err := e.transact(requests, mode)
	if errors.Is(err, errNeedsDisk) {
		mode.durable = true
		err = e.transact(requests, mode)
	}
	switch {
	case err == nil:
	case errors.Is(err, store.ErrFull):
		e.setAside = 0 // it was not enough
		e.withoutDisk(requests, err)
	case errors.Is(err, store.ErrDamaged) && len(requests) > 1 && e.fatal == nil:
		// Whoever touches the damage fails alone.
		for i := range requests {
			e.process(requests[i : i+1])
		}
	default:
		fail(requests, err)
	}
}

// withoutDisk answers requests that met a full disk: lazy ones can do without,
// and of many that make nothing larger each takes less than all of them.
func (e *Engine) withoutDisk(requests []*request, full error) {
	var lazy []*request
	for i, r := range requests {
		switch {
		case r.lazy:
			lazy = append(lazy, r)
		case len(requests) > 1:
			e.process(requests[i : i+1])
		default:
			fail(requests[i:i+1], full)
		}
	}
	if len(lazy) > 0 && e.transact(lazy, commitMode{}) != nil {
		fail(lazy, full)
	}
}

// fail answers requests with an error.
func fail(requests []*request, err error) {
	for _, r := range requests {
		r.revisions, r.err = nil, err
		close(r.done)
	}
}

// commitMode says what a transaction is for.
type commitMode struct {
	durable bool // writes to disk
	all     bool // … every lazy value, whatever its age
	flush   bool // … for the sake of lazy values alone
	last    bool // … before a clean end
}

// transact brings requests into one transaction, publishes what changed and
// answers them. On an error nothing has happened, and nobody was answered.
func (e *Engine) transact(requests []*request, mode commitMode) error {
	if e.fatal != nil {
		return e.fatal
	}
	b := &batch{
		engine: e, durable: mode.durable, now: time.Now(), revision: e.revision,
		staged: map[store.Key]*lazyWrite{},
	}
	if e.pending.bytes > e.options.LazyBytes {
		mode.all = true
	}
	if err := guard(func() error { return e.fill(b, requests, mode) }); err != nil {
		return err
	}
	if b.done.Bytes > 0 && e.options.Observe != nil {
		b.done.Requests = len(requests)
		e.options.Observe(b.done)
	}
	e.revision = b.revision
	e.stats.operations.Add(int64(len(b.changes)))
	if len(b.changes) > 0 {
		if e.follower != nil {
			e.follower(b.changes)
		}
		e.published.Store(int64(b.revision))
	}
	for _, r := range requests {
		close(r.done)
	}
	return nil
}

// fill runs the transaction itself.
func (e *Engine) fill(b *batch, requests []*request, mode commitMode) error {
	tx, err := e.db.begin(mode.durable)
	if err != nil {
		return err
	}
	defer func() {
		if err := e.db.undo(tx); err != nil && e.fatal == nil {
			e.giveUp(err)
		}
	}()
	if mode.durable {
		used := tx.Size()
		e.stats.used.Store(used)
		if b.roomy, err = e.reserve(used, e.needs(requests, mode)); err != nil {
			return err
		}
	}
	b.space = newKeyspace(tx)
	for _, r := range requests {
		broken, err := b.add(r)
		if broken != nil {
			return broken
		}
		r.err = err
	}
	if mode.durable {
		return e.seal(b, mode)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	b.settle()
	return nil
}

// needs is how much larger the file becomes at most.
func (e *Engine) needs(requests []*request, mode commitMode) (bytes int64) {
	for _, r := range requests {
		bytes += r.room
	}
	if mode.all {
		bytes += int64(e.pending.bytes + len(e.pending.byKey)*pagesPerPut*pageSize)
	}
	return bytes
}

// seal completes a durable transaction and brings it to disk, unless there is
// nothing in it.
func (e *Engine) seal(b *batch, mode commitMode) error {
	if b.roomy || mode.last {
		if err := b.carry(mode.all); err != nil {
			return err
		}
	} else if mode.flush {
		return errKept
	}
	if len(b.changes) == 0 && len(b.written) == 0 && !mode.last {
		return nil
	}
	reserved := b.revision + store.Revision(e.options.Reserve)
	if mode.last {
		reserved = b.revision
	}
	if err := b.space.seal(b.revision, reserved); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.commit(b); err != nil {
		return err
	}
	b.settle()
	e.reserved = reserved
	if e.copying != nil {
		b.note(e.copying)
	}
	e.considerCompaction()
	return nil
}

// giveUp notes what no later commit can mend, once.
func (e *Engine) giveUp(cause error) {
	e.fatal = &fatalError{cause}
	close(e.failed)
}

// commit writes a transaction and counts what it cost. An error other than a
// full disk is the end of all writing.
func (e *Engine) commit(b *batch) error {
	tx, start := b.space.tx, time.Now()
	done := false
	defer func() {
		if !done {
			e.giveUp(store.ErrDamaged) // bbolt panicked half-way
		}
	}()
	err := tx.Commit()
	done = true
	if err != nil {
		if err = diskError(err); errors.Is(err, store.ErrFull) {
			return err
		}
		e.giveUp(err)
		return e.fatal
	}
	stats := tx.Stats()
	written := stats.GetPageAlloc() + pageSize
	b.done = Transaction{Operations: b.writes, Bytes: written, Took: time.Since(start)}
	e.stats.written.Add(written)
	e.stats.commits.Add(1)
	e.stats.syncs.Add(2)
	e.countFree()
	return nil
}
