package state

import (
	"context"
	"fmt"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/store"
)

// note travels through the engine with an object's operation. The follower
// leaves in it the object that readers see.
type note struct {
	object kind.Object
}

// Commit applies writes in order, all or nothing, and returns when they are
// durable (lazy ones: accepted) and visible. The result is aligned with
// writes: the object as it is shared from now on, for a Delete its last state
// with the deletion's revision, nil for a Check or a Claim. Errors:
// *store.ConflictError, store.ErrFull, store.ErrClosed, the context's while
// the writes had not been taken yet.
//
// Objects get the TypeMeta of their kind's storage version, as all objects in
// State have.
func (s *State) Commit(ctx context.Context, writes ...Write) ([]kind.Object, error) {
	ops := make([]store.Op, len(writes))
	notes := make([]*note, len(writes))
	for i := range writes {
		op, n, err := s.operation(&writes[i])
		if err != nil {
			return nil, err
		}
		ops[i], notes[i] = op, n
	}
	if _, err := s.engine.Commit(ctx, ops); err != nil {
		return nil, err
	}
	objects := make([]kind.Object, len(writes))
	for i, n := range notes {
		if n != nil && writes[i].Action != store.Check {
			objects[i] = n.object
		}
	}
	return objects, nil
}

// operation turns a write into what the engine understands.
func (s *State) operation(w *Write) (store.Op, *note, error) {
	op := store.Op{Action: w.Action, Expect: w.Expect, Lazy: w.Lazy}
	if w.Kind == nil {
		op.Key = store.Key{Bucket: claimPrefix + w.Claim.Table, Name: w.Claim.Name}
		if w.Action == store.Put {
			op.Value = []byte(w.Claim.Owner)
		}
		return op, nil, nil
	}
	s.table(w.Kind)
	n := &note{}
	op.Note = n
	op.Key = store.Key{Bucket: w.Kind.Bucket(), Name: objectKey(w.Namespace, w.Name)}
	if w.Action != store.Put {
		return op, n, nil
	}
	if w.Object == nil {
		return op, nil, fmt.Errorf("put %s: no object", w.Kind.Kind)
	}
	op.Key.Name = objectKey(w.Object.GetNamespace(), w.Object.GetName())
	if shared, ok := s.Get(w.Kind, w.Object.GetNamespace(), w.Object.GetName()); ok && shared == w.Object {
		return op, nil, fmt.Errorf("put %s: the object is the shared one; copy it before changing it", op.Key)
	}
	w.Object.GetObjectKind().SetGroupVersionKind(w.Kind.GVK())
	value, err := encode(w.Kind, w.Object)
	op.Value, n.object = value, w.Object
	return op, n, err
}
