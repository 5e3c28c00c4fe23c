// Package api is the verbs of the Kubernetes API as Go: get, list, watch,
// create, update, patch and delete, each running default → mutate → validate →
// commit. It is the one door through which every write passes, a controller's
// too.
//
// API is the door; a Request names who asks for what; List, Watch and Patch are
// what some verbs take or give. The invariant: every object that reaches the
// state has been defaulted, admitted and validated, and takes the addresses and
// ports it names in the same commit. The package speaks no HTTP.
//
// Every error is an *errors.StatusError of apimachinery with upstream's reason
// and text, or the context's error. Objects that are returned are shared and
// constant. Objects that are handed in are in the kind's storage type, and their
// caller gives up its ownership.
package api

import (
	"context"
	"net/netip"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skiff-sh/skiff/internal/admission"
	"github.com/skiff-sh/skiff/internal/auth"
	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

// Request says who asks, and for what. Authorization has happened before.
type Request struct {
	User         auth.User
	FieldManager string
	Kind         *kind.Kind
	// Face is the group-version that the client speaks, in which patches are
	// applied and managed fields recorded; nil is the kind's storage version.
	Face        *kind.Face
	Namespace   string
	Name        string
	Subresource string
	DryRun      bool
	// MayCreate, where set, is asked before a PUT or an apply makes an object
	// that is not there, which it takes another right to do.
	MayCreate func(context.Context) error
	// May, where set, is asked by admission for rights beyond that to make the
	// request, such as to approve what goes to a signer. Nil: every right.
	May func(context.Context, admission.Permission) bool
	// Warn, where set, is given the texts for the Warning header.
	Warn func(text string)

	recorded bool // who owns which field is in the object already
}

// Config is what an API is made of.
type Config struct {
	State     *state.State
	Admission admission.Chain
	Tokens    Tokens // nil: token requests are refused
	// ServiceCIDRs are the ranges of Services' cluster addresses, the default
	// family first; at most one of each family.
	ServiceCIDRs []netip.Prefix
	NodePorts    config.PortRange
	Log          *zap.Logger
	Now          func() time.Time // nil: time.Now
}

// Tokens issues service-account tokens.
type Tokens interface {
	// Issue returns a signed token for account, bound to a Pod, Secret or Node
	// unless bound is nil. Empty audiences mean the API server's own, which
	// are then returned in the status.
	Issue(account *corev1.ServiceAccount, bound kind.Object, audiences []string, lifetime time.Duration) (Token, error)
}

// Token is an issued service-account token.
type Token = auth.Token

// API is the door. It is safe for concurrent use.
type API struct {
	state     *state.State
	admission admission.Chain
	tokens    Tokens
	addresses addresses
	ports     ports
	fields    managers
	log       *zap.Logger
	clock     func() time.Time
}

// New returns the API over a state.
func New(c Config) *API {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	return &API{
		state:     c.State,
		admission: c.Admission,
		tokens:    c.Tokens,
		addresses: newAddresses(c.ServiceCIDRs),
		ports:     newPorts(c.NodePorts),
		log:       c.Log,
		clock:     c.Now,
	}
}

// now returns the time as timestamps of objects have it.
func (a *API) now() metav1.Time { return kind.Timestamp(a.clock()) }

// resource names the request's kind in errors, in the group that the client asked
// for.
func (r *Request) resource() schema.GroupResource {
	if r.Face != nil {
		return r.Face.Resource.GroupResource()
	}
	return r.Kind.GroupResource()
}

// namespace returns the namespace of the request's object, "" for a kind that
// has none.
func (r *Request) namespace() string {
	if r.Kind.Namespaced {
		return r.Namespace
	}
	return ""
}

func (r *Request) mayCreate(ctx context.Context) error {
	if r.MayCreate == nil {
		return nil
	}
	return r.MayCreate(ctx)
}

func (r *Request) warn(texts []string) {
	if r.Warn == nil {
		return
	}
	for _, text := range texts {
		r.Warn(text)
	}
}
