// Package endpointslice keeps the EndpointSlices, and the legacy Endpoints, of
// every Service that has a selector.
//
// New returns the controller; backends finds who stands behind a Service, plan
// and legacy say what the objects should be, trigger since when. The invariant: an endpoint is
// ready only while its Pod is, and terminating ones are told as such. It never
// touches slices that others manage.
package endpointslice

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
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

const name = "endpointslice-controller"

// New returns the controller.
func New(env controller.Environment) controller.Runner {
	r := &reconciler{
		env: env, events: env.API.NewRecorder(name, controller.User(name)),
		triggers: map[types.NamespacedName]trigger{}, gone: map[types.NamespacedName]bool{},
	}
	return controller.Controller[types.NamespacedName]{
		Name: name,
		Sources: []controller.Source[types.NamespacedName]{
			{Kind: kind.Service, Keys: r.ofService},
			{Kind: kind.Node, Keys: r.onNode},
			{Kind: kind.Pod, Keys: r.behind},
			{Kind: kind.EndpointSlice, Keys: ofSlice},
			controller.Own(kind.Endpoints),
		},
		Reconcile: r.reconcile,
	}
}

type reconciler struct {
	env    controller.Environment
	events *api.Recorder

	mu       sync.Mutex
	triggers map[types.NamespacedName]trigger
	gone     map[types.NamespacedName]bool // Services whose Endpoints go with them
}

func (r *reconciler) ofService(e state.Event) []types.NamespacedName {
	key := controller.Key(e.Object)
	if e.Type == state.Deleted {
		r.mu.Lock()
		r.gone[key] = true
		r.mu.Unlock()
	}
	return []types.NamespacedName{key}
}

// onNode returns the Services with Pods on a node that came, went or moved to
// another zone.
func (r *reconciler) onNode(e state.Event) []types.NamespacedName {
	if e.Type == state.Modified && e.Old.GetLabels()[corev1.LabelTopologyZone] == e.Object.GetLabels()[corev1.LabelTopologyZone] {
		return nil
	}
	var keys []types.NamespacedName
	r.env.State.Snapshot(kind.Pod).Ascend(state.Interest{NodeName: e.Object.GetName()}, "", func(obj kind.Object) bool {
		keys = append(keys, r.behind(state.Event{Type: state.Added, Object: obj})...)
		return true
	})
	return keys
}

// behind returns the Services that a Pod stood or stands behind.
func (r *reconciler) behind(e state.Event) []types.NamespacedName {
	if e.Type == state.Modified && slices.Equal(e.Old.(*corev1.Pod).Status.PodIPs, e.Object.(*corev1.Pod).Status.PodIPs) &&
		!relevant(e.Old.(*corev1.Pod), e.Object.(*corev1.Pod)) {
		return nil
	}
	var keys []types.NamespacedName
	for _, svc := range state.List[*corev1.Service](r.env.State, kind.Service, state.Interest{Namespace: e.Object.GetNamespace()}) {
		if len(svc.Spec.Selector) == 0 {
			continue
		}
		selector := labels.SelectorFromSet(svc.Spec.Selector)
		if selector.Matches(labels.Set(e.Object.GetLabels())) || e.Old != nil && selector.Matches(labels.Set(e.Old.GetLabels())) {
			keys = append(keys, controller.Key(svc))
		}
	}
	return keys
}

// relevant says whether what an endpoint tells of a Pod changed.
func relevant(old, pod *corev1.Pod) bool {
	return podReady(old) != podReady(pod) || mayServe(old) != mayServe(pod) ||
		(old.DeletionTimestamp == nil) != (pod.DeletionTimestamp == nil) ||
		old.Spec.NodeName != pod.Spec.NodeName || !maps.Equal(old.Labels, pod.Labels)
}

func ofSlice(e state.Event) []types.NamespacedName {
	labels := e.Object.GetLabels()
	if labels[discoveryv1.LabelManagedBy] != managedBy && (e.Old == nil || e.Old.GetLabels()[discoveryv1.LabelManagedBy] != managedBy) {
		return nil
	}
	service := labels[discoveryv1.LabelServiceName]
	if service == "" && e.Old != nil {
		service = e.Old.GetLabels()[discoveryv1.LabelServiceName]
	}
	return []types.NamespacedName{{Namespace: e.Object.GetNamespace(), Name: service}}
}

func (r *reconciler) reconcile(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	svc, ok := state.Get[*corev1.Service](r.env.State, kind.Service, key.Namespace, key.Name)
	if !ok {
		return 0, r.forget(ctx, key)
	}
	if len(svc.Spec.Selector) == 0 || svc.Spec.Type == corev1.ServiceTypeExternalName || svc.DeletionTimestamp != nil {
		return 0, nil
	}
	pods := r.pods(svc)
	list := backends(svc, pods, r.zone)
	since := r.trigger(svc, pods)
	if err := r.apply(ctx, svc, plan(svc, list, r.slices(key), since)); err != nil {
		r.events.Event(ctx, kind.Service, svc, corev1.EventTypeWarning, "FailedToUpdateEndpointSlices",
			"Error updating Endpoint Slices for Service %s/%s: %v", svc.Namespace, svc.Name, err)
		return 0, err
	}
	return 0, r.applyLegacy(ctx, svc, legacy(svc, list, since))
}

// trigger returns when what the slices are about to say was caused.
func (r *reconciler) trigger(svc *corev1.Service, pods []*corev1.Pod) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	before, known := r.triggers[controller.Key(svc)]
	next, since := before.after(svc, pods)
	r.triggers[controller.Key(svc)] = next
	if !known {
		return svc.CreationTimestamp.Time
	}
	return since
}

func (r *reconciler) pods(svc *corev1.Service) []*corev1.Pod {
	selector := labels.SelectorFromSet(svc.Spec.Selector)
	var pods []*corev1.Pod
	r.env.State.Snapshot(kind.Pod).Ascend(state.Interest{Namespace: svc.Namespace}, "", func(obj kind.Object) bool {
		if selector.Matches(labels.Set(obj.GetLabels())) {
			pods = append(pods, obj.(*corev1.Pod))
		}
		return true
	})
	return pods
}

func (r *reconciler) zone(name string) (zone string, exists bool) {
	node, ok := r.env.State.Get(kind.Node, "", name)
	if !ok {
		return "", false
	}
	return node.GetLabels()[corev1.LabelTopologyZone], true
}

// slices returns those of a Service that this controller manages.
func (r *reconciler) slices(key types.NamespacedName) []*discoveryv1.EndpointSlice {
	var list []*discoveryv1.EndpointSlice
	for _, s := range state.List[*discoveryv1.EndpointSlice](r.env.State, kind.EndpointSlice, state.Interest{Namespace: key.Namespace}) {
		if s.Labels[discoveryv1.LabelServiceName] == key.Name && s.Labels[discoveryv1.LabelManagedBy] == managedBy && s.DeletionTimestamp == nil {
			list = append(list, s)
		}
	}
	return list
}

func (r *reconciler) request(k *kind.Kind, namespace, object string) api.Request {
	return api.Request{User: controller.User(name), FieldManager: controller.FieldManager, Kind: k, Namespace: namespace, Name: object}
}

func (r *reconciler) apply(ctx context.Context, svc *corev1.Service, p Plan) error {
	for _, s := range p.Create {
		if _, err := r.env.API.Create(ctx, r.request(kind.EndpointSlice, s.Namespace, ""), s); err != nil {
			if controller.Terminating(err) {
				return nil
			}
			return fmt.Errorf("create EndpointSlice for Service %s/%s: %w", svc.Namespace, svc.Name, err)
		}
	}
	for _, s := range p.Update {
		if _, err := r.env.API.Update(ctx, r.request(kind.EndpointSlice, s.Namespace, s.Name), s); err != nil {
			return fmt.Errorf("update EndpointSlice: %w", err)
		}
	}
	for _, s := range p.Delete {
		if err := r.delete(ctx, kind.EndpointSlice, s); err != nil {
			return fmt.Errorf("delete EndpointSlice: %w", err)
		}
	}
	return nil
}

func (r *reconciler) delete(ctx context.Context, k *kind.Kind, obj kind.Object) error {
	uid := obj.GetUID()
	_, _, err := r.env.API.Delete(ctx, r.request(k, obj.GetNamespace(), obj.GetName()),
		metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// forget deletes the Endpoints of a Service that has gone, those made by hand
// too, as upstream; its slices name it as their owner and follow by themselves.
// Endpoints that never had a Service stay.
func (r *reconciler) forget(ctx context.Context, key types.NamespacedName) error {
	r.mu.Lock()
	gone := r.gone[key]
	delete(r.triggers, key)
	r.mu.Unlock()
	obj, ok := r.env.State.Get(kind.Endpoints, key.Namespace, key.Name)
	if ok && (gone || obj.GetLabels()[endpointsManagedBy] != "") {
		if err := r.delete(ctx, kind.Endpoints, obj); err != nil {
			return err
		}
	}
	r.mu.Lock()
	delete(r.gone, key)
	r.mu.Unlock()
	return nil
}

func (r *reconciler) applyLegacy(ctx context.Context, svc *corev1.Service, want *corev1.Endpoints) error {
	have, ok := state.Get[*corev1.Endpoints](r.env.State, kind.Endpoints, want.Namespace, want.Name)
	verb, reason, err := "create", "FailedToCreateEndpoint", error(nil)
	switch {
	case !ok:
		_, err = r.env.API.Create(ctx, r.request(kind.Endpoints, want.Namespace, ""), want)
		if controller.Terminating(err) {
			return nil
		}
	case equality.Semantic.DeepEqual(have.Subsets, want.Subsets) && maps.Equal(have.Labels, want.Labels) &&
		have.Annotations[overCapacity] == want.Annotations[overCapacity]:
		return nil
	default:
		verb, reason = "update", "FailedToUpdateEndpoint"
		_, err = r.env.API.Modify(ctx, r.request(kind.Endpoints, want.Namespace, want.Name), func(obj kind.Object) error {
			live := obj.(*corev1.Endpoints)
			live.Subsets, live.Labels = want.Subsets, want.Labels
			live.Annotations = annotations(live.Annotations, want.Annotations)
			return nil
		})
	}
	if err != nil {
		r.events.Event(ctx, kind.Service, svc, corev1.EventTypeWarning, reason,
			"Failed to %s endpoint for service %s/%s: %v", verb, svc.Namespace, svc.Name, err)
	}
	return err
}

// annotations returns those there are with ours as they should be.
func annotations(have, want map[string]string) map[string]string {
	next := maps.Clone(have)
	if next == nil {
		next = map[string]string{}
	}
	for _, ours := range []string{overCapacity, corev1.EndpointsLastChangeTriggerTime} {
		delete(next, ours)
	}
	maps.Copy(next, want)
	return next
}
