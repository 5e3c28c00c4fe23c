// Package replicaset keeps the number of Pods that each ReplicaSet asks for.
//
// New returns the controller; plan decides from a ReplicaSet and its Pods alone,
// and apply does it. The invariant: a ReplicaSet never deletes a Pod that
// another object controls, and it counts what the state shows, which includes
// all it did itself. It knows nothing of Deployments.
package replicaset

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/controller"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

const name = "replicaset-controller"

// widest is how many Pods are created or deleted at the same time; the store
// joins their commits.
const widest = 32

// New returns the controller.
func New(env controller.Environment) controller.Runner {
	r := reconciler{env: env, events: env.API.NewRecorder(name, controller.User(name))}
	return controller.Controller[types.NamespacedName]{
		Name: name,
		Sources: []controller.Source[types.NamespacedName]{
			controller.Own(kind.ReplicaSet),
			controller.Owners(kind.Pod, kind.ReplicaSet),
			{Kind: kind.Pod, Keys: r.wouldAdopt},
		},
		Reconcile: r.reconcile,
	}
}

type reconciler struct {
	env    controller.Environment
	events *api.Recorder
}

// wouldAdopt returns the ReplicaSets that match a Pod which nothing controls.
func (r reconciler) wouldAdopt(e state.Event) []types.NamespacedName {
	pod := e.Object.(*corev1.Pod)
	if e.Type == state.Deleted || metav1.GetControllerOfNoCopy(pod) != nil || len(pod.Labels) == 0 {
		return nil
	}
	if e.Old != nil && metav1.GetControllerOfNoCopy(e.Old) == nil && maps.Equal(e.Old.GetLabels(), pod.Labels) {
		return nil // it was an orphan that matched the same before
	}
	var keys []types.NamespacedName
	for _, rs := range state.List[*appsv1.ReplicaSet](r.env.State, kind.ReplicaSet, state.Interest{Namespace: pod.Namespace}) {
		selector, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector)
		if err == nil && selector.Matches(labels.Set(pod.Labels)) {
			keys = append(keys, controller.Key(rs))
		}
	}
	return keys
}

func (r reconciler) reconcile(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	sets := r.env.State.Snapshot(kind.ReplicaSet)
	obj, ok := sets.Get(key.Namespace, key.Name)
	if !ok {
		return 0, nil
	}
	rs := obj.(*appsv1.ReplicaSet)
	selector, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector)
	if err != nil {
		return 0, fmt.Errorf("selector of ReplicaSet %s: %w", key, err)
	}
	var pods []*corev1.Pod
	sets.Of(kind.Pod).Ascend(state.Interest{Namespace: key.Namespace}, "", func(obj kind.Object) bool {
		if ref := metav1.GetControllerOfNoCopy(obj); ref == nil || ref.UID == rs.UID {
			pods = append(pods, obj.(*corev1.Pod))
		}
		return true
	})
	p := plan(rs, pods, selector, func(node string) int { return crowd(sets, rs, node) }, time.Now())
	err = r.apply(ctx, rs, p)
	var told *failure
	if err != nil && !errors.As(err, &told) {
		return 0, err // nothing that the ReplicaSet's status has words for
	}
	return p.Again, errors.Join(err, r.updateStatus(ctx, rs, p, told))
}

// crowd counts the active Pods on a node of a ReplicaSet and of those that the
// same object controls, such as the others of a Deployment.
func crowd(sets *state.Snapshot, rs *appsv1.ReplicaSet, node string) int {
	siblings := map[types.UID]bool{rs.UID: true}
	if owner := metav1.GetControllerOfNoCopy(rs); owner != nil {
		sets.Ascend(state.Interest{Namespace: rs.Namespace}, "", func(obj kind.Object) bool {
			if ref := metav1.GetControllerOfNoCopy(obj); ref != nil && ref.UID == owner.UID {
				siblings[obj.GetUID()] = true
			}
			return true
		})
	}
	n := 0
	sets.Of(kind.Pod).Ascend(state.Interest{Namespace: rs.Namespace, NodeName: node}, "", func(obj kind.Object) bool {
		if ref := metav1.GetControllerOfNoCopy(obj); ref != nil && siblings[ref.UID] && isActive(obj.(*corev1.Pod)) {
			n++
		}
		return true
	})
	return n
}

// apply does what the plan says and returns the first thing that failed.
func (r reconciler) apply(ctx context.Context, rs *appsv1.ReplicaSet, p Plan) error {
	for _, pod := range p.Adopt {
		if err := r.adopt(ctx, rs, pod); err != nil {
			return fmt.Errorf("adopt Pod %s: %w", pod.Name, err)
		}
	}
	for _, pod := range p.Release {
		if err := r.dropOwner(ctx, pod, rs.UID); err != nil {
			return fmt.Errorf("release Pod %s: %w", pod.Name, err)
		}
	}
	if err := r.create(ctx, rs, p.Create); err != nil {
		return err
	}
	return r.delete(ctx, rs, p.Delete)
}

func (r reconciler) request(namespace, podName string) api.Request {
	return api.Request{User: controller.User(name), FieldManager: controller.FieldManager, Kind: kind.Pod, Namespace: namespace, Name: podName}
}

// adopt makes the ReplicaSet the Pod's controller, unless it is being deleted by
// now: then its Pods may have been orphaned on purpose.
func (r reconciler) adopt(ctx context.Context, rs *appsv1.ReplicaSet, pod *corev1.Pod) error {
	_, err := r.env.API.Modify(ctx, r.request(pod.Namespace, pod.Name), func(obj kind.Object) error {
		live, ok := r.env.State.Get(kind.ReplicaSet, rs.Namespace, rs.Name)
		if !ok || live.GetUID() != rs.UID || live.GetDeletionTimestamp() != nil {
			return apierrors.NewConflict(kind.ReplicaSet.GroupResource(), rs.Name, errors.New("it is being deleted"))
		}
		if obj.GetUID() == pod.UID && metav1.GetControllerOf(obj) == nil {
			obj.SetOwnerReferences(append(obj.GetOwnerReferences(), *metav1.NewControllerRef(rs, kind.ReplicaSet.GVK())))
		}
		return nil
	})
	return err
}

func (r reconciler) dropOwner(ctx context.Context, pod *corev1.Pod, owner types.UID) error {
	_, err := r.env.API.Modify(ctx, r.request(pod.Namespace, pod.Name), func(obj kind.Object) error {
		var rest []metav1.OwnerReference
		for _, ref := range obj.GetOwnerReferences() {
			if ref.UID != owner {
				rest = append(rest, ref)
			}
		}
		obj.SetOwnerReferences(rest)
		return nil
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// create makes n Pods in batches that double as long as all goes well, so that
// what cannot work (a quota, a missing account) fails once and not n times.
func (r reconciler) create(ctx context.Context, rs *appsv1.ReplicaSet, n int) error {
	for batch := 1; n > 0; batch = min(2*batch, widest) {
		group, groupCtx := errgroup.WithContext(ctx)
		for range min(batch, n) {
			group.Go(func() error { return r.createPod(groupCtx, rs) })
		}
		if err := group.Wait(); err != nil {
			return err
		}
		n -= min(batch, n)
	}
	return nil
}

func (r reconciler) createPod(ctx context.Context, rs *appsv1.ReplicaSet) error {
	template := rs.Spec.Template.DeepCopy()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName:    podPrefix(rs.Name),
			Namespace:       rs.Namespace,
			Labels:          template.Labels,
			Annotations:     template.Annotations,
			Finalizers:      template.Finalizers,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(rs, kind.ReplicaSet.GVK())},
		},
		Spec: template.Spec,
	}
	created, err := r.env.API.Create(ctx, r.request(rs.Namespace, ""), pod)
	switch {
	case err == nil:
		r.events.Event(ctx, kind.ReplicaSet, rs, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: %s", created.GetName())
	case controller.Terminating(err):
		return nil // there is nothing left to do for a namespace that goes
	case ctx.Err() == nil:
		r.events.Event(ctx, kind.ReplicaSet, rs, corev1.EventTypeWarning, "FailedCreate", "Error creating: %v", err)
		return &failure{reason: "FailedCreate", err: err}
	}
	return err
}

// podPrefix is the generateName of a ReplicaSet's Pods; a name that is too long
// for the dash does without.
func podPrefix(rsName string) string {
	if len(rsName) < 253 {
		return rsName + "-"
	}
	return rsName
}

func (r reconciler) delete(ctx context.Context, rs *appsv1.ReplicaSet, pods []*corev1.Pod) error {
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(widest)
	for _, pod := range pods {
		group.Go(func() error { return r.deletePod(groupCtx, rs, pod) })
	}
	return group.Wait()
}

func (r reconciler) deletePod(ctx context.Context, rs *appsv1.ReplicaSet, pod *corev1.Pod) error {
	_, _, err := r.env.API.Delete(ctx, r.request(pod.Namespace, pod.Name),
		metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID}})
	switch {
	case err == nil:
		r.events.Event(ctx, kind.ReplicaSet, rs, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: %s", pod.Name)
	case apierrors.IsNotFound(err), apierrors.IsConflict(err):
		return nil // someone else deleted it
	case ctx.Err() == nil:
		r.events.Event(ctx, kind.ReplicaSet, rs, corev1.EventTypeWarning, "FailedDelete", "Error deleting: %v", err)
		return &failure{reason: "FailedDelete", err: err}
	}
	return err
}

// failure is an error that the ReplicaSet's condition ReplicaFailure tells.
type failure struct {
	reason string
	err    error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// updateStatus writes the status if it changed. What failed shows in the
// condition ReplicaFailure.
func (r reconciler) updateStatus(ctx context.Context, rs *appsv1.ReplicaSet, p Plan, told *failure) error {
	status := p.Status
	status.Conditions = conditions(rs.Status.Conditions, told, kind.Now())
	if equality.Semantic.DeepEqual(rs.Status, status) {
		return nil
	}
	_, err := r.env.API.Modify(ctx, api.Request{
		User: controller.User(name), FieldManager: controller.FieldManager, Kind: kind.ReplicaSet,
		Namespace: rs.Namespace, Name: rs.Name, Subresource: "status",
	}, func(obj kind.Object) error {
		if live := obj.(*appsv1.ReplicaSet); live.UID == rs.UID {
			live.Status = status
		}
		return nil
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// conditions returns the old conditions with ReplicaFailure if there is one.
func conditions(old []appsv1.ReplicaSetCondition, f *failure, now metav1.Time) []appsv1.ReplicaSetCondition {
	var list []appsv1.ReplicaSetCondition
	var had *appsv1.ReplicaSetCondition
	for _, c := range old {
		if c.Type == appsv1.ReplicaSetReplicaFailure {
			had = &c
			continue
		}
		list = append(list, c)
	}
	switch {
	case f == nil:
		return list
	case had != nil:
		return append(list, *had)
	}
	return append(list, appsv1.ReplicaSetCondition{
		Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue,
		LastTransitionTime: now, Reason: f.reason, Message: f.err.Error(),
	})
}
