// Package deployment rolls Deployments out: it makes a ReplicaSet for each
// template, moves replicas from old ones to the new one, keeps the history, and
// tells the progress.
//
// New returns the controller. A rollout is one look at a Deployment and its
// ReplicaSets; its steps are pure (rolling.go, proportion.go, progress.go,
// revision.go) and each reconciliation applies the next one, since what it
// changes wakes it again. The invariant: the arithmetic of surge and
// unavailability holds at every step. It never touches Pods.
package deployment

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/controller"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

const name = "deployment-controller"

// New returns the controller.
func New(env controller.Environment) controller.Runner {
	r := reconciler{env: env, events: env.API.NewRecorder(name, controller.User(name))}
	return controller.Controller[types.NamespacedName]{
		Name: name,
		Sources: []controller.Source[types.NamespacedName]{
			controller.Own(kind.Deployment),
			controller.Owners(kind.ReplicaSet, kind.Deployment),
			{Kind: kind.ReplicaSet, Keys: r.wouldAdopt},
			{Kind: kind.Pod, Keys: r.ofVanishedPod},
		},
		Reconcile: r.reconcile,
	}
}

type reconciler struct {
	env    controller.Environment
	events *api.Recorder
}

// wouldAdopt returns the Deployments that match a ReplicaSet which nothing
// controls.
func (r reconciler) wouldAdopt(e state.Event) []types.NamespacedName {
	if e.Type == state.Deleted || metav1.GetControllerOfNoCopy(e.Object) != nil {
		return nil
	}
	if e.Old != nil && metav1.GetControllerOfNoCopy(e.Old) == nil && maps.Equal(e.Old.GetLabels(), e.Object.GetLabels()) {
		return nil // it was an orphan that matched the same before
	}
	var keys []types.NamespacedName
	for _, d := range state.List[*appsv1.Deployment](r.env.State, kind.Deployment, state.Interest{Namespace: e.Object.GetNamespace()}) {
		selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
		if err == nil && selector.Matches(labels.Set(e.Object.GetLabels())) {
			keys = append(keys, controller.Key(d))
		}
	}
	return keys
}

// ofVanishedPod returns the Deployment behind a Pod that has gone or ended:
// Recreate waits for that.
func (r reconciler) ofVanishedPod(e state.Event) []types.NamespacedName {
	if e.Type != state.Deleted && !kind.PodFinished(e.Object.(*corev1.Pod)) {
		return nil
	}
	ref := metav1.GetControllerOf(e.Object)
	if ref == nil || ref.Kind != kind.ReplicaSet.Kind {
		return nil
	}
	rs, ok := r.env.State.Get(kind.ReplicaSet, e.Object.GetNamespace(), ref.Name)
	if !ok {
		return nil
	}
	if ref = metav1.GetControllerOf(rs); ref == nil || ref.Kind != kind.Deployment.Kind {
		return nil
	}
	return []types.NamespacedName{{Namespace: rs.GetNamespace(), Name: ref.Name}}
}

func (r reconciler) reconcile(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	d, ok := state.Get[*appsv1.Deployment](r.env.State, kind.Deployment, key.Namespace, key.Name)
	if !ok {
		return 0, nil
	}
	sets, err := r.claim(ctx, d)
	if err != nil {
		return 0, err
	}
	ro := newRollout(d, sets, time.Now())
	if d.DeletionTimestamp != nil {
		return r.writeStatus(ctx, ro)
	}
	switch err := r.step(ctx, ro); {
	case controller.Terminating(err):
		return 0, nil
	case err != nil:
		return 0, err
	}
	return r.writeStatus(ctx, ro)
}

// step does what comes next in the rollout.
func (r reconciler) step(ctx context.Context, ro *rollout) error {
	if ro.d.Spec.Paused {
		if err := r.follow(ctx, ro, false); err != nil {
			return err
		}
		if err := r.applyScales(ctx, ro, ro.proportional()); err != nil {
			return err
		}
		return r.cleanUp(ctx, ro)
	}
	if ro.scaling() {
		if steps := ro.proportional(); len(steps) > 0 {
			if err := r.follow(ctx, ro, false); err != nil {
				return err
			}
			return r.applyScales(ctx, ro, steps)
		}
	}
	if ro.d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		return r.recreate(ctx, ro)
	}
	return r.roll(ctx, ro)
}

func (r reconciler) roll(ctx context.Context, ro *rollout) error {
	if err := r.follow(ctx, ro, true); err != nil {
		return err
	}
	scales := ro.scaleNew()
	if len(scales) == 0 {
		scales = ro.scaleOld()
	}
	if len(scales) > 0 {
		return r.applyScales(ctx, ro, scales)
	}
	if complete(ro.d, ro.status()) {
		return r.cleanUp(ctx, ro)
	}
	return nil
}

// recreate brings all old Pods to an end before the first new one is made.
func (r reconciler) recreate(ctx context.Context, ro *rollout) error {
	if err := r.follow(ctx, ro, false); err != nil {
		return err
	}
	var scales []scale
	for _, rs := range active(ro.old) {
		scales = append(scales, scale{rs, 0})
	}
	if len(scales) > 0 {
		return r.applyScales(ctx, ro, scales)
	}
	if r.oldPodsRun(ro) {
		return nil // the end of the last one wakes us
	}
	if err := r.follow(ctx, ro, true); err != nil {
		return err
	}
	if *ro.new.Spec.Replicas != *ro.d.Spec.Replicas {
		return r.applyScales(ctx, ro, []scale{{ro.new, *ro.d.Spec.Replicas}})
	}
	if complete(ro.d, ro.status()) {
		return r.cleanUp(ctx, ro)
	}
	return nil
}

func (r reconciler) oldPodsRun(ro *rollout) bool {
	old := map[types.UID]bool{}
	for _, rs := range ro.old {
		old[rs.UID] = true
	}
	running := false
	r.env.State.Snapshot(kind.Pod).Ascend(state.Interest{Namespace: ro.d.Namespace}, "", func(obj kind.Object) bool {
		ref := metav1.GetControllerOf(obj)
		running = ref != nil && old[ref.UID] && !kind.PodFinished(obj.(*corev1.Pod))
		return !running
	})
	return running
}

// claim returns the Deployment's ReplicaSets after adopting those that match
// and letting go of those that do so no more.
func (r reconciler) claim(ctx context.Context, d *appsv1.Deployment) ([]*appsv1.ReplicaSet, error) {
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil {
		return nil, fmt.Errorf("selector of Deployment %s/%s: %w", d.Namespace, d.Name, err)
	}
	var owned []*appsv1.ReplicaSet
	for _, rs := range state.List[*appsv1.ReplicaSet](r.env.State, kind.ReplicaSet, state.Interest{Namespace: d.Namespace}) {
		ref := metav1.GetControllerOf(rs)
		fits := selector.Matches(labels.Set(rs.Labels))
		switch {
		case ref == nil && fits && d.DeletionTimestamp == nil && rs.DeletionTimestamp == nil:
			adopted, err := r.adopt(ctx, d, rs)
			if err != nil {
				return nil, fmt.Errorf("adopt ReplicaSet %s: %w", rs.Name, err)
			}
			owned = append(owned, adopted)
		case ref == nil || ref.UID != d.UID:
		case !fits && d.DeletionTimestamp == nil:
			_, err := r.modify(ctx, rs, func(live *appsv1.ReplicaSet) error { dropOwner(live, d.UID); return nil })
			if err != nil && !apierrors.IsNotFound(err) {
				return nil, fmt.Errorf("release ReplicaSet %s: %w", rs.Name, err)
			}
		default:
			owned = append(owned, rs)
		}
	}
	return owned, nil
}

// adopt makes the Deployment the ReplicaSet's controller, unless it is being
// deleted by now: then its ReplicaSets may have been orphaned on purpose.
func (r reconciler) adopt(ctx context.Context, d *appsv1.Deployment, rs *appsv1.ReplicaSet) (*appsv1.ReplicaSet, error) {
	return r.modify(ctx, rs, func(live *appsv1.ReplicaSet) error {
		owner, ok := r.env.State.Get(kind.Deployment, d.Namespace, d.Name)
		if !ok || owner.GetUID() != d.UID || owner.GetDeletionTimestamp() != nil {
			return apierrors.NewConflict(kind.Deployment.GroupResource(), d.Name, errors.New("it is being deleted"))
		}
		if metav1.GetControllerOf(live) == nil {
			live.OwnerReferences = append(live.OwnerReferences, *metav1.NewControllerRef(d, kind.Deployment.GVK()))
		}
		return nil
	})
}

func dropOwner(rs *appsv1.ReplicaSet, owner types.UID) {
	var rest []metav1.OwnerReference
	for _, ref := range rs.OwnerReferences {
		if ref.UID != owner {
			rest = append(rest, ref)
		}
	}
	rs.OwnerReferences = rest
}

func (r reconciler) request(k *kind.Kind, namespace, object, subresource string) api.Request {
	return api.Request{
		User: controller.User(name), FieldManager: controller.FieldManager,
		Kind: k, Namespace: namespace, Name: object, Subresource: subresource,
	}
}

// modify changes a ReplicaSet that is still the one given.
func (r reconciler) modify(ctx context.Context, rs *appsv1.ReplicaSet, change func(*appsv1.ReplicaSet) error) (*appsv1.ReplicaSet, error) {
	obj, err := r.env.API.Modify(ctx, r.request(kind.ReplicaSet, rs.Namespace, rs.Name, ""), func(obj kind.Object) error {
		live := obj.(*appsv1.ReplicaSet)
		if live.UID != rs.UID {
			return apierrors.NewNotFound(kind.ReplicaSet.GroupResource(), rs.Name)
		}
		return change(live)
	})
	if err != nil {
		return nil, err
	}
	return obj.(*appsv1.ReplicaSet), nil
}

// scale is a ReplicaSet and the replicas it is to have.
type scale struct {
	rs       *appsv1.ReplicaSet
	replicas int32
}

func (r reconciler) applyScales(ctx context.Context, ro *rollout, scales []scale) error {
	for _, s := range scales {
		from := *s.rs.Spec.Replicas
		changed, err := r.modify(ctx, s.rs, func(live *appsv1.ReplicaSet) error {
			live.Spec.Replicas = &s.replicas
			setReplicasAnnotations(live, *ro.d.Spec.Replicas, *ro.d.Spec.Replicas+ro.maxSurge())
			return nil
		})
		if err != nil {
			return fmt.Errorf("scale ReplicaSet %s: %w", s.rs.Name, err)
		}
		ro.replace(changed)
		if from == s.replicas {
			continue
		}
		direction := "up"
		if s.replicas < from {
			direction = "down"
		}
		r.events.Event(ctx, kind.Deployment, ro.d, corev1.EventTypeNormal, "ScalingReplicaSet",
			"Scaled %s replica set %s from %d to %d", direction, s.rs.Name, from, s.replicas)
	}
	return nil
}

// cleanUp deletes the oldest empty ReplicaSets beyond the history's limit.
func (r reconciler) cleanUp(ctx context.Context, ro *rollout) error {
	for _, rs := range ro.surplus() {
		_, _, err := r.env.API.Delete(ctx, r.request(kind.ReplicaSet, rs.Namespace, rs.Name, ""),
			metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &rs.UID}})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete old ReplicaSet %s: %w", rs.Name, err)
		}
	}
	return nil
}
