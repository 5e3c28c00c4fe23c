package state

import (
	"encoding/json"
	"fmt"
	"reflect"
	"sync"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/store"
)

// detectEvery is how many published events pass between two checks.
const detectEvery = 256

// detector remembers how every shared object looked when it was published.
type detector struct {
	mu     sync.Mutex // guards all below
	copies map[kind.Object]runtime.Object
	stale  []kind.Object // replaced since the last check
	events int
}

func newDetector() *detector {
	return &detector{copies: map[kind.Object]runtime.Object{}}
}

// loaded remembers what Open found.
func (d *detector) loaded(t *table) {
	t.work.all.Scan(func(_ string, e *entry) bool {
		d.copies[e.object] = e.object.DeepCopyObject()
		return true
	})
}

// observe remembers what was published. Objects that were replaced stay under
// watch until the next check: a reader may still hold them.
func (d *detector) observe(touched map[*table][]*happening) {
	d.mu.Lock()
	for t, happenings := range touched {
		for _, h := range happenings {
			d.copies[h.Object] = h.Object.DeepCopyObject()
			if h.Type != Deleted {
				mustKeep(t.kind, h.Object)
			}
			if h.Old != nil {
				d.stale = append(d.stale, h.Old)
			}
			if h.Type == Deleted {
				d.stale = append(d.stale, h.Object)
			}
			d.events++
		}
	}
	due := d.events >= detectEvery
	if due {
		d.events = 0
	}
	d.mu.Unlock()
	if due {
		d.check()
	}
}

// mustKeep panics when an object is not what will be read back from disk: with a
// time of more than whole seconds, say, it would change in a restart.
func mustKeep(k *kind.Kind, obj kind.Object) {
	value, err := encode(k, obj.DeepCopyObject().(kind.Object))
	if err != nil {
		panic(err)
	}
	again, err := decode(k, &store.Record{Value: value})
	if err != nil {
		panic(err)
	}
	again.SetResourceVersion(obj.GetResourceVersion())
	if equality.Semantic.DeepEqual(obj, again) {
		return
	}
	panic(fmt.Sprintf("state: %T %s/%s would not be the same after a restart\nis %#v\nwould be %#v",
		obj, obj.GetNamespace(), obj.GetName(), obj, again))
}

// check panics when an object no longer is what it was.
func (d *detector) check() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for obj, was := range d.copies {
		if reflect.DeepEqual(obj, was) {
			continue
		}
		before, _ := json.Marshal(was)
		after, _ := json.Marshal(obj)
		panic(fmt.Sprintf("state: a shared object was changed; copy before change\n%T %s/%s\nwas %s\nis  %s",
			obj, obj.GetNamespace(), obj.GetName(), before, after))
	}
	for _, obj := range d.stale {
		delete(d.copies, obj)
	}
	d.stale = nil
}
