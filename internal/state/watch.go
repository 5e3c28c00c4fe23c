package state

import (
	"context"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/store"
)

// Watch is a cursor on a kind's ring of events. Next, Poll and Revision are for
// one goroutine at a time; Stop may come from any.
type Watch struct {
	state *State
	ring  *ring
	in    Interest
	ready chan struct{}

	// Guarded by ring.mu: publish writes them under the lock, the watch's own
	// goroutine under the read lock while pending keeps publish away from next.
	after   store.Revision // events up to here are behind the cursor
	pending bool           // the event with number next is to be delivered
	next    uint64
	err     error
}

// Watch returns a cursor behind the revision after: its first event is the
// first younger one that concerns in. ErrExpired: the ring no longer has all
// of them. ErrFuture: the revision has not been reached.
func (s *State) Watch(k *kind.Kind, in Interest, after store.Revision) (*Watch, error) {
	if after > s.Revision() {
		return nil, ErrFuture
	}
	r := s.table(k).ring
	w := &Watch{state: s, ring: r, in: in, ready: make(chan struct{}, 1), after: after}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, store.ErrClosed
	}
	if after < r.floor {
		return nil, ErrExpired
	}
	if w.next, w.pending = r.find(in, after, r.after(after)); w.pending {
		w.signal()
	}
	r.subs.add(w)
	return w, nil
}

// Oldest returns the oldest revision from which the kind can be watched.
func (s *State) Oldest(k *kind.Kind) store.Revision {
	r := s.table(k).ring
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.floor
}

// ListWatch returns the kind's objects and a cursor on what happens to them
// afterwards, with nothing between. The list is not narrowed: pass in to
// Ascend.
func (s *State) ListWatch(k *kind.Kind, in Interest) (*Snapshot, *Watch) {
	for {
		snapshot := s.Snapshot(k)
		w, err := s.Watch(k, in, snapshot.Revision())
		switch err {
		case nil:
			return snapshot, w
		case ErrExpired:
			// A whole ring went by between the two lines above.
			continue
		}
		w = &Watch{state: s, ring: s.table(k).ring, in: in, ready: make(chan struct{}, 1)}
		w.fail(err)
		return snapshot, w
	}
}

// Next returns the next event and waits for it as long as ctx allows. Errors:
// ErrExpired when the cursor fell behind the ring, store.ErrClosed after Stop
// or when the State was closed, the context's.
func (w *Watch) Next(ctx context.Context) (Event, error) {
	for {
		event, ok, err := w.Poll()
		if ok || err != nil {
			return event, err
		}
		select {
		case <-w.ready:
		case <-ctx.Done():
			return Event{}, ctx.Err()
		}
	}
}

// Poll returns the next event if there is one. Errors are those of Next, and
// final.
func (w *Watch) Poll() (Event, bool, error) {
	r := w.ring
	r.mu.RLock()
	defer r.mu.RUnlock()
	if w.err != nil || !w.pending {
		return Event{}, false, w.err
	}
	if w.next < r.first {
		return Event{}, false, ErrExpired
	}
	event := r.events[w.next-r.first].Event
	w.after = event.Revision
	w.next, w.pending = r.find(w.in, w.after, w.next+1)
	return event, true, nil
}

// Ready has a value when Poll may have an event or an error. After receiving
// from it, call Poll until it has nothing: more is not signalled again.
func (w *Watch) Ready() <-chan struct{} { return w.ready }

// Revision returns a revision up to which every event has been delivered: what
// a bookmark may say.
func (w *Watch) Revision() store.Revision {
	published := store.Revision(w.state.published.Load())
	w.ring.mu.RLock()
	defer w.ring.mu.RUnlock()
	if w.pending {
		return w.after
	}
	return max(w.after, published)
}

// Stop ends the watch. It is idempotent.
func (w *Watch) Stop() {
	w.ring.mu.Lock()
	defer w.ring.mu.Unlock()
	w.ring.subs.remove(w)
	w.fail(store.ErrClosed)
}

// offer notes that an event concerns the watch. Called under ring.mu.
func (w *Watch) offer(h *happening, sequence uint64) {
	if w.pending || h.Revision <= w.after {
		return
	}
	w.pending, w.next = true, sequence
	w.signal()
}

// fail sets the first error and wakes the reader.
func (w *Watch) fail(err error) {
	if w.err == nil {
		w.err = err
	}
	w.signal()
}

func (w *Watch) signal() {
	select {
	case w.ready <- struct{}{}:
	default:
	}
}
