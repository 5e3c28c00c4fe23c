// Package nodelifecycle watches over the nodes: one that is not heard of for a
// while becomes Unknown, and conditions become taints.
//
// New returns the controller; silent and taints are its plans. The invariant:
// time counts from when this server last saw a change of the node's Lease or
// status, never from the times within, since Leases are written lazily and
// clocks go wrong. Package tainteviction draws the consequences for Pods.
package nodelifecycle

import (
	"context"
	"slices"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/controller"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

const name = "node-controller"

// GracePeriod is how long a node may be silent, startupGrace how long one may take
// for its first word.
const (
	GracePeriod  = 40 * time.Second
	startupGrace = 60 * time.Second
)

// New returns the controller.
func New(env controller.Environment) controller.Runner {
	r := &reconciler{
		env: env, events: env.API.NewRecorder(name, controller.User(name)),
		heard: map[string]heartbeat{},
	}
	return controller.Controller[types.NamespacedName]{
		Name: "node-lifecycle-controller",
		Sources: []controller.Source[types.NamespacedName]{
			{Kind: kind.Node, Keys: r.onNode},
			{Kind: kind.Lease, Keys: ofLease},
		},
		Reconcile: r.reconcile,
	}
}

// onNode returns the node, and all others where they may have to know: whether
// any node is ready decides if Pods are driven away at all.
func (r *reconciler) onNode(e state.Event) []types.NamespacedName {
	if e.Old != nil && e.Type == state.Modified && ready(e.Old.(*corev1.Node)) == ready(e.Object.(*corev1.Node)) {
		return []types.NamespacedName{controller.Key(e.Object)}
	}
	var keys []types.NamespacedName
	r.env.State.Snapshot(kind.Node).Ascend(state.Interest{}, "", func(obj kind.Object) bool {
		if obj.GetName() != e.Object.GetName() && !ready(obj.(*corev1.Node)) {
			keys = append(keys, controller.Key(obj))
		}
		return true
	})
	return append(keys, controller.Key(e.Object))
}

func ready(node *corev1.Node) bool { return status(node, corev1.NodeReady) == corev1.ConditionTrue }

func ofLease(e state.Event) []types.NamespacedName {
	if e.Object.GetNamespace() != corev1.NamespaceNodeLease {
		return nil
	}
	return []types.NamespacedName{{Name: e.Object.GetName()}}
}

type reconciler struct {
	env    controller.Environment
	events *api.Recorder

	mu    sync.Mutex
	heard map[string]heartbeat // by node
}

func (r *reconciler) reconcile(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	node, ok := state.Get[*corev1.Node](r.env.State, kind.Node, "", key.Name)
	if !ok {
		r.forget(ctx, key.Name)
		return 0, nil
	}
	left := patience(node) - time.Since(r.listen(ctx, node).seen)
	if left <= 0 {
		left = 0
		if err := r.fallSilent(ctx, node); err != nil {
			return 0, err
		}
		if node, ok = state.Get[*corev1.Node](r.env.State, kind.Node, "", key.Name); !ok {
			return 0, nil
		}
		if err := r.markPods(ctx, node); err != nil {
			return 0, err
		}
	}
	return left, r.taint(ctx, node)
}

func patience(node *corev1.Node) time.Duration {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return GracePeriod
		}
	}
	return startupGrace
}

// forget announces that a node has gone.
func (r *reconciler) forget(ctx context.Context, name string) {
	r.mu.Lock()
	h, known := r.heard[name]
	delete(r.heard, name)
	r.mu.Unlock()
	if known {
		r.events.Event(ctx, kind.Node, h.node, corev1.EventTypeNormal, "RemovingNode",
			"Node %s event: Removing Node %s from Controller", name, name)
	}
}

// listen notes the node's newest heartbeat. A node that is seen for the first
// time is announced.
func (r *reconciler) listen(ctx context.Context, node *corev1.Node) heartbeat {
	var renewed, posted time.Time
	lease, ok := state.Get[*coordinationv1.Lease](r.env.State, kind.Lease, corev1.NamespaceNodeLease, node.Name)
	if ok && lease.Spec.RenewTime != nil {
		renewed = lease.Spec.RenewTime.Time
	}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			posted = c.LastHeartbeatTime.Time
		}
	}
	r.mu.Lock()
	before, known := r.heard[node.Name]
	h := before.hear(renewed, posted, time.Now())
	h.node = node
	r.heard[node.Name] = h
	r.mu.Unlock()
	if !known {
		r.events.Event(ctx, kind.Node, node, corev1.EventTypeNormal, "RegisteredNode",
			"Node %s event: Registered Node %s in Controller", node.Name, node.Name)
	}
	return h
}

func (r *reconciler) request(k *kind.Kind, namespace, object, subresource string) api.Request {
	return api.Request{
		User: controller.User(name), FieldManager: controller.FieldManager,
		Kind: k, Namespace: namespace, Name: object, Subresource: subresource,
	}
}

// fallSilent tells that nothing is known of the node any more.
func (r *reconciler) fallSilent(ctx context.Context, node *corev1.Node) error {
	wasReady := ready(node)
	_, err := r.env.API.Modify(ctx, r.request(kind.Node, "", node.Name, "status"), func(obj kind.Object) error {
		live := obj.(*corev1.Node)
		live.Status.Conditions = silent(live, kind.Now())
		return nil
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err == nil && wasReady {
		r.events.Event(ctx, kind.Node, node, corev1.EventTypeNormal, "NodeNotReady", "Node %s status is now: NodeNotReady", node.Name)
	}
	return err
}

// markPods tells that the Pods of a node that is not heard of are not ready.
func (r *reconciler) markPods(ctx context.Context, node *corev1.Node) error {
	for _, pod := range state.List[*corev1.Pod](r.env.State, kind.Pod, state.Interest{NodeName: node.Name}) {
		if !slices.ContainsFunc(pod.Status.Conditions, readyCondition) {
			continue
		}
		_, err := r.env.API.Modify(ctx, r.request(kind.Pod, pod.Namespace, pod.Name, "status"), func(obj kind.Object) error {
			live := obj.(*corev1.Pod)
			for i, c := range live.Status.Conditions {
				if live.UID == pod.UID && readyCondition(c) {
					live.Status.Conditions[i].Status = corev1.ConditionFalse
					live.Status.Conditions[i].LastTransitionTime = kind.Now()
				}
			}
			return nil
		})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		r.events.Event(ctx, kind.Pod, pod, corev1.EventTypeWarning, "NodeNotReady", "Node is not ready")
	}
	return nil
}

func readyCondition(c corev1.PodCondition) bool {
	return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
}

func (r *reconciler) taint(ctx context.Context, node *corev1.Node) error {
	evict := r.anyReady()
	if equality.Semantic.DeepEqual(taints(node, evict, kind.Now()), node.Spec.Taints) {
		return nil
	}
	_, err := r.env.API.Modify(ctx, r.request(kind.Node, "", node.Name, ""), func(obj kind.Object) error {
		live := obj.(*corev1.Node)
		live.Spec.Taints = taints(live, evict, kind.Now())
		return nil
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// anyReady says whether at least one node is ready. Where none is, it is more
// likely this server that is cut off, and Pods have nowhere to go: nothing is
// evicted, as upstream.
func (r *reconciler) anyReady() bool {
	found := false
	r.env.State.Snapshot(kind.Node).Ascend(state.Interest{}, "", func(obj kind.Object) bool {
		found = ready(obj.(*corev1.Node))
		return !found
	})
	return found
}
