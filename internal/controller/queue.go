package controller

import (
	"container/heap"
	"sync"
	"time"
)

// The delays after failures of one key: doubling from the first to the last,
// as upstream's workqueue.
const (
	firstRetry = 5 * time.Millisecond
	lastRetry  = 1000 * time.Second
)

// queue holds the keys that are due, and those that will be. A key is in work
// at most once; one that is added meanwhile is due again when its work ends.
type queue[K comparable] struct {
	wake chan struct{} // has a value when next may have something new

	mu       sync.Mutex
	entries  map[K]*entry[K]
	ready    []K
	deadline deadlines[K]
}

// entry is what the queue knows of a key that is due, waits, or is in work.
type entry[K comparable] struct {
	key      K
	queued   bool // in ready
	working  bool
	dirty    bool // added while in work
	failures int
	at       time.Time // of the deadline, zero if there is none
	index    int       // in the heap
}

func newQueue[K comparable]() *queue[K] {
	return &queue[K]{wake: make(chan struct{}, 1), entries: map[K]*entry[K]{}}
}

// add makes a key due now.
func (q *queue[K]) add(key K) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.push(q.entry(key))
}

// take returns a key to work on, or how long until there is one (ok false;
// 0 means: until add or done wakes).
func (q *queue[K]) take() (key K, wait time.Duration, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	for len(q.deadline) > 0 && !q.deadline[0].at.After(now) {
		e := heap.Pop(&q.deadline).(*entry[K])
		e.at = time.Time{}
		q.push(e)
	}
	if len(q.ready) > 0 {
		key, q.ready = q.ready[0], q.ready[1:]
		e := q.entries[key]
		e.queued, e.working = false, true
		if len(q.ready) > 0 {
			q.signal() // another worker may go on
		}
		return key, 0, true
	}
	if len(q.deadline) > 0 {
		wait = q.deadline[0].at.Sub(now)
	}
	return key, wait, false
}

// done ends the work on a key. A failed one is due again after its back-off;
// another after again, if that is not 0.
func (q *queue[K]) done(key K, again time.Duration, failed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.entries[key]
	e.working = false
	if failed {
		again = backOff(e.failures)
		e.failures++
	} else {
		e.failures = 0
	}
	if e.dirty {
		e.dirty = false
		q.push(e)
	}
	if again > 0 {
		q.schedule(e, time.Now().Add(again))
	}
	if !e.queued && e.at.IsZero() {
		delete(q.entries, key)
	}
}

func backOff(failures int) time.Duration {
	if failures > 20 {
		return lastRetry
	}
	return min(firstRetry<<failures, lastRetry)
}

func (q *queue[K]) entry(key K) *entry[K] {
	e := q.entries[key]
	if e == nil {
		e = &entry[K]{key: key}
		q.entries[key] = e
	}
	return e
}

func (q *queue[K]) push(e *entry[K]) {
	switch {
	case e.working:
		e.dirty = true
	case !e.queued:
		e.queued = true
		q.ready = append(q.ready, e.key)
		q.signal()
	}
}

// schedule sets the key's deadline, the earlier one if it has one already.
func (q *queue[K]) schedule(e *entry[K], at time.Time) {
	switch {
	case e.at.IsZero():
		e.at = at
		heap.Push(&q.deadline, e)
	case at.Before(e.at):
		e.at = at
		heap.Fix(&q.deadline, e.index)
	}
	q.signal()
}

func (q *queue[K]) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// deadlines is a heap of entries by time.
type deadlines[K comparable] []*entry[K]

func (d deadlines[K]) Len() int           { return len(d) }
func (d deadlines[K]) Less(i, j int) bool { return d[i].at.Before(d[j].at) }
func (d deadlines[K]) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].index, d[j].index = i, j
}

// Push is of heap.Interface.
func (d *deadlines[K]) Push(x any) {
	e := x.(*entry[K])
	e.index = len(*d)
	*d = append(*d, e)
}

// Pop is of heap.Interface.
func (d *deadlines[K]) Pop() any {
	old := *d
	e := old[len(old)-1]
	*d = old[:len(old)-1]
	return e
}
