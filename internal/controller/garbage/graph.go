package garbage

import (
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

// Key names an object of any kind.
type Key struct {
	Kind            *kind.Kind
	Namespace, Name string
}

// graph knows which objects name which owners, as far as their events have come
// in. It may know too much for a moment (whoever reads it looks the object up)
// or too little (the event that is yet to come brings the object up by itself).
type graph struct {
	mu         sync.Mutex
	dependents map[types.UID]map[Key]struct{} // by owner
}

func newGraph() *graph { return &graph{dependents: map[types.UID]map[Key]struct{}{}} }

// note takes an event in and returns the keys that it concerns: the object
// itself, its dependents when it has gone, and its owners, who may wait for it.
func (g *graph) note(k *kind.Kind, find func(metav1.OwnerReference) *kind.Kind, e state.Event) []Key {
	self := Key{k, e.Object.GetNamespace(), e.Object.GetName()}
	g.mu.Lock()
	defer g.mu.Unlock()
	if e.Old != nil && !sameOwners(e.Old.GetOwnerReferences(), e.Object.GetOwnerReferences()) {
		g.unlink(self, e.Old.GetOwnerReferences())
	}
	if e.Type == state.Deleted {
		g.unlink(self, e.Object.GetOwnerReferences())
		keys := g.of(e.Object.GetUID())
		return append(keys, waiting(self, find, e.Object.GetOwnerReferences())...)
	}
	for _, ref := range e.Object.GetOwnerReferences() {
		if g.dependents[ref.UID] == nil {
			g.dependents[ref.UID] = map[Key]struct{}{}
		}
		g.dependents[ref.UID][self] = struct{}{}
	}
	var keys []Key
	if concerns(e) {
		keys = append(keys, self)
	}
	if e.Old != nil && !sameOwners(e.Old.GetOwnerReferences(), e.Object.GetOwnerReferences()) {
		keys = append(keys, waiting(self, find, e.Old.GetOwnerReferences())...)
	}
	return keys
}

// concerns says whether an object needs a look after the event: it has owners
// (which may be gone), or it is being deleted in a way that others wait for.
func concerns(e state.Event) bool {
	obj := e.Object
	if obj.GetDeletionTimestamp() != nil && len(obj.GetFinalizers()) > 0 {
		return true
	}
	if len(obj.GetOwnerReferences()) == 0 {
		return false
	}
	return e.Old == nil || !sameOwners(e.Old.GetOwnerReferences(), obj.GetOwnerReferences())
}

func sameOwners(a, b []metav1.OwnerReference) bool {
	return slices.EqualFunc(a, b, func(x, y metav1.OwnerReference) bool {
		return x.UID == y.UID && blocks(x) == blocks(y)
	})
}

// blocks says whether the owner's deletion in the foreground waits.
func blocks(ref metav1.OwnerReference) bool {
	return ref.BlockOwnerDeletion != nil && *ref.BlockOwnerDeletion
}

func waiting(self Key, find func(metav1.OwnerReference) *kind.Kind, refs []metav1.OwnerReference) []Key {
	var keys []Key
	for _, ref := range refs {
		if k := find(ref); k != nil {
			keys = append(keys, ownerKey(k, self.Namespace, ref))
		}
	}
	return keys
}

func ownerKey(k *kind.Kind, namespace string, ref metav1.OwnerReference) Key {
	if !k.Namespaced {
		namespace = ""
	}
	return Key{k, namespace, ref.Name}
}

func (g *graph) unlink(self Key, refs []metav1.OwnerReference) {
	for _, ref := range refs {
		delete(g.dependents[ref.UID], self)
		if len(g.dependents[ref.UID]) == 0 {
			delete(g.dependents, ref.UID)
		}
	}
}

// of returns the keys of an owner's dependents; the caller holds mu.
func (g *graph) of(owner types.UID) []Key {
	keys := make([]Key, 0, len(g.dependents[owner]))
	for key := range g.dependents[owner] {
		keys = append(keys, key)
	}
	return keys
}

// dependentsOf returns the keys of an owner's dependents.
func (g *graph) dependentsOf(owner types.UID) []Key {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.of(owner)
}

// finder returns the kind that an owner reference means, nil if it is none of
// ours.
func finder(kinds []*kind.Kind) func(metav1.OwnerReference) *kind.Kind {
	byGroupKind := map[schema.GroupKind]*kind.Kind{}
	for _, k := range kinds {
		byGroupKind[k.GVK().GroupKind()] = k
	}
	return func(ref metav1.OwnerReference) *kind.Kind {
		gv, err := schema.ParseGroupVersion(ref.APIVersion)
		if err != nil {
			return nil
		}
		return byGroupKind[schema.GroupKind{Group: gv.Group, Kind: ref.Kind}]
	}
}
