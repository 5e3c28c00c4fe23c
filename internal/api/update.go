package api

import (
	"bytes"
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skiff-sh/skiff/internal/admission"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
	"github.com/skiff-sh/skiff/internal/store"
)

// Update replaces an object, or the part of it that the Request's Subresource
// names. An object without resourceVersion replaces whatever is there. Kinds
// that allow it are created if they are missing.
func (a *API) Update(ctx context.Context, req Request, obj kind.Object) (kind.Object, error) {
	out, _, err := a.Put(ctx, req, obj)
	return out, err
}

// Put is Update and tells whether the object was created.
func (a *API) Put(ctx context.Context, req Request, obj kind.Object) (out kind.Object, created bool, err error) {
	if req.Name == "" {
		req.Name = obj.GetName()
	}
	if err := checkIdentity(&req, obj); err != nil { // before it decides what there is
		return nil, false, err
	}
	if _, ok := a.state.Get(req.Kind, req.namespace(), req.Name); !ok && createOnUpdate(req.Kind) {
		out, err := a.createMissing(ctx, req, obj)
		if !apierrors.IsAlreadyExists(err) {
			return out, err == nil, err
		}
	}
	singleOwners(&req, obj, "")
	// Only these can need a second attempt, which must start from what was sent.
	sent, uid := obj.GetResourceVersion(), obj.GetUID()
	again := sent == "" || sent == "0" || req.Kind == kind.Service
	out, err = a.rewrite(ctx, &req, func(old kind.Object) (kind.Object, error) {
		if uid != "" && uid != old.GetUID() {
			return nil, wrongUID(&req, old.GetName(), uid, old.GetUID())
		}
		if again {
			return obj.DeepCopyObject().(kind.Object), nil
		}
		// A commit that lost a race has taken the version out: what was sent
		// for that version is to be refused, not to be stored over the winner.
		obj.SetResourceVersion(sent)
		return obj, nil
	})
	return out, false, err
}

// Modify changes an object as change says, which is given a copy. It starts
// again when somebody else was faster, and commits nothing when nothing
// changed. An error of change is returned as it is.
func (a *API) Modify(ctx context.Context, req Request, change func(obj kind.Object) error) (kind.Object, error) {
	return a.rewrite(ctx, &req, func(old kind.Object) (kind.Object, error) {
		obj := old.DeepCopyObject().(kind.Object)
		return obj, change(obj)
	})
}

// createOnUpdate lists the kinds that a PUT creates.
func createOnUpdate(k *kind.Kind) bool {
	switch k {
	case kind.Endpoints, kind.Event, kind.Lease, kind.RuntimeClass, kind.Service:
		return true
	}
	return false
}

// unconditionalUpdate reports whether a PUT may leave resourceVersion out.
func unconditionalUpdate(k *kind.Kind) bool {
	return k != kind.Lease && k != kind.RuntimeClass
}

func (a *API) createMissing(ctx context.Context, req Request, obj kind.Object) (kind.Object, error) {
	if err := nameable(req.Name); err != nil {
		return nil, err
	}
	if uid := obj.GetUID(); uid != "" {
		return nil, wrongUID(&req, req.Name, uid, "")
	}
	return a.createInstead(ctx, req, obj.DeepCopyObject().(kind.Object))
}

// createInstead creates what was meant to change an object that is not there, unless
// it was to change a part of it: upstream makes a Service of what is sent as its
// status, one without addresses, which nobody can want. Here that is only looked at.
// The revision that was meant does not count, but must be one.
func (a *API) createInstead(ctx context.Context, req Request, obj kind.Object) (kind.Object, error) {
	if _, err := sentRevision(obj); err != nil {
		return nil, unknown(err)
	}
	if err := req.mayCreate(ctx); err != nil {
		return nil, err
	}
	if !req.DryRun {
		obj.SetResourceVersion("")
	}
	part := req.Subresource != ""
	req.DryRun = req.DryRun || part
	out, err := a.insert(ctx, req, obj)
	if part && err == nil {
		return nil, notFound(&req)
	}
	return out, err
}

// checkIdentity makes the object's type that of the request and checks that
// its name and namespace are.
func checkIdentity(req *Request, obj kind.Object) error {
	obj.GetObjectKind().SetGroupVersionKind(req.Kind.GVK())
	if err := matchNamespace(req, obj); err != nil {
		return err
	}
	switch obj.GetName() {
	case req.Name:
		return nil
	case "":
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s based on URL) was undeterminable: name must be provided", req.Name))
	}
	return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", obj.GetName(), req.Name))
}

// matchNamespace gives the object the request's namespace, unless it has another.
func matchNamespace(req *Request, obj kind.Object) error {
	ns := req.namespace()
	if req.Kind.Namespaced && obj.GetNamespace() != "" && obj.GetNamespace() != ns {
		return apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	obj.SetNamespace(ns)
	return nil
}

// rewrite replaces the current object by what next makes of it. next may return
// the same pointer twice only if a lost race is final for it.
func (a *API) rewrite(ctx context.Context, req *Request, next func(old kind.Object) (kind.Object, error)) (kind.Object, error) {
	if req.Subresource != "" && req.Kind.Subresource(req.Subresource) == nil {
		return nil, apierrors.NewNotFound(req.resource(), req.Name)
	}
	for attempt := 1; ; attempt++ {
		old, ok := a.state.Get(req.Kind, req.namespace(), req.Name)
		if !ok {
			return nil, notFound(req)
		}
		obj, err := next(old)
		if err != nil {
			return nil, err
		}
		out, err := a.replace(ctx, req, obj, old)
		conflict := asConflict(err)
		if conflict == nil {
			return out, err
		}
		if err := a.lost(req, req.Name, conflict, attempt); err != nil {
			return nil, err
		}
	}
}

// replace goes once from default to commit. It returns a *store.ConflictError
// when old is not the current object any more.
func (a *API) replace(ctx context.Context, req *Request, obj, old kind.Object) (kind.Object, error) {
	k := req.Kind
	if k.Default != nil {
		k.Default(obj)
	}
	if err := checkIdentity(req, obj); err != nil {
		return nil, err
	}
	// Who owns what is about what was sent, not about what admission makes of it.
	if err := a.fields.update(req, obj, old); err != nil {
		return nil, err
	}
	admit := a.admit(req, admission.Update, obj, old)
	if err := a.admission.Mutate(ctx, admit); err != nil {
		return nil, err
	}
	singleOwners(req, obj, " after mutating admission happens")
	if err := matchRevision(req, obj, old); err != nil {
		return nil, err
	}
	claims, err := a.allocate(req, obj, old)
	if err != nil {
		return nil, err
	}
	prepareUpdate(req, obj, old)
	keepMeta(req, obj, old)
	if req.Warn == nil && same(obj, old) {
		return old, nil
	}
	if err := invalid(req, obj, kind.UpdateErrors(k, req.Face, k.Subresource(req.Subresource), obj, old)); err != nil {
		return nil, err
	}
	if warnings := warningsOf(req); warnings != nil {
		req.warn(warnings(obj, old))
	}
	if k.Canonicalize != nil {
		k.Canonicalize(obj)
	}
	if same(obj, old) {
		return old, nil
	}
	if err := a.admission.Validate(ctx, admit); err != nil {
		return nil, err
	}
	return a.commitUpdate(ctx, req, obj, old, claims.writes())
}

// warningsOf returns what warns of an update of what the request names, or nil.
func warningsOf(req *Request) func(obj, old kind.Object) []string {
	if req.Subresource == "" {
		return req.Kind.Warnings
	}
	return req.Kind.Subresource(req.Subresource).Warnings
}

// commitUpdate stores the new object, or removes it if all that its deletion
// waited for is done.
func (a *API) commitUpdate(ctx context.Context, req *Request, obj, old kind.Object, writes []state.Write) (kind.Object, error) {
	if deletedByUpdate(obj, old) {
		_, err := a.remove(ctx, req, old)
		return obj, err
	}
	if req.DryRun {
		return obj, nil
	}
	put := state.Write{Kind: req.Kind, Action: store.Put, Object: obj, Expect: revision(old)}
	if req.Kind.Lazy != nil {
		put.Lazy = req.Kind.Lazy(obj, old)
	}
	out, err := a.state.Commit(ctx, append(writes, put)...)
	if err != nil {
		return nil, commitError(err)
	}
	return out[len(out)-1], nil
}

// matchRevision checks that the new object is meant for the old one as it is.
func matchRevision(req *Request, obj, old kind.Object) error {
	meant, err := sentRevision(obj)
	switch {
	case err != nil:
		return unknown(err)
	case meant == 0 && !unconditionalUpdate(req.Kind):
		gk := schema.GroupKind{Group: req.resource().Group, Kind: req.resource().Resource} // sic
		return apierrors.NewInvalid(gk, req.Name, field.ErrorList{
			field.Invalid(field.NewPath("metadata", "resourceVersion"), meant, "must be specified for an update"),
		})
	case meant == 0:
		obj.SetResourceVersion(old.GetResourceVersion())
	case meant != uint64(revision(old)):
		return modified(req, old.GetName())
	}
	return nil
}

func prepareUpdate(req *Request, obj, old kind.Object) {
	obj.SetGeneration(old.GetGeneration())
	if req.Subresource != "" {
		if prepare := req.Kind.Subresource(req.Subresource).PrepareUpdate; prepare != nil {
			prepare(obj, old)
		}
		return
	}
	if req.Kind.PrepareUpdate != nil {
		req.Kind.PrepareUpdate(obj, old)
	}
}

// keepMeta carries over the metadata that no update changes.
func keepMeta(req *Request, obj, old kind.Object) {
	if obj.GetUID() == "" {
		obj.SetUID(old.GetUID())
	}
	if !req.DryRun { // upstream drops it when it stores
		obj.SetSelfLink("")
	}
	obj.SetCreationTimestamp(old.GetCreationTimestamp())
	if old.GetDeletionTimestamp() != nil {
		obj.SetDeletionTimestamp(old.GetDeletionTimestamp())
	}
	if old.GetDeletionGracePeriodSeconds() != nil && obj.GetDeletionGracePeriodSeconds() == nil {
		obj.SetDeletionGracePeriodSeconds(old.GetDeletionGracePeriodSeconds())
	}
}

// same reports whether nothing differs but times in the record of who manages
// which field.
func same(obj, old kind.Object) bool {
	managed := obj.GetManagedFields()
	if !sameManagers(managed, old.GetManagedFields()) {
		return false
	}
	obj.SetManagedFields(old.GetManagedFields())
	if sameContent(obj, old) {
		return true
	}
	obj.SetManagedFields(managed)
	return false
}

// sameContent compares what would be stored. That is what counts: a nil and an
// empty list are one there, and times have the precision they will be read with.
func sameContent(obj, old kind.Object) bool {
	type message interface {
		Size() int
		Marshal() ([]byte, error)
	}
	m, ok := obj.(message)
	n, also := old.(message)
	if !ok || !also {
		return equality.Semantic.DeepEqual(obj, old)
	}
	if m.Size() != n.Size() {
		return false
	}
	a, errA := m.Marshal()
	b, errB := n.Marshal()
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

// deletedByUpdate reports whether the update takes away the last thing that
// kept a deleted object.
func deletedByUpdate(obj, old kind.Object) bool {
	if old.GetDeletionTimestamp() == nil || len(obj.GetFinalizers()) > 0 {
		return false
	}
	if ns, ok := obj.(*corev1.Namespace); ok && len(ns.Spec.Finalizers) > 0 {
		return false
	}
	grace := old.GetDeletionGracePeriodSeconds()
	return grace == nil || *grace == 0
}
