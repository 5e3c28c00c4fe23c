package bolt

import (
	"context"
	"fmt"
	"sync"

	"go.etcd.io/bbolt"

	"github.com/skiff-sh/skiff/internal/store"
)

// request is one caller's commit.
type request struct {
	ops   []store.Op
	bytes int64
	room  int64 // of the file, at most
	flush bool  // write all that is lazy
	lazy  bool  // may be acknowledged from memory
	// revisions and err are the outcome, to be read after done.
	revisions []store.Revision
	err       error
	done      chan struct{}
}

// queue is what waits for the committer.
type queue struct {
	mu       sync.Mutex // guards all below
	requests []*request
	closed   bool
}

// add appends a request unless the queue is closed.
func (q *queue) add(r *request) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.requests = append(q.requests, r)
	return true
}

// withdraw takes a request out again; false means that it was taken before.
func (q *queue) withdraw(r *request) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.requests {
		if q.requests[i] == r {
			q.requests = append(q.requests[:i:i], q.requests[i+1:]...)
			return true
		}
	}
	return false
}

// take removes as many requests as fit into limit bytes, one at least if there
// is any.
func (q *queue) take(limit int64) []*request {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, bytes := 0, int64(0)
	for n < len(q.requests) && (n == 0 || bytes+q.requests[n].bytes <= limit) {
		bytes += q.requests[n].bytes
		n++
	}
	taken := q.requests[:n:n]
	if q.requests = q.requests[n:]; len(q.requests) == 0 {
		q.requests = nil
	}
	return taken
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.requests)
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
}

// opBytes is what an operation is counted with beside its key and value.
const opBytes = 64

// Commit implements store.Engine.
func (e *Engine) Commit(ctx context.Context, ops []store.Op) ([]store.Revision, error) {
	r := &request{ops: ops, lazy: true, done: make(chan struct{})}
	for i := range ops {
		op := &ops[i]
		if op.Key.Bucket == "" || op.Key.Name == "" || len(op.Key.Name) > bbolt.MaxKeySize {
			return nil, fmt.Errorf("commit %q: bucket and name must not be empty, nor the name longer than %d bytes", op.Key, bbolt.MaxKeySize)
		}
		r.room += room(op)
		r.bytes += int64(len(op.Value)+len(op.Key.Bucket)+len(op.Key.Name)) + opBytes
		if op.Action != store.Check && !e.options.lazy(op) {
			r.lazy = false
		}
	}
	if err := e.submit(ctx, r); err != nil {
		return nil, err
	}
	return r.revisions, r.err
}

// Flush writes all that is lazy, and returns when it is durable.
func (e *Engine) Flush(ctx context.Context) error {
	r := &request{flush: true, done: make(chan struct{})}
	if err := e.submit(ctx, r); err != nil {
		return err
	}
	return r.err
}

// submit queues a request and waits for its outcome. It returns an error of its
// own only when the request was not taken.
func (e *Engine) submit(ctx context.Context, r *request) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	// One that is larger than the whole queue waits until it is alone.
	weight := min(r.bytes, e.options.QueueBytes)
	if err := e.room.Acquire(ctx, weight); err != nil {
		return err
	}
	defer e.room.Release(weight)
	if !e.queue.add(r) {
		return store.ErrClosed
	}
	e.lead()
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
	}
	if e.queue.withdraw(r) {
		return ctx.Err()
	}
	<-r.done
	return nil
}
