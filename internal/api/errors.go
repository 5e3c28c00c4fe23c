package api

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/store"
)

// errModified is what a lost race over an object is called.
var errModified = errors.New("the object has been modified; please apply your changes to the latest version and try again")

// notFound says that there is no such object, or that there never can be.
func notFound(r *Request) error {
	if err := nameable(r.Name); err != nil {
		return err
	}
	return apierrors.NewNotFound(r.resource(), r.Name)
}

// nameable refuses names that cannot be part of a path.
func nameable(name string) error {
	if name == "" {
		return apierrors.NewBadRequest("Name parameter required.")
	}
	if texts := path.IsValidPathSegmentName(name); len(texts) > 0 {
		return apierrors.NewBadRequest(fmt.Sprintf("Name parameter invalid: %q: %s", name, strings.Join(texts, ";")))
	}
	return nil
}

func modified(r *Request, name string) error {
	return apierrors.NewConflict(r.resource(), name, errModified)
}

// unknown is the answer to what upstream's server did not expect: the code of its
// own fault and no reason. Clients see the text.
func unknown(err error) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: 500, Message: err.Error()}}
}

// wrongUID is what upstream's storage says when an object is not the one that
// was meant.
func wrongUID(r *Request, name string, want, have any) error {
	return failedPrecondition(r, name, "UID", want, have)
}

func failedPrecondition(r *Request, name, what string, want, have any) error {
	key := "/" + registry(r.Kind) + "/"
	if !r.DryRun { // which names it without the beginning
		key = "/registry" + key
	}
	if ns := r.namespace(); ns != "" {
		key += ns + "/"
	}
	return apierrors.NewConflict(r.resource(), name, fmt.Errorf(
		"StorageError: invalid object, Code: 4, Key: %s, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: %s in precondition: %v, %s in object meta: %v",
		key+name, what, want, what, have))
}

// registry is where upstream's store has a kind, by names that are sometimes old.
func registry(k *kind.Kind) string {
	switch k {
	case kind.Node:
		return "minions"
	case kind.Service:
		return "services/specs"
	case kind.Endpoints:
		return "services/endpoints"
	}
	return k.Resource.Resource
}

// invalid returns the Invalid error, or nil if there is nothing to say. It names
// the kind in the group it is stored in, whichever the client spoke.
func invalid(r *Request, obj kind.Object, errs field.ErrorList) error {
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(r.Kind.GVK().GroupKind(), obj.GetName(), errs)
}

// asConflict returns the expectation of a commit that did not hold, or nil.
func asConflict(err error) *store.ConflictError {
	var conflict *store.ConflictError
	if errors.As(err, &conflict) {
		return conflict
	}
	return nil
}

// maxCommitAttempts bounds the attempts to commit one change. Each that fails is
// a success of somebody else, so that there is always progress.
const maxCommitAttempts = 256

// lost notes that somebody else was faster. It returns nil when it is worth to
// try again.
func (a *API) lost(req *Request, name string, conflict *store.ConflictError, attempt int) error {
	a.log.Debug("lost a race for a commit", zap.Stringer("resource", req.Kind.GroupResource()),
		zap.String("namespace", req.namespace()), zap.String("name", name),
		zap.Stringer("key", conflict.Key), zap.Int("attempt", attempt))
	if attempt >= maxCommitAttempts {
		return modified(req, name)
	}
	return nil
}

// commitError turns what the state says about a commit, conflicts excepted,
// into what a client is told.
func commitError(err error) error {
	switch {
	case err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return err
	case asConflict(err) != nil:
		return err
	case errors.Is(err, store.ErrFull):
		return apierrors.NewInternalError(errors.New(
			"the disk under the data directory is full, nothing can be written: free some space there, and try again"))
	case errors.Is(err, store.ErrClosed):
		return apierrors.NewServiceUnavailable("the server is stopping; try again when it is back")
	}
	return apierrors.NewInternalError(err)
}
