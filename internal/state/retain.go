package state

import (
	"sync"
	"time"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/store"
)

// Retain bounds what is kept so that a list can go on at its revision page by
// page. Zero fields get the defaults.
type Retain struct {
	Count int           // revisions, default 64
	Age   time.Duration // since it was last asked for, default 5 minutes
}

// retention keeps worlds by their revision, the one used last at the end.
type retention struct {
	bounds Retain

	mu     sync.Mutex // guards worlds
	worlds []retainedWorld
}

type retainedWorld struct {
	world *world
	used  time.Time
}

func newRetention(bounds Retain) *retention {
	if bounds.Count == 0 {
		bounds.Count = 64
	}
	if bounds.Age == 0 {
		bounds.Age = 5 * time.Minute
	}
	return &retention{bounds: bounds}
}

// Retain keeps a snapshot's revision readable through SnapshotAt for a while:
// to be called by whoever hands out a token to continue at it.
// What the kind's ring remembers is readable anyway.
func (s *State) Retain(n *Snapshot) {
	if !n.past {
		s.retained.use(n.world)
	}
}

// SnapshotAt returns the kind's objects at a revision: the current one, one that
// was retained, or one since which the ring still has all that happened. False
// means: too old (410 Gone). The revision must have been reached.
func (s *State) SnapshotAt(k *kind.Kind, revision store.Revision) (*Snapshot, bool) {
	w := s.world.Load()
	if w.revision == revision {
		return s.snapshot(w, k), true
	}
	if w = s.retained.find(revision); w != nil {
		return s.snapshot(w, k), true
	}
	objects, ok := s.table(k).ring.rewind(revision)
	if !ok {
		return nil, false
	}
	return &Snapshot{state: s, world: &world{revision: revision}, trees: trees{all: objects}, past: true}, true
}

// use puts a world at the end of the list.
func (r *retention) use(w *world) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if known := r.touch(w.revision); known == nil {
		r.worlds = append(r.worlds, retainedWorld{w, time.Now()})
	}
	r.trim()
}

// find returns the world of a revision, or nil.
func (r *retention) find(revision store.Revision) *world {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trim()
	return r.touch(revision)
}

// touch moves the world of a revision to the end of the list.
func (r *retention) touch(revision store.Revision) *world {
	for i, kept := range r.worlds {
		if kept.world.revision == revision {
			kept.used = time.Now()
			r.worlds = append(append(r.worlds[:i:i], r.worlds[i+1:]...), kept)
			return kept.world
		}
	}
	return nil
}

// expire drops what is too old. The committer calls it with each transaction:
// what is retained costs memory only once something changes.
func (r *retention) expire() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trim()
}

func (r *retention) trim() {
	drop := max(0, len(r.worlds)-r.bounds.Count)
	for drop < len(r.worlds) && time.Since(r.worlds[drop].used) > r.bounds.Age {
		drop++
	}
	if drop > 0 {
		r.worlds = append([]retainedWorld(nil), r.worlds[drop:]...)
	}
}
