// Package serviceaccount keeps a ServiceAccount named "default" in every
// namespace that is not being deleted.
//
// New returns the controller; the plan is missing. The invariant: one that was
// deleted by hand comes back. It never changes an account that is there.
package serviceaccount

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/controller"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

// Name is the account that Pods use when they name none.
const Name = "default"

// New returns the controller.
func New(env controller.Environment) controller.Runner {
	return controller.Controller[types.NamespacedName]{
		Name:    "service-account-controller",
		Sources: controller.InEachNamespace(kind.ServiceAccount, Name),
		Reconcile: func(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
			if !missing(env.State, key.Name) {
				return 0, nil
			}
			_, err := env.API.Create(ctx, api.Request{
				User:         controller.User("service-account-controller"),
				FieldManager: controller.FieldManager,
				Kind:         kind.ServiceAccount,
				Namespace:    key.Name,
			}, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: Name, Namespace: key.Name}})
			if controller.Terminating(err) {
				return 0, nil
			}
			return 0, err
		},
	}
}

// missing says whether the namespace should have the account and does not.
func missing(s *state.State, namespace string) bool {
	ns, ok := state.Get[*corev1.Namespace](s, kind.Namespace, "", namespace)
	if !ok || ns.DeletionTimestamp != nil {
		return false
	}
	_, ok = s.Get(kind.ServiceAccount, namespace, Name)
	return !ok
}
