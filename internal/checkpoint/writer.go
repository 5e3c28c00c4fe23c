package checkpoint

import (
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"
)

// room is how much of the file may be out of date before it is written anew,
// beside as much as it is worth.
const room = 1 << 20

// load reads the file.
func (c *Checkpoint) load() {
	r := reader{cluster: c.Cluster, known: map[question]*collection{}}
	file, err := openJournal(c.Path, r.take)
	switch {
	case missing(err):
		return
	case errors.As(err, new(otherCluster)):
		c.Log.Info("what is remembered is of another cluster or node; it is not used", zap.String("file", c.Path))
		return
	case err != nil:
		c.Log.Warn("what the servers last said cannot be read; without them, nothing starts here until they answer",
			zap.String("file", c.Path), zap.Error(err))
		return
	}
	c.file, c.known = file, r.known
	if file.size > c.worth()+room/16 { // a former Secret may be in it
		c.due.noteScrub(time.Now())
	}
}

// worth is how many bytes of the file are not out of date, about; c.mu is held.
func (c *Checkpoint) worth() int64 {
	n := int64(len(title) + recordHead)
	for q, k := range c.known {
		n += int64(len(q)) + 64
		for name, o := range k.objects {
			n += int64(len(name) + o.size + 32)
		}
	}
	return n
}

// runWriter writes what is due until the context ends, and then all.
func (c *Checkpoint) runWriter(ctx context.Context) error {
	for {
		next := c.turn(time.Now())
		var due <-chan time.Time
		var timer *time.Timer
		if !next.IsZero() {
			timer = time.NewTimer(time.Until(next))
			due = timer.C
		}
		select {
		case <-ctx.Done():
			c.write(time.Now())
			return nil
		case <-c.wake:
		case <-due:
		}
		if timer != nil {
			timer.Stop()
		}
	}
}

// turn forgets and writes what is due and returns when the next is.
func (c *Checkpoint) turn(now time.Time) time.Time {
	c.mu.Lock()
	forget := c.sweep(now)
	next := c.due.next()
	c.mu.Unlock()
	if next.IsZero() || now.Before(next) {
		return earliest(forget, next)
	}
	c.write(now)
	c.mu.Lock()
	defer c.mu.Unlock()
	return earliest(forget, c.due.next())
}

// write brings the file up to date.
func (c *Checkpoint) write(now time.Time) {
	c.mu.Lock()
	scrub := c.due.scrubs(now)
	if len(c.dirty) == 0 && !scrub {
		c.mu.Unlock()
		return
	}
	anew := c.file == nil || c.torn || scrub || c.file.size > 2*c.worth()+room
	dirty, due, file := c.dirty, c.due, c.file
	c.dirty, c.due = map[question]*change{}, due.written(anew, now)
	var w recorder
	if anew {
		c.recordAll(&w)
	} else {
		c.recordChanges(&w, dirty)
	}
	c.mu.Unlock()

	err := c.commit(&w, file, anew)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.torn = err != nil
	if err == nil {
		c.Log.Debug("written", zap.Int("bytes", len(w.body)), zap.Bool("anew", anew))
		return
	}
	c.Log.Warn("what the servers say is not kept for a start without them; trying again later",
		zap.String("file", c.Path), zap.Duration("in", again), zap.Error(err))
	maps.Copy(c.dirty, dirty) // that there is something: all will be written
	c.due.failed(now)
}

// commit puts a record into the file, or into a new one, and notes where things
// are now.
func (c *Checkpoint) commit(w *recorder, file *journal, anew bool) (err error) {
	var at int64
	if anew {
		if file, at, err = createJournal(c.Path, w.body); err != nil {
			return err
		}
	} else if at, err = file.append(w.body); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range w.placed {
		p.object.place, p.object.data = p.place, nil
		p.object.at += at
	}
	if c.file != file {
		if c.file != nil {
			_ = c.file.close() // nothing of it is needed
		}
		c.file = file
	}
	return nil
}

// recordAll writes all that is known; c.mu is held.
func (c *Checkpoint) recordAll(w *recorder) {
	w.text(fieldCluster, c.Cluster)
	for _, q := range slices.Sorted(maps.Keys(c.known)) {
		c.recordObjects(w, q, maps.Keys(c.known[q].objects))
	}
}

// recordChanges writes what differs from the file; c.mu is held.
func (c *Checkpoint) recordChanges(w *recorder, dirty map[question]*change) {
	for _, q := range slices.Sorted(maps.Keys(dirty)) {
		if dirty[q].whole {
			w.text(fieldCollection, string(q))
			w.text(fieldDrop, "")
		}
		c.recordObjects(w, q, maps.Keys(dirty[q].names))
	}
}

// recordObjects writes objects of a collection, or that they are gone; c.mu is
// held. A collection of which one cannot be read is forgotten: without that one
// it would not be what a server had.
func (c *Checkpoint) recordObjects(w *recorder, q question, names iter.Seq[string]) {
	k := c.known[q]
	if k == nil || k.revision == "" {
		return
	}
	before := len(w.body)
	w.collection(q, k)
	for _, name := range slices.Sorted(names) {
		o := k.objects[name]
		if o == nil {
			w.text(fieldGone, name)
			continue
		}
		data, err := c.dataOf(o)
		if err != nil {
			c.Log.Warn("not remembered any more", zap.String("watch", string(q)), zap.String("name", name), zap.Error(err))
			c.forget(q)
			w.body = w.body[:before]
			return
		}
		w.object(name, o, data)
	}
}

// dataOf returns an object's data; c.mu is held.
func (c *Checkpoint) dataOf(o *object) ([]byte, error) {
	if o.data != nil {
		return o.data, nil
	}
	if c.file == nil {
		return nil, errDamaged
	}
	return c.file.read(o.place)
}
