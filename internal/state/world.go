package state

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tidwall/btree"
	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/store"
)

// world is everything at one revision. It never changes once it is published:
// the next one shares what did not change.
type world struct {
	revision store.Revision
	trees    []trees // by table.index
	claims   map[string]*claimTree
}

// entry is one object in a tree.
type entry struct {
	object   kind.Object
	revision store.Revision
	bytes    int // encoded
}

type (
	objectTree = btree.Map[string, *entry]
	claimTree  = btree.Map[string, string]
)

// trees are one kind's objects: all by "namespace/name" (byte order, as
// upstream lists), so that a namespace is one range, and those on a node by
// "node/namespace/name" for kinds that have a spec.nodeName.
type trees struct {
	all    *objectTree
	onNode *objectTree // nil when the kind knows no nodes
}

func newTrees(k *kind.Kind) trees {
	t := trees{all: &objectTree{}}
	if _, ok := k.New().(*corev1.Pod); ok {
		t.onNode = &objectTree{}
	}
	return t
}

// copy returns trees that later changes of t leave alone.
func (t trees) copy() trees {
	c := trees{all: t.all.Copy()}
	if t.onNode != nil {
		c.onNode = t.onNode.Copy()
	}
	return c
}

// set stores e and returns what was there.
func (t trees) set(key string, e *entry) *entry {
	old, _ := t.all.Set(key, e)
	if t.onNode == nil {
		return old
	}
	node := nodeName(e.object)
	if old != nil {
		if was := nodeName(old.object); was != "" && was != node {
			t.onNode.Delete(was + "/" + key)
		}
	}
	if node != "" {
		t.onNode.Set(node+"/"+key, e)
	}
	return old
}

// remove deletes key and returns what was there.
func (t trees) remove(key string) *entry {
	old, ok := t.all.Delete(key)
	if ok && t.onNode != nil {
		if node := nodeName(old.object); node != "" {
			t.onNode.Delete(node + "/" + key)
		}
	}
	return old
}

// nodeName returns spec.nodeName of a Pod, "" for all else.
func nodeName(obj kind.Object) string {
	if pod, ok := obj.(*corev1.Pod); ok {
		return pod.Spec.NodeName
	}
	return ""
}

// objectKey is an object's name in its bucket.
func objectKey(namespace, name string) string {
	if namespace == "" {
		return name
	}
	return namespace + "/" + name
}

// splitKey undoes objectKey without allocating.
func splitKey(key string) (namespace, name string) {
	if i := strings.IndexByte(key, '/'); i >= 0 {
		return key[:i], key[i+1:]
	}
	return "", key
}

// apply is the engine's follower: it makes the next world out of a
// transaction's changes, publishes it, and then wakes the watches, so that
// whoever hears of an event finds at least that revision.
func (s *State) apply(changes []store.Change) {
	if len(changes) == 0 {
		return
	}
	next := *s.world.Load()
	next.trees = slices.Clone(next.trees)
	next.revision = changes[len(changes)-1].Revision
	touched := make(map[*table][]*happening, 1)
	claims := map[string]bool{}
	for i := range changes {
		change := &changes[i]
		if table, ok := strings.CutPrefix(change.Key.Bucket, claimPrefix); ok {
			s.applyClaim(table, change)
			claims[table] = true
			continue
		}
		t, ok := s.byName[change.Key.Bucket]
		if !ok {
			continue
		}
		if h := s.applyObject(t, change); h != nil {
			touched[t] = append(touched[t], h)
		}
	}
	for t := range touched {
		next.trees[t.index] = t.work.copy()
	}
	if len(claims) > 0 {
		next.claims = maps.Clone(next.claims)
		for table := range claims {
			next.claims[table] = s.claims[table].Copy()
		}
	}
	s.world.Store(&next)
	for t, happenings := range touched {
		t.ring.publish(happenings, next.trees[t.index].all)
	}
	s.published.Store(int64(next.revision))
	s.trimIdle(time.Now())
	s.retained.expire()
	if s.detector != nil {
		s.detector.observe(touched)
	}
}

// trimEvery is how often rings are looked at in which nothing happens.
const trimEvery = time.Minute

// trimIdle has every ring drop what is too old. Those in which something happens do
// so by themselves; the others would keep the last burst of their kind for ever.
func (s *State) trimIdle(now time.Time) {
	if now.Sub(s.trimmed) < trimEvery {
		return
	}
	s.trimmed = now
	for _, t := range s.tables {
		t.ring.mu.Lock()
		t.ring.trim(now)
		t.ring.mu.Unlock()
	}
}

// applyObject updates the work trees and returns the event for the ring.
func (s *State) applyObject(t *table, change *store.Change) *happening {
	note := t.noteOf(change)
	h := &happening{key: change.Key.Name, bytes: len(change.Value)}
	h.Revision = change.Revision
	h.namespace, h.name = splitKey(h.key)
	switch change.Action {
	case store.Put:
		setRevision(note.object, change.Revision)
		h.Object = note.object
		e := &entry{object: note.object, revision: change.Revision, bytes: len(change.Value)}
		h.Type = Added
		if old := t.work.set(h.key, e); old != nil {
			h.Type, h.Old = Modified, old.object
		}
	case store.Delete:
		old := t.work.remove(h.key)
		if old == nil {
			return nil
		}
		h.Type, h.Old, h.bytes = Deleted, old.object, old.bytes
		h.Object = shallowCopy(old.object)
		setRevision(h.Object, change.Revision)
		note.object = h.Object
	}
	h.node = nodeName(h.Object)
	if h.Old != nil {
		h.oldNode = nodeName(h.Old)
	}
	return h
}

// noteOf returns what Commit sent along with a change. A change that came from
// elsewhere (another server's, over a shared engine) is decoded here.
func (t *table) noteOf(change *store.Change) *note {
	if n, ok := change.Note.(*note); ok {
		return n
	}
	if change.Action == store.Delete {
		return &note{}
	}
	obj, err := decode(t.kind, &store.Record{Key: change.Key, Revision: change.Revision, Value: change.Value})
	if err != nil {
		// Whoever wrote it could read it: nothing can be told about what is there.
		panic("state: " + err.Error())
	}
	return &note{object: obj}
}
