package state

import (
	"encoding/json"
	"fmt"
	"reflect"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/skiff-sh/skiff/internal/kind"
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
	for _, happenings := range touched {
		for _, h := range happenings {
			d.copies[h.Object] = h.Object.DeepCopyObject()
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
