// Package rest is the HTTP face of package api: routes, codecs, tables,
// discovery, OpenAPI, watch streams, and the way through to the nodes.
//
// Handler serves everything; a resource is one group-version's view of a kind,
// with its conversions; a request is what one HTTP request asks of it; a form
// is the shape in which its client wants the answer. The invariant: the path is
// always authenticate → authorize → decode → api → encode, and no answer is
// made up here that api or the nodes did not give. The package never decides
// what may be stored.
package rest

import (
	"context"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/version"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/auth"
	"github.com/skiff-sh/skiff/internal/kind"
	"go.uber.org/zap"
)

// Config is what a Handler is made of. Fields not marked optional are needed.
type Config struct {
	API           *api.API
	Kinds         []*kind.Kind
	Authenticator auth.Authenticator
	Authorizer    auth.Authorizer
	Version       version.Info
	Log           *zap.Logger

	// Tokens tells whose a bearer token is and for which of the audiences, for
	// TokenReviews (optional). No audiences mean the API server's own.
	Tokens func(ctx context.Context, token string, audiences []string) (u auth.User, good []string, ok bool, err error)
	// Nodes reaches the nodes' own API (optional: logs, exec, attach and
	// port-forward then answer 503).
	Nodes Nodes
	// Inside reaches Pods, for the proxy (optional: Outside).
	Inside Inside
	// Tunnel takes the tunnel of a node that asks for one (optional).
	Tunnel func(w http.ResponseWriter, r *http.Request, node string)
	// OpenAPI holds the documents below /openapi (optional).
	OpenAPI OpenAPI
	// Checks are asked by /healthz, /livez and /readyz, in this order.
	Checks []Check
	// Metrics serves /metrics (optional).
	Metrics http.Handler
	// JWKS and OpenIDConfiguration give the documents with which others verify
	// service-account tokens (optional).
	JWKS, OpenIDConfiguration func() ([]byte, error)
	// CACerts gives the PEM of the cluster's authority, by which a machine that
	// wants to join knows the server (optional).
	CACerts func() ([]byte, error)
	// Now is the time that ages in tables are counted to (optional: time.Now).
	Now func() time.Time
	// Panicked is called after a panic was recovered (optional): tests fail on it.
	Panicked func(value any, stack []byte)
}

// Limits of requests, those of upstream.
const (
	maxBodyBytes   = 3 << 20
	requestTimeout = 60 * time.Second
)

// Handler serves the Kubernetes API. It is safe for concurrent use.
type Handler struct {
	Config

	groups    map[groupVersion]*group
	order     []*group                    // in the order of discovery
	documents map[string]http.HandlerFunc // by path, without a slash at its end
	paths     map[string]http.HandlerFunc
	encodings *encodings
	accepts   accepts
	decoders  decoders
	options   decoders // of the bodies of deletions
	reviews   map[groupVersion]map[string]reviewer
	proxy     *proxy
	discovery *discoveryDocuments
	inflight  inflight
	patience  *patience
	// What the bodies of requests take that are read, what it takes to decode them,
	// what answers take until their clients have them, and long headers.
	bodies, decodings, answers, headers *budget
	cores                               *budget      // those that may be kept busy with something large
	lasting, running                    atomic.Int64 // requests that last; streams of HTTP/2 with others
	panics                              atomic.Int64

	stopping context.Context // ends with the server's life, never a request's
	stop     context.CancelFunc
	// begin keeps long-running requests from beginning once stopping has ended.
	begin   sync.Mutex
	streams sync.WaitGroup // long-running requests
}

// New returns the handler of a server.
func New(c Config) *Handler {
	if c.Now == nil {
		c.Now = time.Now
	}
	h := &Handler{Config: c, encodings: newEncodings(encodingBytes)}
	h.stopping, h.stop = context.WithCancel(context.Background())
	h.inflight = newInflight(maxReads, maxChanges)
	h.patience = newPatience(maxWaiting, waitingTime)
	memory := memoryLimit()
	h.bodies, h.decodings, h.answers = newBudget(memory/10, maxQueue), newBudget(memory*2/5, maxQueue), newBudget(memory/6, maxQueue)
	h.headers = newBudget(memory/4, maxQueue/4)
	h.cores = newBudget(int64(max(1, runtime.GOMAXPROCS(0)/2)), maxQueue)
	h.decoders, h.options = newDecoders(kind.Scheme()), newDecoders(optionsScheme())
	h.groups, h.order = newGroups(c.Kinds)
	h.reviews = h.newReviews()
	h.discovery = newDiscoveryDocuments(h.order)
	h.proxy = newProxy(h)
	h.documents = h.newDocuments()
	h.paths = h.newPaths()
	return h
}

// Close ends watches and connections to nodes, makes /readyz fail, and waits
// until the last of them is done. Other requests are http.Server's to drain.
func (h *Handler) Close() {
	h.begin.Lock()
	h.stop()
	h.begin.Unlock()
	h.streams.Wait()
	h.proxy.close()
}

// Panics returns how many requests have panicked.
func (h *Handler) Panics() int64 { return h.panics.Load() }

// lastWords is how long a client has to take what is still to be said when its
// stream ends.
const lastWords = 500 * time.Millisecond

// longRunning ties a request that may last to the handler's life. When the
// context ends, a write to a client that does not read fails soon after: a
// stopping server waits for nobody. The function must be called at the end.
func (h *Handler) longRunning(ctx context.Context, w http.ResponseWriter, timeout time.Duration) (context.Context, func()) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	h.begin.Lock()
	if h.stopping.Err() != nil {
		h.begin.Unlock()
		cancel()
		return ctx, func() {}
	}
	h.streams.Add(1)
	h.begin.Unlock()
	h.lasting.Add(1)
	forget := context.AfterFunc(h.stopping, cancel)
	control := http.NewResponseController(w)
	limited := make(chan struct{})
	unlimit := context.AfterFunc(ctx, func() {
		defer close(limited)
		_ = control.SetWriteDeadline(time.Now().Add(lastWords)) // as good as the connection allows
	})
	return ctx, func() {
		forget()
		if !unlimit() {
			<-limited
			_ = control.SetWriteDeadline(time.Time{}) // the connection may serve other requests
		}
		cancel()
		h.lasting.Add(-1)
		h.streams.Done()
	}
}

// Check is one named health check.
type Check struct {
	Name string
	// Live says that the check also counts for /livez and /healthz; all checks
	// count for /readyz.
	Live bool
	Ask  func(context.Context) error
}

// node returns a Node as the API holds it.
func (h *Handler) node(ctx context.Context, name string) (*corev1.Node, error) {
	obj, err := h.API.Get(ctx, api.Request{Kind: kind.Node, Name: name})
	if err != nil {
		return nil, err
	}
	return obj.(*corev1.Node), nil
}
