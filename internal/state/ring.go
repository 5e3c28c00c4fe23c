package state

import (
	"sort"
	"sync"
	"time"

	"github.com/skiff-sh/skiff/internal/store"
)

// Ring bounds the recent events that each kind keeps for its watches. Zero
// fields get the defaults. Whichever bound is met first counts.
type Ring struct {
	Events int           // default 16,384
	Bytes  int           // encoded, default 8 MiB (decoded objects are about three times as large)
	Age    time.Duration // default 5 minutes
}

// happening is an event in the ring with what the indexes need.
type happening struct {
	Event
	key, namespace, name string
	node, oldNode        string
	bytes                int
	at                   time.Time
}

// ring is one kind's recent events and the watches on them.
type ring struct {
	bounds Ring

	mu     sync.RWMutex // guards all below, and the cursors of the watches against publish
	events []*happening
	now    *objectTree    // the kind's objects after the last event
	first  uint64         // sequence number of events[0]
	floor  store.Revision // every event after this revision is in events
	bytes  int
	subs   subscriptions
	closed bool
}

func newRing(bounds Ring, floor store.Revision) *ring {
	if bounds.Events == 0 {
		bounds.Events = 16384
	}
	if bounds.Bytes == 0 {
		bounds.Bytes = 8 << 20
	}
	if bounds.Age == 0 {
		bounds.Age = 5 * time.Minute
	}
	return &ring{bounds: bounds, floor: floor, subs: newSubscriptions()}
}

// publish appends events, after which the kind's objects are as given, drops what
// is beyond the bounds, and wakes the watches that are concerned.
func (r *ring) publish(happenings []*happening, objects *objectTree) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = objects
	for _, h := range happenings {
		h.at = now
		r.events = append(r.events, h)
		r.bytes += h.bytes
		sequence := r.first + uint64(len(r.events)) - 1
		r.subs.concerned(h, func(w *Watch) { w.offer(h, sequence) })
	}
	r.trim(now)
}

// trim drops the oldest events beyond the bounds. The newest always stays.
func (r *ring) trim(now time.Time) {
	drop, bytes := 0, r.bytes
	for drop < len(r.events)-1 {
		h := r.events[drop]
		if len(r.events)-drop <= r.bounds.Events && bytes <= r.bounds.Bytes && now.Sub(h.at) <= r.bounds.Age {
			break
		}
		bytes -= h.bytes
		r.floor = h.Revision
		drop++
	}
	clear(r.events[:drop])
	r.events = r.events[drop:]
	r.first += uint64(drop)
	r.bytes = bytes
}

// find returns the sequence number of the first event at or after sequence
// that concerns in and is younger than revision.
func (r *ring) find(in Interest, revision store.Revision, sequence uint64) (uint64, bool) {
	for i := int(sequence - r.first); i < len(r.events); i++ {
		if h := r.events[i]; h.Revision > revision && h.concerns(in) {
			return r.first + uint64(i), true
		}
	}
	return 0, false
}

// after returns the sequence number of the first event younger than revision.
func (r *ring) after(revision store.Revision) uint64 {
	i := sort.Search(len(r.events), func(i int) bool { return r.events[i].Revision > revision })
	return r.first + uint64(i)
}

// rewind returns the kind's objects as they were at a revision. False: not all that
// happened since is in the ring.
func (r *ring) rewind(to store.Revision) (*objectTree, bool) {
	r.mu.Lock() // copying a tree writes to it
	defer r.mu.Unlock()
	if to < r.floor {
		return nil, false
	}
	objects := r.now.Copy()
	for i := len(r.events) - 1; i >= 0 && r.events[i].Revision > to; i-- {
		if h := r.events[i]; h.Old != nil {
			objects.Set(h.key, &entry{object: h.Old})
		} else {
			objects.Delete(h.key)
		}
	}
	return objects, true
}

// close ends all watches.
func (r *ring) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.subs.all(func(w *Watch) { w.fail(store.ErrClosed) })
	r.subs = newSubscriptions()
}

// concerns reports whether an event is about what in names, before or after.
func (h *happening) concerns(in Interest) bool {
	return (in.Namespace == "" || in.Namespace == h.namespace) &&
		(in.Name == "" || in.Name == h.name) &&
		(in.NodeName == "" || in.NodeName == h.node || in.NodeName == h.oldNode)
}
