package checkpoint

import (
	"maps"
	"strings"
	"time"
)

// collection is what a question is answered with.
type collection struct {
	apiVersion, kind string
	revision         string // what the objects are as of; "": they are not known yet
	objects          map[string]*object

	follower *following // whose news count; nil: nobody's
	open     int        // watches that ask this
	left     time.Time  // when the last of them ended; zero: there has been none
}

// object is one remembered object. It is not changed but for where its data is.
type object struct {
	sum, core uint64

	data []byte // nil once it is in the file
	place
}

// place is where in the file data is.
type place struct {
	at    int64
	size  int
	check uint32 // checksum
}

// change is what of a collection differs from the file.
type change struct {
	whole bool // what the file has of it goes
	names map[string]struct{}
}

// collect returns the collection of a question, made if need be; c.mu is held.
func (c *Checkpoint) collect(q question) *collection {
	k := c.known[q]
	if k == nil {
		k = &collection{objects: map[string]*object{}}
		c.known[q] = k
	}
	return k
}

// put remembers an object; c.mu is held.
func (c *Checkpoint) put(q question, k *collection, f form) {
	old := k.objects[f.name]
	if old != nil && old.sum == f.sum {
		return
	}
	k.objects[f.name] = newObject(f)
	c.note(q, f.name, old == nil || old.core != f.core)
	c.scrub(k, old)
}

func newObject(f form) *object {
	return &object{sum: f.sum, core: f.core, data: f.data, place: place{size: len(f.data)}}
}

// remove forgets an object; c.mu is held.
func (c *Checkpoint) remove(q question, k *collection, name string) {
	old := k.objects[name]
	if old == nil {
		return
	}
	delete(k.objects, name)
	c.note(q, name, true)
	c.scrub(k, old)
	if k.apiVersion == "v1" && k.kind == "Pod" {
		c.removeTokens(name)
	}
}

// replace makes the objects those of a new beginning; c.mu is held.
func (c *Checkpoint) replace(q question, k *collection, objects map[string]*object) {
	for name := range maps.Clone(k.objects) {
		if objects[name] == nil {
			c.remove(q, k, name)
		}
	}
	for name, now := range objects {
		old := k.objects[name]
		if old == now {
			continue
		}
		c.note(q, name, old == nil || old.core != now.core)
		c.scrub(k, old)
	}
	k.objects = objects
}

// forget drops a collection, until a watch begins it anew; c.mu is held.
func (c *Checkpoint) forget(q question) {
	k := c.known[q]
	if k == nil {
		return
	}
	for _, o := range k.objects {
		c.scrub(k, o)
	}
	k.follower = nil
	if k.revision == "" && k.open > 0 {
		return // there is nothing to forget
	}
	c.dirty[q] = &change{whole: true, names: map[string]struct{}{}}
	c.due.note(true, time.Now())
	if k.open > 0 {
		k.revision, k.objects = "", map[string]*object{}
	} else {
		delete(c.known, q)
	}
	poke(c.wake)
}

// note marks an object as different from the file; c.mu is held.
func (c *Checkpoint) note(q question, name string, urgent bool) {
	d := c.dirty[q]
	if d == nil {
		d = &change{names: map[string]struct{}{}}
		c.dirty[q] = d
	}
	d.names[name] = struct{}{}
	c.due.note(urgent, time.Now())
	poke(c.wake)
}

// scrub sees to it that a Secret that is out of date leaves the file; c.mu is
// held.
func (c *Checkpoint) scrub(k *collection, old *object) {
	if old != nil && old.data == nil && k.kind == "Secret" {
		c.due.noteScrub(time.Now())
	}
}

// removeTokens forgets the tokens of a Pod; c.mu is held.
func (c *Checkpoint) removeTokens(pod string) {
	tokens := c.known[tokensQuestion]
	if tokens == nil {
		return
	}
	for name := range maps.Clone(tokens.objects) {
		if strings.HasPrefix(name, pod+"/") {
			c.remove(tokensQuestion, tokens, name)
		}
	}
}

// begun gives what nobody asks for time until it is forgotten, once it is clear
// that a server answers; c.mu is held.
func (c *Checkpoint) begun(now time.Time) {
	for q, k := range c.known {
		if k.open == 0 && k.left.IsZero() && q != tokensQuestion {
			k.left = now
		}
	}
	poke(c.wake)
}

// linger is how long what nobody watches any more is remembered: a Pod that
// starts again, or the next one of a CronJob, asks for the same.
const linger = 30 * time.Minute

// sweep forgets what nobody has watched for long and returns when to look again;
// c.mu is held.
func (c *Checkpoint) sweep(now time.Time) (next time.Time) {
	for q, k := range c.known {
		if k.open > 0 || k.left.IsZero() {
			continue
		}
		if due := k.left.Add(linger); now.Before(due) {
			next = earliest(next, due)
		} else {
			c.forget(q)
		}
	}
	return next
}

// earliest returns the earlier of two times, of which zero is none.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
