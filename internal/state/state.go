// Package state holds the cluster's objects: decoded once, immutable, indexed,
// and the only place that reads and watches are served from.
//
// State is the whole; a Snapshot is a consistent, free-to-keep view of one
// kind's tree; a Watch is a cursor on that kind's ring of events; a Write is one
// operation of a commit. The invariant: what State shows has been committed, in
// revision order, and no object it ever handed out changes again: callers copy
// before they change.
//
// The package neither admits nor validates, and reads never touch the disk.
package state

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/store"
)

// Write is one operation of a commit.
type Write struct {
	Kind   *kind.Kind // nil for a Claim
	Action store.Action
	// Object is the new object (Put); State takes ownership of it, sets its
	// resourceVersion when it is committed, and shares it from then on.
	// The API must not pass an object that it got from State.
	Object          kind.Object
	Namespace, Name string // for Delete and Check
	// Expect is the revision the stored object must have.
	Expect store.Revision
	Lazy   bool

	// Claim, with a nil Kind, takes or frees a name in a table of small values
	// committed together with objects: allocated addresses and ports.
	Claim Claim
}

// Claim is one entry of an allocation table: Table "clusterips" or
// "nodeports", Name the address or port, Owner who holds it.
type Claim struct {
	Table, Name, Owner string
}

// EventType says what happened to an object.
type EventType uint8

// The event types of a watch.
const (
	Added EventType = iota
	Modified
	Deleted
)

// Event is one change of one object. For Deleted, Object is the last state
// with the revision of the deletion as its resourceVersion. Old is nil for
// Added. A change that moves an object into or out of an Interest (or a
// selector) is the Modified it is: whoever selects compares Old and Object.
type Event struct {
	Type     EventType
	Object   kind.Object
	Old      kind.Object
	Revision store.Revision
}

// Interest narrows a watch or a list to what an index can find. Empty fields
// mean all.
type Interest struct {
	Namespace string
	Name      string
	NodeName  string // spec.nodeName, Pods only
}

// Errors of watches.
var (
	// ErrExpired is returned when a watch's starting point, or a cursor that
	// fell behind, is older than what the ring still has (410 Gone).
	ErrExpired = errors.New("the requested resource version is too old")
	// ErrFuture is returned when a watch starts after a revision that has not
	// been reached.
	ErrFuture = errors.New("the requested resource version is larger than the current one")
)

// Options are the bounds and aids of a State; the zero value is good.
type Options struct {
	Ring Ring
	// Retain bounds the snapshots kept for paging.
	Retain Retain
	// DetectMutation keeps a copy of every object, compares now and then and in
	// Close, and panics when one was changed. For tests: it doubles the memory.
	DetectMutation bool
}

// State is the cluster's objects. All methods are safe for concurrent use.
type State struct {
	engine store.Engine
	tables map[*kind.Kind]*table
	byName map[string]*table // by bucket
	claims map[string]*claimTree

	// world is what reads see; only the engine's committer replaces it.
	world atomic.Pointer[world]
	// published is the last revision whose events are in the rings.
	published atomic.Int64
	trimmed   time.Time // when all rings were looked at; the committer's

	retained *retention
	detector *detector
}

// table is one kind's place: its work trees belong to the committer, who
// publishes copies of them as part of the world.
type table struct {
	kind  *kind.Kind
	index int // in world.trees
	work  trees
	ring  *ring
}

// Open decodes everything the engine has of kinds, and follows it from then on.
// Watches start at the revision the engine has now; those from before expire
// unless nothing happened in between. The engine is the caller's to close,
// after the State.
func Open(ctx context.Context, engine store.Engine, kinds []*kind.Kind, options Options) (*State, error) {
	s := &State{
		engine:   engine,
		tables:   make(map[*kind.Kind]*table, len(kinds)),
		byName:   make(map[string]*table, len(kinds)),
		claims:   map[string]*claimTree{},
		retained: newRetention(options.Retain),
	}
	if options.DetectMutation {
		s.detector = newDetector()
	}
	revision := engine.Revision()
	for i, k := range kinds {
		t := &table{kind: k, index: i, work: newTrees(k), ring: newRing(options.Ring, revision)}
		s.tables[k] = t
		s.byName[k.Bucket()] = t
	}
	if err := s.load(ctx); err != nil {
		return nil, err
	}
	w := &world{revision: revision, trees: make([]trees, len(kinds)), claims: map[string]*claimTree{}}
	for _, t := range s.tables {
		w.trees[t.index] = t.work.copy()
		t.ring.now = w.trees[t.index].all
		if s.detector != nil {
			s.detector.loaded(t)
		}
	}
	for name, tree := range s.claims {
		w.claims[name] = tree.Copy()
	}
	s.world.Store(w)
	s.published.Store(int64(revision))
	engine.Follow(s.apply)
	return s, nil
}

// Revision returns the revision that reads see. It covers every acknowledged
// commit.
func (s *State) Revision() store.Revision { return s.world.Load().revision }

// Close ends all watches with store.ErrClosed.
func (s *State) Close() error {
	for _, t := range s.tables {
		t.ring.close()
	}
	if s.detector != nil {
		s.detector.check()
	}
	return nil
}

// table returns the kind's table. Asking for a kind that Open was not given is
// a mistake in the program.
func (s *State) table(k *kind.Kind) *table {
	t, ok := s.tables[k]
	if !ok {
		panic(fmt.Sprintf("state: kind %q was not given to Open", k.Kind))
	}
	return t
}
