// Package namespace empties namespaces that are being deleted, and lets them go
// when nothing is left.
//
// New returns the controller; remaining is what the state still has, and
// conditions what people are told of it. The invariants: a namespace loses its
// finalizer only when no object of any kind is left in it, and Pods go before
// all else, so that what restrains them outlives them (KEP-5080). It never
// deletes a Pod faster than the Pod's grace period asks for.
package namespace

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/controller"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

const name = "namespace-controller"

// New returns the controller, which deletes objects of kinds.
func New(env controller.Environment, kinds []*kind.Kind) controller.Runner {
	r := &reconciler{env: env, told: map[types.UID]time.Time{}}
	sources := []controller.Source[types.NamespacedName]{controller.Own(kind.Namespace)}
	for _, k := range kinds {
		if !k.Namespaced {
			continue
		}
		r.kinds = append(r.kinds, k)
		sources = append(sources, controller.Source[types.NamespacedName]{Kind: k, Keys: r.ofDeleted})
	}
	// Pods go first, and are waited for; Events go last: deleting the others may
	// still write some.
	slices.SortStableFunc(r.kinds, func(a, b *kind.Kind) int { return rank(a) - rank(b) })
	return controller.Controller[types.NamespacedName]{Name: name, Sources: sources, Reconcile: r.reconcile}
}

func rank(k *kind.Kind) int {
	switch k {
	case kind.Pod:
		return 0
	case kind.Event:
		return 2
	}
	return 1
}

// tellEvery is how often a change of the numbers left alone is told.
const tellEvery = time.Second

type reconciler struct {
	env   controller.Environment
	kinds []*kind.Kind // in the order in which they are deleted

	mu   sync.Mutex
	told map[types.UID]time.Time // when each namespace's conditions were written
}

// ofDeleted returns the namespace of an object that has gone, if the namespace
// waits for that.
func (r *reconciler) ofDeleted(e state.Event) []types.NamespacedName {
	if e.Type != state.Deleted {
		return nil
	}
	ns, ok := state.Get[*corev1.Namespace](r.env.State, kind.Namespace, "", e.Object.GetNamespace())
	if !ok || ns.DeletionTimestamp == nil {
		return nil
	}
	return []types.NamespacedName{{Name: ns.Name}}
}

func (r *reconciler) reconcile(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	ns, ok := state.Get[*corev1.Namespace](r.env.State, kind.Namespace, "", key.Name)
	if !ok || ns.DeletionTimestamp == nil || len(ns.Spec.Finalizers) == 0 {
		return 0, nil
	}
	failure := r.empty(ctx, ns.Name)
	left := r.remaining(ns.Name)
	if failure == nil && len(left) == 0 {
		r.forget(ns.UID)
		return 0, r.finalize(ctx, ns)
	}
	again, err := r.tell(ctx, ns, left, failure)
	return again, errors.Join(failure, err) // what is left wakes us when it goes
}

// empty asks for the deletion of everything that is not being deleted yet, as
// long as there are Pods: of them alone.
func (r *reconciler) empty(ctx context.Context, namespace string) error {
	for _, k := range r.kinds {
		if r.holdsUndeleted(k, namespace) {
			background := metav1.DeletePropagationBackground
			_, err := r.env.API.DeleteCollection(ctx, r.request(k, namespace, ""), api.ListOptions{},
				metav1.DeleteOptions{PropagationPolicy: &background})
			if err != nil {
				return fmt.Errorf("delete %s in namespace %s: %w", k.GroupResource(), namespace, err)
			}
		}
		if k == kind.Pod && r.holds(k, namespace) {
			return nil
		}
	}
	return nil
}

func (r *reconciler) holds(k *kind.Kind, namespace string) bool {
	found := false
	r.env.State.Snapshot(k).Ascend(state.Interest{Namespace: namespace}, "", func(kind.Object) bool {
		found = true
		return false
	})
	return found
}

func (r *reconciler) holdsUndeleted(k *kind.Kind, namespace string) bool {
	found := false
	r.env.State.Snapshot(k).Ascend(state.Interest{Namespace: namespace}, "", func(obj kind.Object) bool {
		found = obj.GetDeletionTimestamp() == nil
		return !found
	})
	return found
}

// leftover is how much of a kind is left, and which finalizers hold it.
type leftover struct {
	kind       *kind.Kind
	count      int
	finalizers map[string]int
}

// remaining counts what is left of what has been asked to go: while there are
// Pods, the rest has not.
func (r *reconciler) remaining(namespace string) []leftover {
	var list []leftover
	for _, k := range r.kinds {
		if len(list) > 0 && list[0].kind == kind.Pod {
			break
		}
		l := leftover{kind: k, finalizers: map[string]int{}}
		r.env.State.Snapshot(k).Ascend(state.Interest{Namespace: namespace}, "", func(obj kind.Object) bool {
			l.count++
			for _, f := range obj.GetFinalizers() {
				l.finalizers[f]++
			}
			return true
		})
		if l.count > 0 {
			list = append(list, l)
		}
	}
	return list
}

func (r *reconciler) request(k *kind.Kind, namespace, object string) api.Request {
	return api.Request{User: controller.User(name), FieldManager: controller.FieldManager, Kind: k, Namespace: namespace, Name: object}
}

func (r *reconciler) finalize(ctx context.Context, ns *corev1.Namespace) error {
	request := r.request(kind.Namespace, "", ns.Name)
	request.Subresource = "finalize"
	_, err := r.env.API.Modify(ctx, request, func(obj kind.Object) error {
		live := obj.(*corev1.Namespace)
		if live.UID == ns.UID {
			live.Spec.Finalizers = slices.DeleteFunc(slices.Clone(live.Spec.Finalizers), func(f corev1.FinalizerName) bool {
				return f == corev1.FinalizerKubernetes
			})
		}
		return nil
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// tell writes the conditions if they changed. Where only numbers did, it waits
// a while since the last time, and says how long.
func (r *reconciler) tell(ctx context.Context, ns *corev1.Namespace, left []leftover, failure error) (time.Duration, error) {
	want := conditions(ns.Status.Conditions, left, failure, kind.Now())
	if equality.Semantic.DeepEqual(want, ns.Status.Conditions) {
		return 0, nil
	}
	if wait := r.patience(ns, want); wait > 0 {
		return wait, nil
	}
	request := r.request(kind.Namespace, "", ns.Name)
	request.Subresource = "status"
	_, err := r.env.API.Modify(ctx, request, func(obj kind.Object) error {
		if obj.GetUID() == ns.UID {
			obj.(*corev1.Namespace).Status.Conditions = want
		}
		return nil
	})
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	return 0, err
}

// patience returns how long to wait before the conditions are written.
func (r *reconciler) patience(ns *corev1.Namespace, want []corev1.NamespaceCondition) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	news := !slices.EqualFunc(want, ns.Status.Conditions, func(a, b corev1.NamespaceCondition) bool {
		return a.Type == b.Type && a.Status == b.Status && a.Reason == b.Reason
	})
	if wait := r.told[ns.UID].Add(tellEvery).Sub(now); !news && wait > 0 {
		return wait
	}
	r.told[ns.UID] = now
	return 0
}

func (r *reconciler) forget(uid types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.told, uid)
}

// conditions returns upstream's five conditions of a namespace that goes.
func conditions(old []corev1.NamespaceCondition, left []leftover, failure error, now metav1.Time) []corev1.NamespaceCondition {
	deletion := corev1.NamespaceCondition{
		Type: corev1.NamespaceDeletionContentFailure, Status: corev1.ConditionFalse,
		Reason: "ContentDeleted", Message: "All content successfully deleted, may be waiting on finalization",
	}
	if failure != nil {
		deletion.Status, deletion.Reason = corev1.ConditionTrue, "ContentDeletionFailed"
		deletion.Message = "Failed to delete all resource types, 1 remaining: " + failure.Error()
	}
	wanted := []corev1.NamespaceCondition{
		{Type: corev1.NamespaceDeletionDiscoveryFailure, Status: corev1.ConditionFalse,
			Reason: "ResourcesDiscovered", Message: "All resources successfully discovered"},
		{Type: corev1.NamespaceDeletionGVParsingFailure, Status: corev1.ConditionFalse,
			Reason: "ParsedGroupVersions", Message: "All legacy kube types successfully parsed"},
		deletion,
		contentRemaining(left),
		finalizersRemaining(left),
	}
	for i := range wanted {
		wanted[i].LastTransitionTime = now
		for _, c := range old {
			if c.Type == wanted[i].Type && c.Status == wanted[i].Status {
				wanted[i].LastTransitionTime = c.LastTransitionTime
			}
		}
	}
	return wanted
}

func contentRemaining(left []leftover) corev1.NamespaceCondition {
	if len(left) == 0 {
		return corev1.NamespaceCondition{Type: corev1.NamespaceContentRemaining, Status: corev1.ConditionFalse,
			Reason: "ContentRemoved", Message: "All content successfully removed"}
	}
	var parts []string
	for _, l := range left {
		parts = append(parts, fmt.Sprintf("%s has %d resource instances", bucketName(l.kind), l.count))
	}
	slices.Sort(parts)
	return corev1.NamespaceCondition{Type: corev1.NamespaceContentRemaining, Status: corev1.ConditionTrue,
		Reason: "SomeResourcesRemain", Message: "Some resources are remaining: " + strings.Join(parts, ", ")}
}

func finalizersRemaining(left []leftover) corev1.NamespaceCondition {
	counts := map[string]int{}
	for _, l := range left {
		for f, n := range l.finalizers {
			counts[f] += n
		}
	}
	if len(counts) == 0 {
		return corev1.NamespaceCondition{Type: corev1.NamespaceFinalizersRemaining, Status: corev1.ConditionFalse,
			Reason: "ContentHasNoFinalizers", Message: "All content-preserving finalizers finished"}
	}
	var parts []string
	for f, n := range counts {
		parts = append(parts, fmt.Sprintf("%s in %d resource instances", f, n))
	}
	slices.Sort(parts)
	return corev1.NamespaceCondition{Type: corev1.NamespaceFinalizersRemaining, Status: corev1.ConditionTrue,
		Reason: "SomeFinalizersRemain", Message: "Some content in the namespace has finalizers remaining: " + strings.Join(parts, ", ")}
}

// bucketName is how upstream names a resource here: "pods.", "leases.coordination.k8s.io".
func bucketName(k *kind.Kind) string { return k.Resource.Resource + "." + k.Resource.Group }
