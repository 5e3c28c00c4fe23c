// Package api is the verbs of the Kubernetes API as Go: get, list, watch,
// create, update, patch and delete, each running default → mutate → validate →
// commit. It is the one door through which every write passes, a controller's
// too.
//
// API is the door; a Request names who asks for what. The invariant: every
// object that reaches the state has been defaulted, admitted and validated. The
// package speaks no HTTP.
package api

import (
	"context"

	"github.com/skiff-sh/skiff/internal/auth"
	"github.com/skiff-sh/skiff/internal/kind"
)

// Request says who asks, and for what. Authorization has happened before.
type Request struct {
	User         auth.User
	FieldManager string
	Kind         *kind.Kind
	Namespace    string
	Name         string
	Subresource  string
	DryRun       bool
}

// The verbs, to be found in the files of their names. Every error is an
// *errors.StatusError of apimachinery with upstream's reason and text. Objects
// that are returned are shared and constant. obj is in the kind's storage type
// (rest converts faces); a caller gives up its ownership.
//
//	func (a *API) Get(ctx, Request) (kind.Object, error)
//	func (a *API) List(ctx, Request, ListOptions) (*List, error)   // Items, Revision, Continue, Remaining
//	func (a *API) Watch(ctx, Request, ListOptions) (*Watch, error)
//	func (a *API) Create(ctx, Request, obj kind.Object) (kind.Object, error)
//	func (a *API) Update(ctx, Request, obj kind.Object) (kind.Object, error)      // Subresource "status" and so on in the Request
//	func (a *API) Modify(ctx, Request, func(obj kind.Object) error) (kind.Object, error) // copy, change, commit; retried on conflict; no commit when nothing changed
//	func (a *API) Patch(ctx, Request, Patch) (kind.Object, error)
//	func (a *API) Delete(ctx, Request, metav1.DeleteOptions) (obj kind.Object, gone bool, err error)
//	func (a *API) DeleteCollection(ctx, Request, ListOptions, metav1.DeleteOptions) (*List, error)
//	func (a *API) Bind(ctx, Request, *corev1.Binding) error
//	func (a *API) Evict(ctx, Request, *policyv1.Eviction) error
//	func (a *API) Scale / UpdateScale, Token (TokenRequest)
var _ = context.Background
