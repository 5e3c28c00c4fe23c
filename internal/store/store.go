// Package store is the durable keyspace under the cluster's state: bytes under
// keys, one strictly rising revision, and commits that are all or nothing.
//
// Engine is the contract every engine fulfils (store/bolt is the embedded one);
// Op is one wish of a commit, Change is what followers see of it, and Record is
// what a scan yields. The invariant: nothing is published, acknowledged or
// scanned that is not on disk, operations marked Lazy excepted.
//
// The package knows no kind and never interprets a value.
package store

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Revision is the cluster-wide counter that clients see as resourceVersion. It
// rises by at least one with every operation and never goes back, crashes and
// restores included. The first revision handed out is 1.
type Revision int64

// Expectations of an operation that are not a certain revision.
const (
	Absent Revision = 0  // the key must not exist
	Any    Revision = -1 // the key may be there or not
)

// Key names a record: Bucket is the stored resource ("pods",
// "deployments.apps", or an allocation table such as "!clusterips"), Name is
// "namespace/name" or "name".
type Key struct {
	Bucket string
	Name   string
}

// String returns "bucket/name", the form used in errors and reports.
func (k Key) String() string { return k.Bucket + "/" + k.Name }

// Action is what an operation does once its expectation holds.
type Action uint8

// The actions of an operation.
const (
	Put    Action = iota // write Value
	Delete               // remove the key, which must exist
	Check                // only verify the expectation
)

// Op is one operation of a commit.
type Op struct {
	Key    Key
	Action Action
	Expect Revision
	// Value is the engine's and the followers' from Commit on: nobody may
	// change it.
	Value []byte
	// Lazy lets the engine acknowledge and publish before the value is on
	// disk. It takes effect only when every Put and Delete of the commit is lazy.
	Lazy bool
	// Note travels with the Change to followers and is never stored: the
	// decoded form of Value.
	Note any
}

// Change is an operation that took effect.
type Change struct {
	Key      Key
	Action   Action // Put or Delete
	Revision Revision
	Previous Revision // Absent when the key was created
	Value    []byte   // nil after Delete
	Note     any
}

// Record is one stored key with its value.
type Record struct {
	Key      Key
	Revision Revision
	Value    []byte
}

// Follower receives the changes of one transaction in revision order. It is
// called by the committer, so it must not block or commit. The slice is the
// follower's to keep.
type Follower func(changes []Change)

// Engine is a durable keyspace. All methods are safe for concurrent use.
type Engine interface {
	// Commit applies ops in order, all or nothing, and returns the revision of
	// each (Check operations get 0) once they are durable and published.
	// Each Put and Delete gets a revision of its own.
	// Errors: *ConflictError when an expectation does not hold, ErrClosed,
	// ErrFull, the context's error if it ended before the operations were
	// taken; after that Commit waits for the outcome.
	Commit(ctx context.Context, ops []Op) ([]Revision, error)
	// Scan calls fn for every record of a bucket in name order. The value is
	// the callee's to keep. It sees a consistent snapshot. fn must not Commit.
	// What is not as it was written is an ErrDamaged that names it.
	Scan(ctx context.Context, bucket string, fn func(Record) error) error
	// Buckets returns the names of the buckets that have or had records, in
	// order.
	Buckets(ctx context.Context) ([]string, error)
	// Follow sets the one follower. It is called before the first Commit.
	Follow(Follower)
	// Revision returns the last revision published.
	Revision() Revision
	// Barrier returns a revision that covers every commit acknowledged
	// anywhere before the call (immediate for an embedded engine).
	Barrier(ctx context.Context) (Revision, error)
	// Snapshot writes a consistent copy that Open accepts.
	Snapshot(ctx context.Context, w io.Writer) error
	// Compact gives back the room that records have left. Commits and scans go
	// on meanwhile.
	Compact(ctx context.Context) error
	// Check reads all there is, as of one revision, and calls fn for what is not
	// as it was written. The error is about what kept it from looking.
	Check(ctx context.Context, fn func(Damage)) error
	// Stats returns figures about the file and the work done.
	Stats() Stats
	// Close writes what is lazy and releases the file. It is idempotent.
	Close() error
}

// Damage is something in a store that is not as it was written.
type Damage struct {
	// Key is the record's; without a Name it is the bucket as a whole, and
	// without a Bucket all of the store.
	Key    Key
	Reason string
}

func (d Damage) String() string {
	switch {
	case d.Key.Bucket == "":
		return d.Reason
	case d.Key.Name == "":
		return "bucket " + d.Key.Bucket + ": " + d.Reason
	}
	return d.Key.String() + ": " + d.Reason
}

// Stats are figures about an engine; counters count since Open.
type Stats struct {
	FileBytes    int64
	FreeBytes    int64 // of the file, waiting to be used again
	LazyBytes    int64 // acknowledged and not on disk yet
	WrittenBytes int64
	Commits      int64 // transactions, not operations
	Operations   int64
	Syncs        int64
	Compactions  int64
}

// Sentinel errors of every engine.
var (
	ErrClosed  = errors.New("store is closed")
	ErrFull    = errors.New("no space left for the store")
	ErrDamaged = errors.New("the store is damaged")
)

// ConflictError says which expectation of a commit did not hold.
type ConflictError struct {
	Key  Key
	Want Revision
	Have Revision // Absent if the key does not exist
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s is at revision %d, expected %d", e.Key, e.Have, e.Want)
}
