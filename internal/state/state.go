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
	"errors"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/store"
)

// Write is one operation of a commit.
type Write struct {
	Kind   *kind.Kind // nil for a Claim
	Action store.Action
	// Object is the new object (Put); State takes ownership of it, sets its
	// resourceVersion when it is committed, and shares it from then on.
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
// Added.
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

// ErrExpired is returned when a watch's starting point, or a cursor that fell
// behind, is older than what the ring still has (410 Gone).
var ErrExpired = errors.New("the requested resource version is too old")

// The methods, to be found in the files of their nouns:
//
//	func Open(ctx context.Context, engine store.Engine, kinds []*kind.Kind, options Options) (*State, error)
//	func (s *State) Get(k *kind.Kind, namespace, name string) (kind.Object, bool)
//	func (s *State) Snapshot(k *kind.Kind) *Snapshot          // Revision(), Get(ns, name), Ascend(Interest, after string, fn func(kind.Object) bool), Len()
//	func (s *State) Commit(ctx context.Context, writes ...Write) ([]kind.Object, error) // objects aligned with writes, resourceVersion set; *store.ConflictError
//	func (s *State) Watch(k *kind.Kind, in Interest, after store.Revision) (*Watch, error)
//	func (s *State) ListWatch(k *kind.Kind, in Interest) (*Snapshot, *Watch)           // atomic
//	func (w *Watch) Next(ctx context.Context) (Event, error)  // blocks; ErrExpired
//	func (w *Watch) Poll() (Event, bool, error); func (w *Watch) Ready() <-chan struct{}; func (w *Watch) Stop()
//	func (s *State) Claimed(table, name string) (owner string, ok bool)
//	func (s *State) Claims(table string, fn func(name, owner string) bool)
//	func (s *State) Revision() store.Revision
//	func Get[T kind.Object](s *State, k *kind.Kind, namespace, name string) (T, bool)
//	func List[T kind.Object](s *State, k *kind.Kind, in Interest) []T
