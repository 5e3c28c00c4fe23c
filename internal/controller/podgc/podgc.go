// Package podgc deletes Pods that nobody else will: those bound to a node that
// exists no more, and those that are being deleted but were never bound.
//
// New returns the controller. The invariant: a node must have been missing for
// a while, and still be, before its Pods go: one that registers again keeps
// them. It deletes without a grace period, since nobody is there to wait.
package podgc

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/controller"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

const name = "pod-garbage-collector"

// quarantine is how long a node must be missing.
const quarantine = 40 * time.Second

// New returns the controller.
func New(env controller.Environment) controller.Runner {
	r := &reconciler{env: env, missing: map[string]time.Time{}}
	return controller.Controller[types.NamespacedName]{
		Name: "pod-garbage-collector-controller",
		Sources: []controller.Source[types.NamespacedName]{
			controller.Own(kind.Pod),
			{Kind: kind.Node, Keys: r.onNode},
		},
		Reconcile: r.reconcile,
	}
}

type reconciler struct {
	env controller.Environment

	mu      sync.Mutex
	missing map[string]time.Time // nodes that Pods name, since when
}

func (r *reconciler) onNode(e state.Event) []types.NamespacedName {
	if e.Type == state.Modified {
		return nil
	}
	r.mu.Lock()
	delete(r.missing, e.Object.GetName())
	r.mu.Unlock()
	if e.Type == state.Added {
		return nil
	}
	var keys []types.NamespacedName
	r.env.State.Snapshot(kind.Pod).Ascend(state.Interest{NodeName: e.Object.GetName()}, "", func(obj kind.Object) bool {
		keys = append(keys, controller.Key(obj))
		return true
	})
	return keys
}

func (r *reconciler) reconcile(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	pod, ok := state.Get[*corev1.Pod](r.env.State, kind.Pod, key.Namespace, key.Name)
	if !ok {
		return 0, nil
	}
	if pod.Spec.NodeName == "" {
		if pod.DeletionTimestamp != nil {
			return 0, r.remove(ctx, pod, "")
		}
		return 0, nil
	}
	if _, exists := r.env.State.Get(kind.Node, "", pod.Spec.NodeName); exists {
		return 0, nil
	}
	if left := time.Until(r.missingSince(pod.Spec.NodeName).Add(quarantine)); left > 0 {
		return left, nil
	}
	return 0, r.remove(ctx, pod, "PodGC: node no longer exists")
}

func (r *reconciler) missingSince(node string) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	since, ok := r.missing[node]
	if !ok {
		since = time.Now()
		r.missing[node] = since
	}
	return since
}

// remove tells why the Pod is no more, if there is a reason, and deletes it.
func (r *reconciler) remove(ctx context.Context, pod *corev1.Pod, why string) error {
	request := api.Request{
		User: controller.User(name), FieldManager: controller.FieldManager,
		Kind: kind.Pod, Namespace: pod.Namespace, Name: pod.Name, Subresource: "status",
	}
	if why != "" && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
		_, err := r.env.API.Modify(ctx, request, func(obj kind.Object) error {
			live := obj.(*corev1.Pod)
			live.Status.Phase = corev1.PodFailed
			kind.SetPodCondition(live, corev1.PodCondition{
				Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "DeletionByPodGC", Message: why,
			}, kind.Now())
			return nil
		})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	request.Subresource = ""
	now := int64(0)
	_, _, err := r.env.API.Delete(ctx, request, metav1.DeleteOptions{
		GracePeriodSeconds: &now, Preconditions: &metav1.Preconditions{UID: &pod.UID},
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
