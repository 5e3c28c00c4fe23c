// Package tainteviction deletes Pods from nodes whose NoExecute taints they do
// not tolerate, or no longer.
//
// New returns the controller; deadline is its plan. The invariant: a Pod that
// tolerates every taint without a limit is never deleted, and one with a limit
// not before it has passed since this server saw the taint.
package tainteviction

import (
	"context"
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

const name = "taint-eviction-controller"

// New returns the controller.
func New(env controller.Environment) controller.Runner {
	r := &reconciler{
		env: env, events: env.API.NewRecorder(name, controller.User(name)),
		marked: map[types.NamespacedName]mark{},
	}
	return controller.Controller[types.NamespacedName]{
		Name: name,
		Sources: []controller.Source[types.NamespacedName]{
			controller.Own(kind.Pod),
			{Kind: kind.Node, Keys: r.onNode},
		},
		Reconcile: r.reconcile,
	}
}

type reconciler struct {
	env    controller.Environment
	events *api.Recorder

	mu     sync.Mutex
	marked map[types.NamespacedName]mark // Pods with a deadline
}

// mark is since when a Pod is under a deadline.
type mark struct {
	uid   types.UID
	since time.Time
}

// onNode returns the Pods of a node whose taints changed.
func (r *reconciler) onNode(e state.Event) []types.NamespacedName {
	node := e.Object.(*corev1.Node)
	if e.Type == state.Deleted || e.Old == nil && len(evicting(node)) == 0 {
		return nil
	}
	if e.Old != nil && equality.Semantic.DeepEqual(evicting(e.Old.(*corev1.Node)), evicting(node)) {
		return nil
	}
	var keys []types.NamespacedName
	r.env.State.Snapshot(kind.Pod).Ascend(state.Interest{NodeName: node.Name}, "", func(obj kind.Object) bool {
		keys = append(keys, controller.Key(obj))
		return true
	})
	return keys
}

func evicting(node *corev1.Node) []corev1.Taint {
	var list []corev1.Taint
	for _, t := range node.Spec.Taints {
		if t.Effect == corev1.TaintEffectNoExecute {
			list = append(list, t)
		}
	}
	return list
}

// deadline returns how long after a Pod was first seen under the taints it is
// to be deleted; never is true if it may stay.
func deadline(pod *corev1.Pod, taints []corev1.Taint) (after time.Duration, never bool) {
	never = true
	for i := range taints {
		tolerated, limited := false, false
		limit := time.Duration(0)
		for j := range pod.Spec.Tolerations {
			t := &pod.Spec.Tolerations[j]
			if !kind.Tolerates(t, &taints[i]) {
				continue
			}
			tolerated = true
			if t.TolerationSeconds != nil {
				own := max(0, time.Duration(*t.TolerationSeconds)*time.Second)
				if !limited || own < limit {
					limit = own
				}
				limited = true
			}
		}
		switch {
		case !tolerated:
			return 0, false
		case limited && (never || limit < after):
			after, never = limit, false
		}
	}
	return after, never
}

func (r *reconciler) reconcile(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	pod, ok := state.Get[*corev1.Pod](r.env.State, kind.Pod, key.Namespace, key.Name)
	if !ok {
		r.unmark(key)
		return 0, nil
	}
	if pod.Spec.NodeName == "" || pod.DeletionTimestamp != nil {
		r.unmark(key)
		return 0, nil
	}
	node, ok := state.Get[*corev1.Node](r.env.State, kind.Node, "", pod.Spec.NodeName)
	if !ok {
		return 0, nil // podgc's affair
	}
	taints := evicting(node)
	after, never := deadline(pod, taints)
	if len(taints) == 0 || never {
		if r.unmark(key) {
			r.events.Event(ctx, kind.Pod, pod, corev1.EventTypeNormal, "TaintManagerEviction",
				"Cancelling deletion of Pod %s/%s", pod.Namespace, pod.Name)
		}
		return 0, nil
	}
	if left := time.Until(r.mark(key, pod.UID).Add(after)); left > 0 {
		return left, nil
	}
	return 0, r.evict(ctx, pod)
}

// mark notes since when a Pod is under a deadline. It counts from when this
// server saw it, as upstream's does: the time in a taint may come from a clock
// that was wrong, or from before a long power cut.
func (r *reconciler) mark(key types.NamespacedName, uid types.UID) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m, ok := r.marked[key]; ok && m.uid == uid {
		return m.since
	}
	m := mark{uid: uid, since: time.Now()}
	r.marked[key] = m
	return m.since
}

func (r *reconciler) unmark(key types.NamespacedName) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.marked[key]
	delete(r.marked, key)
	return ok
}

// evict tells why the Pod goes, and deletes it.
func (r *reconciler) evict(ctx context.Context, pod *corev1.Pod) error {
	r.events.Event(ctx, kind.Pod, pod, corev1.EventTypeNormal, "TaintManagerEviction",
		"Marking for deletion Pod %s/%s", pod.Namespace, pod.Name)
	request := api.Request{
		User: controller.User(name), FieldManager: controller.FieldManager,
		Kind: kind.Pod, Namespace: pod.Namespace, Name: pod.Name, Subresource: "status",
	}
	_, err := r.env.API.Modify(ctx, request, func(obj kind.Object) error {
		kind.SetPodCondition(obj.(*corev1.Pod), corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue,
			Reason: "DeletionByTaintManager", Message: "Taint manager: deleting due to NoExecute taint",
		}, kind.Now())
		return nil
	})
	if err == nil {
		request.Subresource = ""
		_, _, err = r.env.API.Delete(ctx, request, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID}})
	}
	if apierrors.IsNotFound(err) {
		err = nil
	}
	if err == nil {
		r.unmark(controller.Key(pod))
	}
	return err
}
