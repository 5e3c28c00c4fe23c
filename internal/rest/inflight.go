package rest

import (
	"net/http"
	"runtime"
	"slices"

	"github.com/skiff-sh/skiff/internal/auth"
	"k8s.io/apimachinery/pkg/api/errors"
)

// How many requests are served at the same time, as upstream's
// --max-requests-inflight and --max-mutating-requests-inflight: each may hold a
// body and an encoded list in memory.
const (
	maxReads   = 400
	maxChanges = 200
)

// inflight bounds the requests under way. Those that last (watches, streams)
// do not count, and administrators are always let in.
type inflight struct {
	reads, changes chan struct{}
}

func newInflight(reads, changes int) inflight {
	return inflight{reads: make(chan struct{}, reads), changes: make(chan struct{}, changes)}
}

// enter takes a place for the request, which leave gives back. ok is false when
// there is none.
func (f inflight) enter(q *request) (leave func(), ok bool) {
	places := f.reads
	switch q.verb {
	case "watch":
		return func() {}, true
	case "create", "update", "patch", "delete", "deletecollection":
		places = f.changes
	}
	if q.lasts() || slices.Contains(q.user.Groups, auth.GroupMasters) {
		return func() {}, true
	}
	select {
	case places <- struct{}{}:
		return func() { <-places }, true
	default:
		return nil, false
	}
}

// lasts says whether the request is for a stream.
func (q *request) lasts() bool {
	switch q.subresource {
	case "exec", "attach", "portforward", "proxy", "log":
		return true
	}
	return false
}

// tooMany tells a client to come again.
func (h *Handler) tooMany(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Retry-After", "1")
	h.fail(w, r, errors.NewTooManyRequests("Too many requests, please try again later.", 1))
}

// maxQueue is how many requests may wait for memory that others have.
const maxQueue = 64

// Requests with headers longer than this share what there is for them: a selector of a
// megabyte takes weightOfHeader times as much to be read.
const (
	longHeader     = 64 << 10
	weightOfHeader = 64
)

// mayAsk refuses a request with long headers where there are many. The refusal has no
// body: who does not read must not be waited for.
func (h *Handler) mayAsk(w *statusWriter, r *http.Request) bool {
	if !h.mayAskMore(w, r) {
		w.Header().Set("Retry-After", "1")
		w.Header().Set("Connection", "close") // and all that its client has opened with it
		w.WriteHeader(http.StatusTooManyRequests)
		return false
	}
	size := headerSize(r)
	if size <= longHeader {
		return true
	}
	give, err := h.headers.take(r.Context(), int64(size)*weightOfHeader)
	if err == nil {
		w.hold(give)
		give, err = h.cores.take(r.Context(), 1)
	}
	if err != nil {
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
		return false
	}
	w.hold(give)
	return true
}

// maxWithdrawn is how many requests a connection may withdraw before anybody has looked
// at them: more is no mistake (CVE-2023-44487).
const maxWithdrawn = 100

// mayAskMore counts a request, and says whether its connection may have one more: the
// more requests there are in all, the fewer. Each has one at least.
func (h *Handler) mayAskMore(w *statusWriter, r *http.Request) bool {
	c, _ := r.Context().Value(connKey{}).(*clientConn)
	if c == nil || r.ProtoMajor != 2 {
		return true
	}
	if r.Context().Err() != nil {
		if c.withdrawn.Add(1) > maxWithdrawn {
			_ = c.Conn.Close()
		}
		return false
	}
	all, own := h.running.Add(1), c.running.Add(1)
	w.hold(func() {
		h.running.Add(-1)
		c.running.Add(-1)
	})
	return own <= 1+max(0, (maxWaiting-all)/8)
}

// headerSize is about what a request's headers take in memory.
func headerSize(r *http.Request) int {
	const field = 64
	size := len(r.RequestURI)
	for name, values := range r.Header {
		size += len(name) + field
		for _, v := range values {
			size += len(v) + field
		}
	}
	return size
}

// crowd is how many goroutines are too many, beside those of requests that last.
const crowd = 4096

// finish has an answer leave here, where an end can be put to it, when there are many
// that nobody takes: a stream of HTTP/2 whose client gives it no window has a goroutine
// until its connection ends.
func (h *Handler) finish(w *statusWriter, r *http.Request) {
	if r.ProtoMajor != 2 || int64(runtime.NumGoroutine()) <= crowd+4*h.lasting.Load() {
		return
	}
	defer h.patience.forAnswer(w)()
	_ = http.NewResponseController(w).Flush() // its client is gone, or was given up
}

// discourage ends an HTTP/2 connection of somebody who is not known with what it has
// asked so far, as upstream's server does: streams are cheap for who opens them.
func discourage(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 2 {
		w.Header().Set("Connection", "close")
	}
}
