package api

import (
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skiff-sh/skiff/internal/kind"
)

// Ask makes of a review what a creation would: its namespace is the request's, the
// record says who asks, and what is wrong with it is an Invalid error. Upstream's
// does not name the kind there.
func (a *API) Ask(req Request, obj kind.Object) error {
	obj.GetObjectKind().SetGroupVersionKind(req.Kind.GVK())
	if err := matchNamespace(&req, obj); err != nil {
		return err
	}
	forgetSystem(obj)
	singleOwners(&req, obj, "")
	if err := a.fields.create(&req, obj); err != nil {
		return err
	}
	if req.Kind.Validate == nil {
		return nil
	}
	if errs := req.Kind.Validate(obj); len(errs) > 0 {
		return apierrors.NewInvalid(schema.GroupKind{Group: req.Kind.Resource.Group}, "", errs)
	}
	return nil
}
