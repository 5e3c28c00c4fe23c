package api

import (
	"fmt"
	"math"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/store"
)

// revision returns the revision of an object that came from the state.
func revision(obj kind.Object) store.Revision {
	rev, err := strconv.ParseInt(obj.GetResourceVersion(), 10, 64)
	if err != nil {
		panic(fmt.Errorf("revision of %s/%s in the state: %w", obj.GetNamespace(), obj.GetName(), err))
	}
	return store.Revision(rev)
}

// sentRevision returns the revision that a client put into an object, 0 for none.
func sentRevision(obj kind.Object) (uint64, error) {
	text := obj.GetResourceVersion()
	if text == "" {
		return 0, nil
	}
	return strconv.ParseUint(text, 10, 64)
}

// parseRevision reads a resourceVersion that a client sent; "" is 0.
func parseRevision(text string) (store.Revision, error) {
	if text == "" {
		return 0, nil
	}
	rev, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, field.Invalid(field.NewPath("resourceVersion"), text, err.Error())
	}
	return store.Revision(min(rev, math.MaxInt64)), nil
}

// Reached refuses a resourceVersion, of an object that a client wants to get, that
// there is not yet. Upstream takes what is none for a fault of its own where it reads
// from its cache.
func (a *API) Reached(req Request, text string) error {
	if err := nameable(req.Name); err != nil {
		return err
	}
	rev, err := parseRevision(text)
	switch {
	case err != nil && !cached(req.Kind):
		return badRevision(err)
	case err != nil:
		return unknown(err)
	}
	return a.notBefore(cached(req.Kind), rev)
}

// cached tells the kinds that upstream's server reads from its cache.
func cached(k *kind.Kind) bool { return k != kind.Event }

func badRevision(err error) error {
	return apierrors.NewBadRequest(fmt.Sprintf("invalid resource version: %v", err))
}

// notBefore refuses a revision that the state has not reached. Whom upstream's cache
// would have served is told when to try again.
func (a *API) notBefore(cached bool, rev store.Revision) error {
	current := a.state.Revision()
	if rev <= current {
		return nil
	}
	seconds := 0
	if cached {
		seconds = 1
	}
	err := apierrors.NewTimeoutError(fmt.Sprintf("Too large resource version: %d, current: %d", rev, current), seconds)
	err.ErrStatus.Details.Causes = []metav1.StatusCause{{
		Type:    metav1.CauseTypeResourceVersionTooLarge,
		Message: "Too large resource version",
	}}
	return err
}
