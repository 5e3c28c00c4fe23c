package api

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	utilrand "k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/skiff-sh/skiff/internal/admission"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
	"github.com/skiff-sh/skiff/internal/store"
)

const (
	maxGeneratedBase = 58 // with the random suffix: a DNS label
	generatedSuffix  = 5
	nameAttempts     = 8 // KEP-4420
)

// Create stores a new object. The Request's Name may be empty; if it is not, it
// must be the object's.
func (a *API) Create(ctx context.Context, req Request, obj kind.Object) (kind.Object, error) {
	forgetSystem(obj)
	return a.insert(ctx, req, obj)
}

// insert is Create of an object that may be deleted already: what a change makes of
// nothing keeps even that.
func (a *API) insert(ctx context.Context, req Request, obj kind.Object) (kind.Object, error) {
	if err := identify(&req, obj); err != nil {
		return nil, err
	}
	sent := obj.GetResourceVersion()
	rev, err := sentRevision(obj)
	versioned := err == nil && rev != 0
	obj.SetResourceVersion("")
	if !req.DryRun {
		obj.SetSelfLink("")
	}
	singleOwners(&req, obj, "")
	generate := obj.GetName() == "" && obj.GetGenerateName() != ""
	// A Service is given addresses on the way to its commit; if that loses a
	// race, the next attempt starts without them.
	original := obj
	for names, attempts := 1, 1; ; attempts++ {
		if req.Kind == kind.Service {
			obj = original.DeepCopyObject().(kind.Object)
		}
		created, err := a.createOnce(ctx, &req, obj, versioned)
		conflict := asConflict(err)
		if req.DryRun && err == nil {
			created.SetResourceVersion(sent) // upstream gives it back as it came
		}
		if conflict == nil {
			return created, err
		}
		if conflict.Key.Bucket == req.Kind.Bucket() {
			if names++; !generate || names > nameAttempts {
				return nil, a.alreadyExists(&req, obj)
			}
			obj.SetName("")
		}
		if err := a.lost(&req, obj.GetName(), conflict, attempts); err != nil {
			return nil, err
		}
	}
}

// identify makes the object's type, name and namespace those of the request.
func identify(req *Request, obj kind.Object) error {
	obj.GetObjectKind().SetGroupVersionKind(req.Kind.GVK())
	if err := matchNamespace(req, obj); err != nil {
		return err
	}
	if req.Name != "" && obj.GetName() != req.Name {
		if obj.GetName() != "" {
			return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", obj.GetName(), req.Name))
		}
		obj.SetName(req.Name)
	}
	return nil
}

// createOnce goes once from default to commit. It returns a *store.ConflictError
// when the name is taken or when something it relied on changed meanwhile. versioned:
// the object came with a resourceVersion, as none has that is not stored yet.
func (a *API) createOnce(ctx context.Context, req *Request, obj kind.Object, versioned bool) (kind.Object, error) {
	writes, err := a.openNamespace(req, obj)
	if err != nil {
		return nil, err
	}
	admit := a.admit(req, admission.Create, obj, nil)
	claims, err := a.prepareCreate(ctx, req, admit)
	if err != nil {
		return nil, err
	}
	if err := a.admission.Validate(ctx, admit); err != nil {
		return nil, err
	}
	if req.DryRun {
		return a.createDry(req, obj)
	}
	if versioned {
		return nil, unknown(errors.New("resourceVersion should not be set on objects to be created"))
	}
	put := state.Write{Kind: req.Kind, Action: store.Put, Object: obj, Expect: store.Absent}
	if req.Kind.Lazy != nil {
		put.Lazy = req.Kind.Lazy(obj, nil)
	}
	writes = append(writes, claims.writes()...)
	writes = append(writes, put)
	out, err := a.state.Commit(ctx, writes...)
	if err != nil {
		return nil, commitError(err)
	}
	return out[len(out)-1], nil
}

// prepareCreate makes of what the client sent what is to be stored, and says
// what is wrong with it. The claims are to be committed with the object.
func (a *API) prepareCreate(ctx context.Context, req *Request, admit *admission.Request) (*claims, error) {
	k, obj := req.Kind, admit.Object
	if k.Default != nil {
		k.Default(obj)
	}
	// Who owns what is about what was sent, not about what admission makes of it.
	if err := a.fields.create(req, obj); err != nil {
		return nil, err
	}
	if err := a.admission.Mutate(ctx, admit); err != nil {
		return nil, err
	}
	singleOwners(req, obj, " after mutating admission happens")
	a.complete(obj)
	claims, err := a.allocate(req, obj, nil)
	if err != nil {
		return nil, err
	}
	nameRequester(obj, req.User)
	if k.EarlyWarnings != nil {
		req.warn(k.EarlyWarnings(obj))
	}
	if k.PrepareCreate != nil {
		k.PrepareCreate(obj)
	}
	if err := invalid(req, obj, kind.CreateErrors(k, req.Face, obj)); err != nil {
		return nil, err
	}
	if k.Warnings != nil {
		req.warn(k.Warnings(obj, nil))
	}
	if k.Canonicalize != nil {
		k.Canonicalize(obj)
	}
	return claims, nil
}

// createDry says what a commit would have said.
func (a *API) createDry(req *Request, obj kind.Object) (kind.Object, error) {
	if _, ok := a.state.Get(req.Kind, obj.GetNamespace(), obj.GetName()); ok {
		return nil, &store.ConflictError{Key: store.Key{Bucket: req.Kind.Bucket()}}
	}
	return obj, nil
}

// alreadyExists says that a name is taken, and whether it soon will not be.
func (a *API) alreadyExists(req *Request, obj kind.Object) error {
	err := apierrors.NewAlreadyExists(req.resource(), obj.GetName())
	if obj.GetGenerateName() != "" {
		err = apierrors.NewGenerateNameConflict(req.resource(), obj.GetName(), 1)
	}
	if old, ok := a.state.Get(req.Kind, obj.GetNamespace(), obj.GetName()); ok && old.GetDeletionTimestamp() != nil {
		err.ErrStatus.Message = "object is being deleted: " + err.ErrStatus.Message
	}
	return err
}

// forgetSystem drops from what a client sent the metadata that the server decides.
func forgetSystem(obj kind.Object) {
	obj.SetCreationTimestamp(metav1.Time{})
	obj.SetUID("")
	obj.SetDeletionTimestamp(nil)
	obj.SetDeletionGracePeriodSeconds(nil)
	obj.SetSelfLink("")
}

// complete fills the metadata that the server alone decides.
func (a *API) complete(obj kind.Object) {
	if obj.GetName() == "" && obj.GetGenerateName() != "" {
		base := obj.GetGenerateName()
		if len(base) > maxGeneratedBase {
			base = base[:maxGeneratedBase]
		}
		obj.SetName(base + utilrand.String(generatedSuffix))
	}
	obj.SetUID(types.UID(uuid.NewUUID()))
	obj.SetCreationTimestamp(a.now())
}

// openNamespace checks that the object's namespace takes new content, and
// returns the write that makes this still true at the commit.
func (a *API) openNamespace(req *Request, obj kind.Object) ([]state.Write, error) {
	if !req.Kind.Namespaced {
		return nil, nil
	}
	name := obj.GetNamespace()
	if name == "" {
		return nil, apierrors.NewBadRequest("an empty namespace may not be set during creation")
	}
	ns, ok := state.Get[*corev1.Namespace](a.state, kind.Namespace, "", name)
	if !ok {
		return nil, apierrors.NewNotFound(kind.Namespace.GroupResource(), name)
	}
	if ns.DeletionTimestamp != nil || ns.Status.Phase == corev1.NamespaceTerminating {
		err := a.admit(req, admission.Create, obj, nil).Forbid(
			fmt.Errorf("unable to create new content in namespace %s because it is being terminated", name))
		err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{
			Type:    corev1.NamespaceTerminatingCause,
			Message: fmt.Sprintf("namespace %s is being terminated", name),
			Field:   "metadata.namespace",
		})
		return nil, err
	}
	return []state.Write{{Kind: kind.Namespace, Action: store.Check, Name: name, Expect: revision(ns)}}, nil
}

// admit returns the admission request for a request.
func (a *API) admit(req *Request, op admission.Operation, obj, old kind.Object) *admission.Request {
	return &admission.Request{
		Operation:   op,
		User:        admission.User{Name: req.User.Name, Groups: req.User.Groups},
		Kind:        req.Kind,
		Subresource: req.Subresource,
		Namespace:   req.namespace(),
		Name:        req.Name,
		Object:      obj,
		Old:         old,
		DryRun:      req.DryRun,
		Warn:        req.Warn,
		May:         req.May,
	}
}
