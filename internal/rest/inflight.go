package rest

import (
	"net/http"
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
