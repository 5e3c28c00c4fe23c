// Package bootstrap keeps the objects that every client expects to find: the
// system namespaces and priority classes, the Services default/kubernetes and
// kube-system/kube-dns with their endpoints, and the ConfigMaps
// extension-apiserver-authentication and skiff-cluster, and RuntimeClasses for
// what nodes can run Pods by besides runc.
//
// Ensure makes them before the API opens; New returns the controller that keeps
// them. The invariant: what was deleted comes back, and what states a fact
// about the server (its endpoint, its authorities) is made true again. It
// never touches other fields.
package bootstrap

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/auth"
	"github.com/skiff-sh/skiff/internal/controller"
	"github.com/skiff-sh/skiff/internal/kind"
)

// Ensure makes what is missing and repairs what is wrong, once.
func Ensure(ctx context.Context, env controller.Environment, c Config) error {
	for _, w := range objects(c) {
		if err := ensure(ctx, env, w); err != nil {
			return fmt.Errorf("make %s %s: %w", w.kind.Kind, controller.Key(w.make()), err)
		}
	}
	return nil
}

// New returns the controller.
func New(env controller.Environment, c Config) controller.Runner {
	all := objects(c)
	byKey := map[types.NamespacedName][]wanted{}
	var sources []controller.Source[types.NamespacedName]
	seen := map[*kind.Kind]bool{}
	for _, w := range all {
		key := controller.Key(w.make())
		byKey[key] = append(byKey[key], w)
		if !seen[w.kind] {
			seen[w.kind] = true
			sources = append(sources, controller.Own(w.kind))
		}
	}
	return controller.Controller[types.NamespacedName]{
		Name:    "bootstrap-controller",
		Sources: append(sources, controller.Own(kind.Node)),
		Workers: 1,
		Reconcile: func(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
			if key.Namespace == "" && key.Name == c.Node {
				if err := followNode(ctx, env, c.Node, all); err != nil {
					return 0, err
				}
			}
			if key.Namespace == "" {
				if err := offerHandlers(ctx, env, key.Name); err != nil {
					return 0, err
				}
			}
			for _, w := range byKey[key] {
				if err := ensure(ctx, env, w); err != nil {
					return 0, err
				}
			}
			return 0, nil
		},
	}
}

func ensure(ctx context.Context, env controller.Environment, w wanted) error {
	obj := w.make()
	request := api.Request{
		User:         auth.User{Name: "system:apiserver", Groups: []string{auth.GroupMasters, auth.GroupAuthenticated}},
		FieldManager: "kube-apiserver",
		Kind:         w.kind,
		Namespace:    obj.GetNamespace(),
	}
	have, ok := env.State.Get(w.kind, obj.GetNamespace(), obj.GetName())
	if !ok {
		_, err := env.API.Create(ctx, request, obj)
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	}
	if w.adopt == nil || fits(w, have, obj) {
		return nil
	}
	request.Name = obj.GetName()
	_, err := env.API.Modify(ctx, request, func(have kind.Object) error {
		w.adopt(have, obj)
		return nil
	})
	return err
}

// fits says whether have already says what a fresh object would.
func fits(w wanted, have, fresh kind.Object) bool {
	repaired := have.DeepCopyObject().(kind.Object)
	w.adopt(repaired, fresh)
	return equality.Semantic.DeepEqual(repaired, have)
}

// followNode sees to the server's own Node, and to what depends on where that is.
func followNode(ctx context.Context, env controller.Environment, name string, all []wanted) error {
	if err := markNode(ctx, env, name); err != nil {
		return err
	}
	for _, w := range all {
		if w.adopt == nil {
			continue
		}
		if err := ensure(ctx, env, w); err != nil {
			return err
		}
	}
	return nil
}

// controlPlaneRole is the label that shows a node's role. A node may not give
// it to itself.
const controlPlaneRole = "node-role.kubernetes.io/control-plane"

// markNode gives the server's own Node its role.
func markNode(ctx context.Context, env controller.Environment, name string) error {
	node, ok := env.State.Get(kind.Node, "", name)
	if !ok {
		return nil
	}
	if _, marked := node.GetLabels()[controlPlaneRole]; marked {
		return nil
	}
	_, err := env.API.Modify(ctx, api.Request{
		User:         auth.User{Name: "system:apiserver", Groups: []string{auth.GroupMasters, auth.GroupAuthenticated}},
		FieldManager: "kube-apiserver",
		Kind:         kind.Node,
		Name:         name,
	}, func(obj kind.Object) error {
		labels := obj.GetLabels()
		if labels == nil {
			labels = map[string]string{}
		}
		labels[controlPlaneRole] = "true"
		obj.SetLabels(labels)
		return nil
	})
	return err
}
