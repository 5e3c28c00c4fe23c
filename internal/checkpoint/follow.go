package checkpoint

import (
	"context"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

// following is the body of a watch's answer, which it remembers while it passes.
type following struct {
	io.ReadCloser
	c      *Checkpoint
	q      question
	k      *collection
	frames frames
	// initial holds what has come before the end of the initial events; nil
	// after that.
	initial map[string]*object
	blind   bool // what comes is not remembered any more
	closed  bool // under c.mu
}

// follow has the answer to a watch remembered.
func (c *Checkpoint) follow(r *http.Request, response *http.Response) *http.Response {
	media, parameters, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if response.StatusCode != http.StatusOK || media != mediaProtobuf || parameters["stream"] != "watch" {
		return response
	}
	q := questionOf(r)
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.collect(q)
	k.open++
	f := &following{ReadCloser: response.Body, c: c, q: q, k: k}
	k.follower = f
	if wantsInitial(r) {
		f.initial = map[string]*object{}
	} else if !reaches(k.revision, r.URL.Query().Get("resourceVersion")) {
		// What happened between the two is not known, and will not be.
		f.blind = true
		c.forget(q)
	}
	response.Body = f
	return response
}

// reaches says whether what is known as of one revision goes on with what comes
// behind another: revisions are numbers that grow.
func reaches(known, from string) bool {
	x, err := strconv.ParseUint(known, 10, 64)
	if err != nil {
		return false
	}
	y, err := strconv.ParseUint(from, 10, 64)
	return err == nil && y > 0 && y <= x
}

// Read implements io.Reader.
func (f *following) Read(p []byte) (int, error) {
	n, err := f.ReadCloser.Read(p)
	if n > 0 && !f.blind {
		if failed := f.frames.feed(p[:n], f.take); failed != nil {
			f.giveUp(failed)
		}
	}
	return n, err
}

// Close implements io.Closer.
func (f *following) Close() error {
	f.c.mu.Lock()
	if !f.closed {
		f.closed = true
		f.c.leave(f.k)
	}
	if f.k.follower == f {
		f.k.follower = nil
	}
	f.c.mu.Unlock()
	return f.ReadCloser.Close()
}

// leave notes that a watch has ended; c.mu is held.
func (c *Checkpoint) leave(k *collection) {
	if k.open--; k.open == 0 {
		k.left = time.Now()
		poke(c.wake)
	}
}

// giveUp stops remembering what cannot be understood.
func (f *following) giveUp(why error) {
	f.c.Log.Error("a watch is not remembered for times without a server", zap.String("watch", string(f.q)), zap.Error(why))
	f.blind, f.frames = true, frames{}
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	f.c.forget(f.q)
}

// take remembers one event.
func (f *following) take(frame []byte) error {
	kind, object, err := decodeEvent(frame)
	if err != nil {
		return err
	}
	var of form
	switch kind {
	case watch.Added, watch.Modified, watch.Deleted:
		of, err = formOf(object)
	case watch.Bookmark:
		return f.bookmark(object)
	default: // an error, after which the client begins anew
		return nil
	}
	if err != nil {
		return err
	}
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	switch {
	case f.k.follower != f: // another watch asks the same, and began later
	case f.initial != nil:
		f.initial[of.name] = f.k.known(of)
	case kind == watch.Deleted:
		f.c.remove(f.q, f.k, of.name)
		f.k.revision = of.revision
	default:
		f.c.put(f.q, f.k, of)
		f.k.revision = of.revision
	}
	return nil
}

// known returns the object that says the same already, or a new one.
func (k *collection) known(f form) *object {
	if old := k.objects[f.name]; old != nil && old.sum == f.sum {
		return old
	}
	return newObject(f)
}

// bookmark notes how far the watch has come, and where its initial events end.
func (f *following) bookmark(object runtime.Unknown) error {
	var o anything
	if err := o.Unmarshal(object.Raw); err != nil {
		return err
	}
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	if f.k.follower != f {
		return nil
	}
	if f.initial == nil {
		f.k.revision = o.meta.ResourceVersion
		return nil
	}
	if o.meta.Annotations[metav1.InitialEventsAnnotationKey] != "true" {
		return nil
	}
	if f.k.revision == "" { // an empty collection is worth knowing, too
		f.c.note(f.q, "", true)
	}
	f.k.apiVersion, f.k.kind, f.k.revision = object.APIVersion, object.Kind, o.meta.ResourceVersion
	f.c.replace(f.q, f.k, f.initial)
	f.initial = nil
	return nil
}

// canceling is a body with which a context ends.
type canceling struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b *canceling) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}
