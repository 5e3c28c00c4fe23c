// Package admission is the ordered list of steps that complete and check a
// request between its decoding and its commit.
//
// A Request is what a step sees; a Step is a named pair of functions; a Chain is
// the list, written out once in New with the reason for its order. The
// invariant: Mutate may change Request.Object and nothing else, Validate changes
// nothing. The package reads the state and never stores.
package admission

import (
	"context"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

// Operation is what a request does.
type Operation string

// The operations that are admitted.
const (
	Create Operation = "CREATE"
	Update Operation = "UPDATE"
	Delete Operation = "DELETE"
)

// User is who makes a request.
type User struct {
	Name   string
	Groups []string
}

// In reports whether the user belongs to a group.
func (u User) In(group string) bool {
	for _, g := range u.Groups {
		if g == group {
			return true
		}
	}
	return false
}

// Request is what is to be admitted. Old is shared and constant; it is nil at
// creation, Object is nil at deletion.
type Request struct {
	Operation   Operation
	User        User
	Kind        *kind.Kind
	Subresource string
	Namespace   string
	Name        string // empty where it will be generated
	Object      kind.Object
	Old         kind.Object
	// Body is what was posted to a subresource that is not an update of the
	// object: a Binding, Eviction or TokenRequest.
	Body   any
	DryRun bool
	Warn   func(text string) // may be nil
	// May tells whether the user has a right besides that to make the request.
	// Nil: every right.
	May func(context.Context, Permission) bool
}

// is reports whether the request is for a resource of the given kind and part.
func (r *Request) is(k *kind.Kind, subresource string) bool {
	return r.Kind == k && r.Subresource == subresource
}

// Forbid returns the Forbidden error for a request, with upstream's text.
func (r *Request) Forbid(err error) *apierrors.StatusError {
	name := r.Name
	if name == "" && r.Object != nil {
		if name = r.Object.GetName(); name == "" {
			name = r.Object.GetGenerateName()
		}
	}
	if name == "" {
		name = "Unknown"
	}
	return apierrors.NewForbidden(r.Kind.GroupResource(), name, err)
}

// Step is one concern. Either function may be nil.
type Step struct {
	Name     string
	Mutate   func(context.Context, *Request) error
	Validate func(context.Context, *Request) error
}

// Chain is the steps in order.
type Chain []Step

// Mutate runs the mutating functions in order; the first error ends it.
func (c Chain) Mutate(ctx context.Context, r *Request) error {
	for i := range c {
		if c[i].Mutate == nil {
			continue
		}
		if err := c[i].Mutate(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// Validate runs the validating functions in order; the first error ends it.
func (c Chain) Validate(ctx context.Context, r *Request) error {
	for i := range c {
		if c[i].Validate == nil {
			continue
		}
		if err := c[i].Validate(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// New returns the steps of the house over a state.
//
// The order is upstream's. What forbids by the namespace or the user comes
// first, so that nobody learns from later errors about what they may not touch.
// The service account comes before anything that looks at volumes. Priorities
// and tolerations are completed after the Pod has its final form, and whatever
// counts (limits, quota) goes to the end, where nothing changes any more.
func New(s *state.State) Chain {
	return Chain{
		namespaceLifecycle(),
		nodeRestriction(s),
		serviceAccount(s),
		podTopology(s),
		taintNewNodes(),
		priority(s),
		defaultTolerations(),
		runtimeClass(s),
		certificateApproval(),
		certificateSigning(),
		certificateSubjectRestriction(),
		resizeFeatures(s),
		resizeRoom(s),
	}
}

// nodeName returns the node a user is, if it is one.
func (u User) nodeName() (name string, isNode bool) {
	name, isNode = strings.CutPrefix(u.Name, "system:node:")
	return name, isNode && u.In("system:nodes")
}
