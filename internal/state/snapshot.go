package state

import (
	"strings"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/store"
)

// Snapshot is one kind's objects at one revision. It stays as it is and may be
// kept as long as it is needed.
type Snapshot struct {
	state *State
	world *world
	trees trees
	past  bool // made of a later one: without indexes, and without other kinds
}

// Snapshot returns the kind's objects as they are now. It costs next to
// nothing.
func (s *State) Snapshot(k *kind.Kind) *Snapshot {
	return s.snapshot(s.world.Load(), k)
}

func (s *State) snapshot(w *world, k *kind.Kind) *Snapshot {
	return &Snapshot{state: s, world: w, trees: w.trees[s.table(k).index]}
}

// Get returns one object; it is shared and constant.
func (s *State) Get(k *kind.Kind, namespace, name string) (kind.Object, bool) {
	e, ok := s.world.Load().trees[s.table(k).index].all.Get(objectKey(namespace, name))
	if !ok {
		return nil, false
	}
	return e.object, true
}

// Of returns another kind's objects at the same revision: what a decision over
// several kinds looks at.
func (n *Snapshot) Of(k *kind.Kind) *Snapshot { return n.state.snapshot(n.world, k) }

// Revision is the cluster's revision that the snapshot shows.
func (n *Snapshot) Revision() store.Revision { return n.world.revision }

// Len is the number of objects of the kind.
func (n *Snapshot) Len() int { return n.trees.all.Len() }

// Get returns one object; it is shared and constant.
func (n *Snapshot) Get(namespace, name string) (kind.Object, bool) {
	e, ok := n.trees.all.Get(objectKey(namespace, name))
	if !ok {
		return nil, false
	}
	return e.object, true
}

// Ascend calls fn for the objects that in names, in byte order of
// "namespace/name" (or "name"), beginning behind the key after ("": with the
// first), until fn returns false. In a snapshot of the past, NodeName narrows
// nothing.
func (n *Snapshot) Ascend(in Interest, after string, fn func(kind.Object) bool) {
	if n.past {
		in.NodeName = ""
	}
	tree, prefix, rest := n.trees.all, "", in
	switch {
	case in.NodeName != "":
		if n.trees.onNode == nil {
			return
		}
		tree, prefix, rest.NodeName = n.trees.onNode, in.NodeName+"/", ""
		if in.Namespace != "" {
			prefix, rest.Namespace = prefix+in.Namespace+"/", ""
		}
	case in.Namespace != "":
		prefix, rest.Namespace = in.Namespace+"/", ""
	}
	start := prefix
	if after != "" {
		if in.NodeName != "" {
			after = in.NodeName + "/" + after
		}
		start = max(start, after+"\x00")
	}
	if in.Name != "" && in.Namespace != "" {
		start = max(start, prefix+in.Name)
	}
	tree.Ascend(start, func(key string, e *entry) bool {
		if !strings.HasPrefix(key, prefix) {
			return false
		}
		if in.Name != "" {
			if _, name := splitLast(key); name != in.Name {
				// Names of one namespace are contiguous: the first other one is the end.
				return in.Namespace == ""
			}
		}
		return fn(e.object)
	})
}

// splitLast splits a tree's key before its last element, the object's name.
func splitLast(key string) (rest, name string) {
	i := strings.LastIndexByte(key, '/')
	return key[:i+1], key[i+1:]
}

// Get returns an object in its own type.
func Get[T kind.Object](s *State, k *kind.Kind, namespace, name string) (T, bool) {
	obj, ok := s.Get(k, namespace, name)
	if !ok {
		var none T
		return none, false
	}
	return obj.(T), true
}

// List returns the objects that in names, in their own type. They are shared
// and constant; the slice is the caller's.
func List[T kind.Object](s *State, k *kind.Kind, in Interest) []T {
	snapshot := s.Snapshot(k)
	var list []T
	if in == (Interest{}) {
		list = make([]T, 0, snapshot.Len())
	}
	snapshot.Ascend(in, "", func(obj kind.Object) bool {
		list = append(list, obj.(T))
		return true
	})
	return list
}
