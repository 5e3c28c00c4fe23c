// Package garbage deletes objects whose owners are gone, and carries out the
// foreground and orphan ways of deletion.
//
// New returns the controller; graph knows who names whom as owner, and owners
// sorts an object's references. The invariant: an object is deleted only while
// its identity (UID and resourceVersion) is the one that was looked at, and only when
// every owner it names is gone or on its way. It never follows references to
// kinds that it does not know: their owners count as alive.
package garbage

import (
	"context"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/controller"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

const name = "generic-garbage-collector"

// New returns the controller over kinds.
func New(env controller.Environment, kinds []*kind.Kind) controller.Runner {
	c := collector{env: env, kinds: kinds, graph: newGraph(), find: finder(kinds)}
	var sources []controller.Source[Key]
	for _, k := range kinds {
		if k == kind.Event {
			continue // they have no owners and are many
		}
		sources = append(sources, controller.Source[Key]{Kind: k, Keys: func(e state.Event) []Key {
			return c.graph.note(k, c.find, e)
		}})
	}
	return controller.Controller[Key]{Name: "garbage-collector-controller", Sources: sources, Reconcile: c.reconcile}
}

type collector struct {
	env   controller.Environment
	kinds []*kind.Kind
	graph *graph
	find  func(metav1.OwnerReference) *kind.Kind
}

func (c collector) reconcile(ctx context.Context, key Key) (time.Duration, error) {
	obj, ok := c.env.State.Get(key.Kind, key.Namespace, key.Name)
	if !ok {
		return 0, nil
	}
	if obj.GetDeletionTimestamp() != nil {
		return 0, c.finish(ctx, key, obj)
	}
	if len(obj.GetOwnerReferences()) == 0 {
		return 0, nil
	}
	return 0, c.check(ctx, key, obj)
}

// owners sorts references: solid ones hold the object, dangling ones name
// nothing that exists, waiting ones name an owner that waits in the foreground
// for its dependents to go.
type owners struct {
	solid, dangling, waiting []metav1.OwnerReference
}

func (c collector) owners(key Key, obj kind.Object) owners {
	var o owners
	for _, ref := range obj.GetOwnerReferences() {
		k := c.find(ref)
		if k == nil || (k.Namespaced && !key.Kind.Namespaced) {
			o.solid = append(o.solid, ref)
			continue
		}
		at := ownerKey(k, key.Namespace, ref)
		owner, ok := c.env.State.Get(k, at.Namespace, at.Name)
		switch {
		case !ok || owner.GetUID() != ref.UID:
			o.dangling = append(o.dangling, ref)
		case owner.GetDeletionTimestamp() != nil && slices.Contains(owner.GetFinalizers(), metav1.FinalizerDeleteDependents):
			o.waiting = append(o.waiting, ref)
		default:
			o.solid = append(o.solid, ref)
		}
	}
	return o
}

// check deletes the object if nothing holds it any more.
func (c collector) check(ctx context.Context, key Key, obj kind.Object) error {
	o := c.owners(key, obj)
	switch {
	case len(o.solid) > 0:
		if len(o.dangling)+len(o.waiting) == 0 {
			return nil
		}
		return c.keepOwners(ctx, key, obj, o.solid)
	case len(o.waiting) > 0 && len(c.graph.dependentsOf(obj.GetUID())) > 0:
		if c.circular(obj) {
			return c.unblock(ctx, key, obj)
		}
		return c.delete(ctx, key, obj, metav1.DeletePropagationForeground)
	}
	return c.delete(ctx, key, obj, propagation(obj))
}

// circular says whether a dependent of the object waits for its own dependents:
// it may, by a detour, wait for this one, which would never end.
func (c collector) circular(obj kind.Object) bool {
	return slices.ContainsFunc(c.graph.dependentsOf(obj.GetUID()), func(key Key) bool {
		d, ok := c.env.State.Get(key.Kind, key.Namespace, key.Name)
		return ok && names(d, obj.GetUID(), false) && d.GetDeletionTimestamp() != nil &&
			slices.Contains(d.GetFinalizers(), metav1.FinalizerDeleteDependents)
	})
}

// unblock lets the object's owners go before it. Its event then brings it up
// again, without anyone who waits.
func (c collector) unblock(ctx context.Context, key Key, obj kind.Object) error {
	if !slices.ContainsFunc(obj.GetOwnerReferences(), blocks) {
		return c.delete(ctx, key, obj, metav1.DeletePropagationForeground)
	}
	_, err := c.env.API.Modify(ctx, c.request(key), func(live kind.Object) error {
		if live.GetUID() == obj.GetUID() {
			refs := live.GetOwnerReferences()
			for i := range refs {
				refs[i].BlockOwnerDeletion = new(false)
			}
			live.SetOwnerReferences(refs)
		}
		return nil
	})
	return gone(err)
}

// propagation is the way of deletion that an object's finalizers ask for.
func propagation(obj kind.Object) metav1.DeletionPropagation {
	switch {
	case slices.Contains(obj.GetFinalizers(), metav1.FinalizerOrphanDependents):
		return metav1.DeletePropagationOrphan
	case slices.Contains(obj.GetFinalizers(), metav1.FinalizerDeleteDependents):
		return metav1.DeletePropagationForeground
	}
	return metav1.DeletePropagationBackground
}

// finish carries out what a deleted object's finalizers of ours ask for.
func (c collector) finish(ctx context.Context, key Key, obj kind.Object) error {
	if slices.Contains(obj.GetFinalizers(), metav1.FinalizerOrphanDependents) {
		if err := c.orphan(ctx, obj); err != nil {
			return err
		}
		return c.dropFinalizer(ctx, key, obj, metav1.FinalizerOrphanDependents)
	}
	if !slices.Contains(obj.GetFinalizers(), metav1.FinalizerDeleteDependents) {
		return nil
	}
	blocked := false
	for _, dependent := range c.graph.dependentsOf(obj.GetUID()) {
		d, ok := c.env.State.Get(dependent.Kind, dependent.Namespace, dependent.Name)
		if !ok || !names(d, obj.GetUID(), false) {
			continue
		}
		blocked = blocked || names(d, obj.GetUID(), true)
		if d.GetDeletionTimestamp() == nil {
			if err := c.check(ctx, dependent, d); err != nil {
				return err
			}
		}
	}
	if blocked {
		return nil // the end of the last one wakes us
	}
	return c.dropFinalizer(ctx, key, obj, metav1.FinalizerDeleteDependents)
}

// names says whether obj has the owner, and with blocking set whether the
// owner's deletion must wait for it.
func names(obj kind.Object, owner types.UID, blocking bool) bool {
	return slices.ContainsFunc(obj.GetOwnerReferences(), func(ref metav1.OwnerReference) bool {
		return ref.UID == owner && (!blocking || blocks(ref))
	})
}

// orphan takes the owner out of all that name it. It looks at the objects
// themselves: one that the graph has not heard of yet would lose its owner and
// be deleted for it.
func (c collector) orphan(ctx context.Context, owner kind.Object) error {
	for _, k := range c.kinds {
		if k == kind.Event || owner.GetNamespace() != "" && !k.Namespaced {
			continue
		}
		var dependents []kind.Object
		c.env.State.Snapshot(k).Ascend(state.Interest{Namespace: owner.GetNamespace()}, "", func(obj kind.Object) bool {
			if names(obj, owner.GetUID(), false) {
				dependents = append(dependents, obj)
			}
			return true
		})
		for _, obj := range dependents {
			keep := slices.DeleteFunc(slices.Clone(obj.GetOwnerReferences()), func(ref metav1.OwnerReference) bool {
				return ref.UID == owner.GetUID()
			})
			if err := c.keepOwners(ctx, Key{k, obj.GetNamespace(), obj.GetName()}, obj, keep); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c collector) request(key Key) api.Request {
	return api.Request{
		User: controller.User(name), FieldManager: controller.FieldManager,
		Kind: key.Kind, Namespace: key.Namespace, Name: key.Name,
	}
}

// keepOwners leaves of the object's references those in keep.
func (c collector) keepOwners(ctx context.Context, key Key, obj kind.Object, keep []metav1.OwnerReference) error {
	_, err := c.env.API.Modify(ctx, c.request(key), func(live kind.Object) error {
		if live.GetUID() == obj.GetUID() {
			live.SetOwnerReferences(slices.DeleteFunc(live.GetOwnerReferences(), func(ref metav1.OwnerReference) bool {
				return !slices.ContainsFunc(keep, func(k metav1.OwnerReference) bool { return k.UID == ref.UID }) &&
					slices.ContainsFunc(obj.GetOwnerReferences(), func(o metav1.OwnerReference) bool { return o.UID == ref.UID })
			}))
		}
		return nil
	})
	return gone(err)
}

func (c collector) dropFinalizer(ctx context.Context, key Key, obj kind.Object, finalizer string) error {
	_, err := c.env.API.Modify(ctx, c.request(key), func(live kind.Object) error {
		if live.GetUID() == obj.GetUID() {
			live.SetFinalizers(slices.DeleteFunc(live.GetFinalizers(), func(f string) bool { return f == finalizer }))
		}
		return nil
	})
	return gone(err)
}

func (c collector) delete(ctx context.Context, key Key, obj kind.Object, way metav1.DeletionPropagation) error {
	uid, revision := obj.GetUID(), obj.GetResourceVersion()
	_, _, err := c.env.API.Delete(ctx, c.request(key), metav1.DeleteOptions{
		PropagationPolicy: &way,
		Preconditions:     &metav1.Preconditions{UID: &uid, ResourceVersion: &revision},
	})
	return gone(err)
}

// gone forgives that an object is not there any more.
func gone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
