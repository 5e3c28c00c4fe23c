// Package endpointslice keeps the EndpointSlices, and the legacy Endpoints, of
// every Service that has a selector.
//
// New returns the controller; backends finds who stands behind a Service, plan
// and legacy say what the objects should be. The invariant: an endpoint is
// ready only while its Pod is, and terminating ones are told as such. It never
// touches slices that others manage.
package endpointslice

import (
	"context"
	"fmt"
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
	r := reconciler{env: env}
	return controller.Controller[types.NamespacedName]{
		Name: name,
		Sources: []controller.Source[types.NamespacedName]{
			controller.Own(kind.Service),
			{Kind: kind.Pod, Keys: r.behind},
			{Kind: kind.EndpointSlice, Keys: ofSlice},
			controller.Own(kind.Endpoints),
		},
		Reconcile: r.reconcile,
	}
}

type reconciler struct{ env controller.Environment }

// behind returns the Services that a Pod stood or stands behind.
func (r reconciler) behind(e state.Event) []types.NamespacedName {
	if e.Old != nil && equality.Semantic.DeepEqual(e.Old.(*corev1.Pod).Status.PodIPs, e.Object.(*corev1.Pod).Status.PodIPs) &&
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
		old.Spec.NodeName != pod.Spec.NodeName || !equality.Semantic.DeepEqual(old.Labels, pod.Labels)
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

func (r reconciler) reconcile(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	svc, ok := state.Get[*corev1.Service](r.env.State, kind.Service, key.Namespace, key.Name)
	if !ok {
		return 0, r.forget(ctx, key)
	}
	if len(svc.Spec.Selector) == 0 || svc.Spec.Type == corev1.ServiceTypeExternalName || svc.DeletionTimestamp != nil {
		return 0, nil
	}
	list := backends(svc, r.pods(svc), r.zone)
	if err := r.apply(ctx, svc, plan(svc, list, r.slices(key))); err != nil {
		return 0, err
	}
	return 0, r.applyLegacy(ctx, legacy(svc, list))
}

func (r reconciler) pods(svc *corev1.Service) []*corev1.Pod {
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

func (r reconciler) zone(name string) string {
	node, ok := r.env.State.Get(kind.Node, "", name)
	if !ok {
		return ""
	}
	return node.GetLabels()[corev1.LabelTopologyZone]
}

// slices returns those of a Service that this controller manages.
func (r reconciler) slices(key types.NamespacedName) []*discoveryv1.EndpointSlice {
	var list []*discoveryv1.EndpointSlice
	for _, s := range state.List[*discoveryv1.EndpointSlice](r.env.State, kind.EndpointSlice, state.Interest{Namespace: key.Namespace}) {
		if s.Labels[discoveryv1.LabelServiceName] == key.Name && s.Labels[discoveryv1.LabelManagedBy] == managedBy && s.DeletionTimestamp == nil {
			list = append(list, s)
		}
	}
	return list
}

func (r reconciler) request(k *kind.Kind, namespace, object string) api.Request {
	return api.Request{User: controller.User(name), FieldManager: controller.FieldManager, Kind: k, Namespace: namespace, Name: object}
}

func (r reconciler) apply(ctx context.Context, svc *corev1.Service, p Plan) error {
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

func (r reconciler) delete(ctx context.Context, k *kind.Kind, obj kind.Object) error {
	uid := obj.GetUID()
	_, _, err := r.env.API.Delete(ctx, r.request(k, obj.GetNamespace(), obj.GetName()),
		metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// forget deletes the Endpoints of a Service that has gone; its slices name it
// as their owner and follow by themselves.
func (r reconciler) forget(ctx context.Context, key types.NamespacedName) error {
	obj, ok := r.env.State.Get(kind.Endpoints, key.Namespace, key.Name)
	if !ok || obj.GetLabels()[endpointsManagedBy] == "" {
		return nil
	}
	return r.delete(ctx, kind.Endpoints, obj)
}

func (r reconciler) applyLegacy(ctx context.Context, want *corev1.Endpoints) error {
	have, ok := state.Get[*corev1.Endpoints](r.env.State, kind.Endpoints, want.Namespace, want.Name)
	if !ok {
		_, err := r.env.API.Create(ctx, r.request(kind.Endpoints, want.Namespace, ""), want)
		if controller.Terminating(err) {
			return nil
		}
		return err
	}
	if equality.Semantic.DeepEqual(have.Subsets, want.Subsets) && equality.Semantic.DeepEqual(have.Labels, want.Labels) &&
		have.Annotations[overCapacity] == want.Annotations[overCapacity] {
		return nil
	}
	_, err := r.env.API.Modify(ctx, r.request(kind.Endpoints, want.Namespace, want.Name), func(obj kind.Object) error {
		live := obj.(*corev1.Endpoints)
		live.Subsets, live.Labels = want.Subsets, want.Labels
		if over, ok := want.Annotations[overCapacity]; ok {
			if live.Annotations == nil {
				live.Annotations = map[string]string{}
			}
			live.Annotations[overCapacity] = over
		} else {
			delete(live.Annotations, overCapacity)
		}
		return nil
	})
	return err
}
