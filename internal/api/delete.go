package api

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skiff-sh/skiff/internal/admission"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
	"github.com/skiff-sh/skiff/internal/store"
)

// Delete removes an object, or marks it as deleted where a grace period or
// finalizers keep it. gone tells which of the two; obj is the object's last
// state.
func (a *API) Delete(ctx context.Context, req Request, options metav1.DeleteOptions) (obj kind.Object, gone bool, err error) {
	if err := checkDeleteOptions(&options); err != nil {
		return nil, false, err
	}
	if seconds := options.GracePeriodSeconds; seconds != nil && *seconds < 0 {
		one := int64(1)
		options.GracePeriodSeconds = &one
	}
	for attempt := 1; ; attempt++ {
		old, ok := a.state.Get(req.Kind, req.namespace(), req.Name)
		if !ok {
			return nil, false, notFound(&req)
		}
		obj, gone, err := a.deleteOnce(ctx, &req, old, options)
		conflict := asConflict(err)
		if conflict == nil {
			return obj, gone, err
		}
		if err := a.lost(&req, req.Name, conflict, attempt); err != nil {
			return nil, false, err
		}
	}
}

func checkDeleteOptions(options *metav1.DeleteOptions) error {
	if errs := validation.ValidateDeleteOptions(options); len(errs) > 0 {
		return apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "DeleteOptions"}, "", errs)
	}
	return nil
}

// DeleteAnswer is what a client is told about a deletion: the object where it
// still exists or where its kind answers with the object, else a Status. A dry
// run's object without a name is an answer that says nothing of it.
func DeleteAnswer(req Request, obj kind.Object, gone bool) runtime.Object {
	switch req.Kind {
	case kind.Pod, kind.Service, kind.ServiceAccount:
		return obj
	}
	if !gone || req.DryRun && obj.GetName() == "" {
		return obj
	}
	resource := req.resource()
	return &metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusSuccess,
		Details: &metav1.StatusDetails{
			Name: obj.GetName(), Group: resource.Group, Kind: resource.Resource, UID: obj.GetUID(),
		},
	}
}

func (a *API) deleteOnce(ctx context.Context, req *Request, old kind.Object, options metav1.DeleteOptions) (kind.Object, bool, error) {
	if err := checkPreconditions(req, old, options.Preconditions); err != nil {
		return nil, false, err
	}
	admit := a.admit(req, admission.Delete, nil, old)
	if err := a.admission.Mutate(ctx, admit); err != nil {
		return nil, false, err
	}
	if err := a.admission.Validate(ctx, admit); err != nil {
		return nil, false, err
	}
	obj, step := a.planDelete(req.Kind, old, options)
	switch step {
	case keep:
		return old, false, nil
	case mark:
		obj.SetResourceVersion(old.GetResourceVersion())
		if same(obj, old) {
			return old, false, nil
		}
		if req.DryRun {
			return obj, false, nil
		}
		out, err := a.state.Commit(ctx, state.Write{Kind: req.Kind, Action: store.Put, Object: obj, Expect: revision(old)})
		if err != nil {
			return nil, false, commitError(err)
		}
		return out[0], false, nil
	}
	if req.DryRun && obj == nil && len(old.GetFinalizers()) > 0 {
		// The finalizers are the collector's, which this deletion does without. Upstream
		// would delete the object in a second step, of which it dry-runs the first only.
		return empty(req.Kind), true, nil
	}
	out, err := a.purge(ctx, req, old, obj)
	return out, err == nil, err
}

func checkPreconditions(req *Request, old kind.Object, want *metav1.Preconditions) error {
	if want == nil {
		return nil
	}
	// Upstream names the kind here where it names the resource elsewhere, except for
	// Namespaces, which look themselves.
	subject := schema.GroupResource{Group: req.Kind.Resource.Group, Resource: req.Kind.Kind}
	otherUID := "the UID in the precondition (%s) does not match the UID in record (%s). The object might have been deleted and then recreated"
	changed := "the ResourceVersion in the precondition (%s) does not match the ResourceVersion in record (%s). The object might have been modified"
	if req.Kind == kind.Namespace {
		subject = req.resource()
		otherUID = "Precondition failed: UID in precondition: %s, UID in object meta: %s"
		changed = "Precondition failed: ResourceVersion in precondition: %s, ResourceVersion in object meta: %s"
	}
	if want.UID != nil && *want.UID != old.GetUID() {
		return apierrors.NewConflict(subject, old.GetName(), fmt.Errorf(otherUID, *want.UID, old.GetUID()))
	}
	if want.ResourceVersion != nil && *want.ResourceVersion != old.GetResourceVersion() {
		return apierrors.NewConflict(subject, old.GetName(), fmt.Errorf(changed, *want.ResourceVersion, old.GetResourceVersion()))
	}
	return nil
}

// step is what a deletion comes to.
type step int

const (
	keep  step = iota // it is being deleted already: nothing to do
	mark              // store it with a deletion timestamp
	purge             // remove it
)

// planDelete decides what becomes of an object and returns it as it is to be
// marked. One that could have ended gracefully is marked before it is removed.
func (a *API) planDelete(k *kind.Kind, old kind.Object, options metav1.DeleteOptions) (kind.Object, step) {
	if k == kind.Namespace {
		return a.planDeleteNamespace(old.(*corev1.Namespace), options)
	}
	obj := old.DeepCopyObject().(kind.Object)
	grace := int64(0)
	graceful := k.DeletionGrace != nil && !ended(old)
	if graceful {
		var pending bool
		if grace, pending = a.deletionGrace(k, obj, &options); pending {
			return nil, keep
		}
	}
	if k == kind.Event { // the garbage collector does not look at Events
		obj.SetFinalizers(slices.DeleteFunc(obj.GetFinalizers(), isCollectors))
	} else {
		obj.SetFinalizers(deletionFinalizers(obj.GetFinalizers(), options, k.DefaultPropagation))
	}
	switch {
	case grace > 0:
		return obj, mark
	case len(obj.GetFinalizers()) > 0:
		markDeleted(obj, a.now())
		return obj, mark
	case graceful:
		return obj, purge
	}
	return nil, purge
}

// ended reports whether an object is deleted already and has no grace left.
func ended(obj kind.Object) bool {
	grace := obj.GetDeletionGracePeriodSeconds()
	return obj.GetDeletionTimestamp() != nil && (grace == nil || *grace == 0)
}

// deletionGrace sets the deletion timestamp of an object that is to end gracefully and
// returns the seconds until then. pending: it already has a deadline that is
// not to be shortened.
func (a *API) deletionGrace(k *kind.Kind, obj kind.Object, options *metav1.DeleteOptions) (grace int64, pending bool) {
	deleted, current := obj.GetDeletionTimestamp(), obj.GetDeletionGracePeriodSeconds()
	if deleted == nil {
		grace = max(k.DeletionGrace(obj, options), 0)
		at := kind.Timestamp(a.now().Add(time.Duration(grace) * time.Second))
		obj.SetDeletionTimestamp(&at)
		obj.SetDeletionGracePeriodSeconds(&grace)
		raiseGeneration(obj)
		return grace, false
	}
	if options.GracePeriodSeconds == nil || *options.GracePeriodSeconds >= *current {
		return 0, true
	}
	grace = *options.GracePeriodSeconds
	at := kind.Timestamp(deleted.Add(time.Duration(grace-*current) * time.Second))
	if now := a.now(); at.Before(&now) {
		// It is over: as short a time as there is, but for who wants none at all.
		at, grace = now, min(grace, 1)
	}
	obj.SetDeletionTimestamp(&at)
	obj.SetDeletionGracePeriodSeconds(&grace)
	return grace, false
}

// markDeleted marks an object that only its finalizers keep.
func markDeleted(obj kind.Object, now metav1.Time) {
	if obj.GetDeletionTimestamp() == nil {
		raiseGeneration(obj)
	}
	if at := obj.GetDeletionTimestamp(); at == nil || at.After(now.Time) {
		obj.SetDeletionTimestamp(&now)
	}
	zero := int64(0)
	obj.SetDeletionGracePeriodSeconds(&zero)
}

func raiseGeneration(obj kind.Object) {
	if g := obj.GetGeneration(); g > 0 {
		obj.SetGeneration(g + 1)
	}
}

// deletionFinalizers returns the finalizers with those of the garbage collector
// as the options, what is there already, or the kind's default ask for.
func deletionFinalizers(current []string, options metav1.DeleteOptions, standard metav1.DeletionPropagation) []string {
	policy := standard
	switch {
	case slices.Contains(current, metav1.FinalizerOrphanDependents):
		policy = metav1.DeletePropagationOrphan
	case slices.Contains(current, metav1.FinalizerDeleteDependents):
		policy = metav1.DeletePropagationForeground
	}
	switch {
	case options.OrphanDependents != nil && *options.OrphanDependents:
		policy = metav1.DeletePropagationOrphan
	case options.OrphanDependents != nil:
		policy = metav1.DeletePropagationBackground
	case options.PropagationPolicy != nil:
		policy = *options.PropagationPolicy
	}
	var want string
	switch policy {
	case metav1.DeletePropagationOrphan:
		want = metav1.FinalizerOrphanDependents
	case metav1.DeletePropagationForeground:
		want = metav1.FinalizerDeleteDependents
	}
	if want != "" && slices.Contains(current, want) {
		return current
	}
	out := slices.DeleteFunc(slices.Clone(current), isCollectors)
	if want != "" {
		out = append(out, want)
	}
	return out
}

// isCollectors tells the finalizers that are the garbage collector's.
func isCollectors(finalizer string) bool {
	return finalizer == metav1.FinalizerOrphanDependents || finalizer == metav1.FinalizerDeleteDependents
}

// planDeleteNamespace: a Namespace first becomes Terminating; it is removed
// once its spec's finalizers are gone.
func (a *API) planDeleteNamespace(old *corev1.Namespace, options metav1.DeleteOptions) (kind.Object, step) {
	if old.DeletionTimestamp == nil {
		ns := old.DeepCopy()
		now := a.now()
		ns.DeletionTimestamp = &now
		ns.Status.Phase = corev1.NamespaceTerminating
		ns.Finalizers = namespaceFinalizers(ns.Finalizers, options)
		return ns, mark
	}
	if len(old.Spec.Finalizers) > 0 || len(old.Finalizers) > 0 {
		return nil, keep
	}
	return nil, purge
}

// namespaceFinalizers are deletionFinalizers of a Namespace, whose dependents are
// deleted before it where the old option says that they are not to be orphans.
func namespaceFinalizers(current []string, options metav1.DeleteOptions) []string {
	if orphan := options.OrphanDependents; orphan != nil {
		policy := metav1.DeletePropagationForeground
		if *orphan {
			policy = metav1.DeletePropagationOrphan
		}
		options = metav1.DeleteOptions{PropagationPolicy: &policy}
	}
	return deletionFinalizers(current, options, "")
}

// remove takes the object out of the state, and frees what it held.
func (a *API) remove(ctx context.Context, req *Request, old kind.Object) (kind.Object, error) {
	return a.purge(ctx, req, old, nil)
}

// purge is remove, after a last change to the object that watches see too.
func (a *API) purge(ctx context.Context, req *Request, old, marked kind.Object) (kind.Object, error) {
	if req.DryRun && marked != nil {
		return marked, nil
	}
	if req.DryRun {
		return old, nil
	}
	deletion := state.Write{
		Kind: req.Kind, Action: store.Delete, Namespace: old.GetNamespace(), Name: old.GetName(), Expect: revision(old),
	}
	if req.Kind.Lazy != nil {
		deletion.Lazy = req.Kind.Lazy(nil, old)
	}
	writes := a.release(old)
	if marked != nil && !same(marked, old) {
		writes = append(writes, state.Write{Kind: req.Kind, Action: store.Put, Object: marked, Expect: deletion.Expect})
		deletion.Expect = store.Any
	}
	writes = append(writes, deletion)
	out, err := a.state.Commit(ctx, writes...)
	if err != nil {
		return nil, commitError(err)
	}
	if req.Kind == kind.Service {
		a.deleteEndpoints(ctx, *req, old)
	}
	return out[len(out)-1], nil
}
