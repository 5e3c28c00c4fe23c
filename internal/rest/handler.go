package rest

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/auth"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/tunnel"
)

// request is one HTTP request for a resource, on its way through the handler.
type request struct {
	*http.Request
	path
	verb  string
	user  auth.User
	res   *resource
	query url.Values // nil when there is none
}

// ServeHTTP serves one request.
func (h *Handler) ServeHTTP(plain http.ResponseWriter, r *http.Request) {
	w := &statusWriter{ResponseWriter: plain, h: h}
	w.Header()["Cache-Control"] = noCache
	defer w.release()
	defer h.finish(w, r)
	defer h.recovered(w, r)
	if !h.mayAsk(w, r) {
		return
	}
	user, ok, err := h.Authenticator.Authenticate(r)
	if err != nil {
		discourage(w, r)
		h.unauthorized(w, r, err)
		return
	}
	if ok {
		introduce(r)
	} else {
		user = auth.AnonymousUser()
		discourage(w, r)
	}
	if impersonates(r.Header) {
		if user, ok = h.impersonate(w, r, user); !ok {
			return
		}
	}
	if p, ok := parsePath(r.URL.Path); ok {
		h.serveResource(w, &request{Request: r, path: p, user: user})
		return
	}
	h.servePath(w, r, user)
}

// servePath serves what is not a resource.
func (h *Handler) servePath(w http.ResponseWriter, r *http.Request, user auth.User) {
	a := auth.Attributes{User: user, Verb: strings.ToLower(r.Method), Path: r.URL.Path}
	if !h.authorized(w, r, a) {
		return
	}
	p := r.URL.Path
	if p == tunnel.Path && h.Tunnel != nil {
		h.takeTunnel(w, r, user)
		return
	}
	if serve := h.paths[p]; serve != nil {
		serve(w, r)
		return
	}
	serve := h.documents[strings.TrimSuffix(p, "/")]
	switch {
	case serve == nil && strings.HasSuffix(p, "/watch"):
		http.Error(w, fmt.Sprintf("Internal Server Error: %q: failed to create RequestInfo: unable to determine kind and namespace from url, %v",
			r.RequestURI, r.URL), http.StatusInternalServerError)
	case serve == nil && h.belowGroup(p):
		h.fail(w, r, noSuchResource())
	case serve == nil && strings.HasPrefix(p, "/openapi/v3/"):
		w.WriteHeader(http.StatusNotFound)
	case serve == nil:
		http.Error(w, "404 page not found", http.StatusNotFound)
	case r.Method != http.MethodGet:
		h.fail(w, r, methodNotAllowed())
	default:
		serve(w, r)
	}
}

// authorized answers 403 unless the request may be made.
func (h *Handler) authorized(w http.ResponseWriter, r *http.Request, a auth.Attributes) bool {
	err := h.authorize(r.Context(), a)
	if err != nil {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		h.fail(w, r, err)
	}
	return err == nil
}

// authorize returns why a request may not be made.
func (h *Handler) authorize(ctx context.Context, a auth.Attributes) error {
	decision, reason, err := h.Authorizer.Authorize(ctx, a)
	switch {
	case decision == auth.Allow:
		return nil
	case err != nil:
		return errors.NewInternalError(err)
	}
	return auth.Forbidden(a, reason)
}

// serveResource authorizes a request for a resource, finds the resource, and
// hands over to the verb.
func (h *Handler) serveResource(w http.ResponseWriter, q *request) {
	if q.URL.RawQuery != "" {
		q.query = q.URL.Query()
	}
	q.verb = q.path.verb(q.Method, q.wantsWatch())
	leave, ok := h.inflight.enter(q)
	if !ok {
		h.tooMany(w, q.Request)
		return
	}
	defer leave()
	if !h.permitted(w, q) {
		return
	}
	if review := h.reviews[q.groupVersion][q.resource]; review != nil {
		h.serveReview(w, q, review)
		return
	}
	if !h.hasGroup(q.group) {
		http.Error(w, "404 page not found", http.StatusNotFound)
		return
	}
	if g := h.groups[q.groupVersion]; g != nil {
		q.res = g.resources[q.resource]
		if q.res == nil && q.isLegacyBinding() {
			q.res, q.subresource = g.resources["pods"], "binding"
		}
	}
	if q.res == nil {
		h.fail(w, q.Request, noSuchResource())
		return
	}
	err := q.checkScope()
	if err == nil {
		err = q.route()
	}
	if err != nil {
		h.fail(w, q.Request, err)
		return
	}
	if q.res.deprecation != "" {
		addWarning(w, q.res.deprecation)
	}
	if err := h.serveVerb(w, q); err != nil {
		h.fail(w, q.Request, err)
	}
}

// permitted answers 403 unless who asks may do so.
func (h *Handler) permitted(w http.ResponseWriter, q *request) bool {
	a := q.attributes(q.user, q.verb)
	q.narrow(&a)
	return h.authorized(w, q.Request, a)
}

// hasGroup says whether there is any version of the group.
func (h *Handler) hasGroup(name string) bool {
	return slices.ContainsFunc(h.order, func(g *group) bool { return g.group == name })
}

// belowGroup says whether a path is below that of an API group.
func (h *Handler) belowGroup(p string) bool {
	group, ok := strings.CutPrefix(p, "/apis/")
	group, _, _ = strings.Cut(group, "/")
	return ok && group != "" && h.hasGroup(group) || strings.HasPrefix(p, "/api/")
}

// isLegacyBinding tells POST /api/v1/namespaces/NAMESPACE/bindings, the old
// way to bind a Pod.
func (q *request) isLegacyBinding() bool {
	return q.group == "" && q.resource == "bindings" && q.namespace != "" && q.name == ""
}

// checkScope refuses paths that do not fit the kind's scope: namespaced objects
// are reached through their namespace, except for lists and watches of all.
func (q *request) checkScope() error {
	switch {
	case q.tail != "" && !q.connects():
		return noSuchResource()
	case q.subresource != "" && (q.res.face != nil || q.res.kind.Subresource(q.subresource) == nil):
		return noSuchResource()
	case !q.res.kind.Namespaced:
		// A namespace counts as its own, and as no other's.
		if q.namespace != "" && (q.res.kind != kind.Namespace || q.namespace != q.name) {
			return noSuchResource()
		}
	case q.namespace != "":
	case q.name != "":
		return noSuchResource()
	case q.verb != "list" && q.verb != "watch":
		return methodNotAllowed()
	}
	return nil
}

// wantsWatch reads ?watch= as upstream does.
func (q *request) wantsWatch() bool {
	values := q.query["watch"]
	if len(values) == 0 {
		return false
	}
	v := strings.ToLower(values[0])
	return v != "false" && v != "0"
}

// narrow tells authorization what a list, watch or deletecollection is limited
// to: the selectors, and the name where the field selector gives it.
func (q *request) narrow(a *auth.Attributes) {
	if q.query == nil {
		return
	}
	switch q.verb {
	case "list", "watch", "deletecollection":
		a.FieldSelector, a.LabelSelector = q.query.Get("fieldSelector"), q.query.Get("labelSelector")
		if name, ok := selectedName(a.FieldSelector); ok && a.Name == "" {
			a.Name = name
		}
	}
}

// selectedName returns the name that a field selector demands. It reads the
// selector as the list itself will: what looks like a term may be part of an
// escaped value, and a right to one object must not open all.
func selectedName(selector string) (string, bool) {
	if selector == "" {
		return "", false
	}
	parsed, err := fields.ParseSelector(selector)
	if err != nil {
		return "", false
	}
	return parsed.RequiresExactMatch("metadata.name")
}

// serveVerb runs the verb. An error is answered by the caller; without one the
// answer has been given.
func (h *Handler) serveVerb(w http.ResponseWriter, q *request) error {
	if q.subresource != "" {
		return h.serveSubresource(w, q)
	}
	switch q.verb {
	case "get":
		return h.get(w, q)
	case "list":
		return h.list(w, q)
	case "watch":
		return h.watch(w, q)
	}
	growStack()
	ctx, cancel := q.deadline()
	defer cancel()
	switch q.verb {
	case "create":
		return h.create(ctx, w, q)
	case "update":
		return h.update(ctx, w, q)
	case "patch":
		return h.patch(ctx, w, q)
	case "delete":
		return h.delete(ctx, w, q)
	case "deletecollection":
		return h.deleteCollection(ctx, w, q)
	}
	return methodNotAllowed()
}

// deadline bounds a request that is not a stream: by ?timeout, at most by the
// server's own limit.
func (q *request) deadline() (context.Context, context.CancelFunc) {
	timeout := requestTimeout
	if wish, err := parseTimeout(q.query.Get("timeout")); err == nil && wish > 0 && wish < timeout {
		timeout = wish
	}
	return context.WithTimeout(q.Context(), timeout)
}

// api returns the request as package api wants it.
func (q *request) api() api.Request {
	r := api.Request{User: q.user, Kind: q.res.kind, Face: q.res.face, Namespace: q.namespace, Name: q.name, Subresource: q.subresource}
	if !q.res.kind.Namespaced {
		r.Namespace = ""
	}
	return r
}

// manager returns the name under which managed fields are kept when the
// request gives none: the User-Agent's first word.
func (q *request) manager(wish string) string {
	if wish != "" {
		return wish
	}
	name, _, _ := strings.Cut(q.UserAgent(), "/")
	var b strings.Builder
	for _, r := range name {
		if !unicode.IsPrint(r) {
			continue
		}
		if b.Len()+utf8.RuneLen(r) > validation.FieldManagerMaxLength {
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}

func methodNotAllowed() error {
	return &errors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusMethodNotAllowed, Reason: metav1.StatusReasonMethodNotAllowed,
		Message: "the server does not allow this method on the requested resource",
		Details: &metav1.StatusDetails{},
	}}
}

func noSuchResource() error {
	return &errors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusNotFound, Reason: metav1.StatusReasonNotFound,
		Message: "the server could not find the requested resource",
		Details: &metav1.StatusDetails{},
	}}
}
