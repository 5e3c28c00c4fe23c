// Package rootca keeps the ConfigMap kube-root-ca.crt, by which Pods trust the
// API server, in every namespace that is not being deleted.
//
// New returns the controller; want is the plan. The invariant: its data are the
// cluster's certificate authority, whatever anyone wrote there. It never touches
// another ConfigMap.
package rootca

import (
	"context"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/controller"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

// Name is the ConfigMap's name in each namespace.
const Name = "kube-root-ca.crt"

const description = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. " +
	"No other usage is guaranteed across distributions of Kubernetes clusters."

// New returns the controller that publishes authority, a PEM bundle.
func New(env controller.Environment, authority []byte) controller.Runner {
	c := publisher{env: env, data: map[string]string{"ca.crt": string(authority)}}
	return controller.Controller[types.NamespacedName]{
		Name:      "root-ca-certificate-publisher-controller",
		Sources:   controller.InEachNamespace(kind.ConfigMap, Name),
		Reconcile: c.reconcile,
	}
}

type publisher struct {
	env  controller.Environment
	data map[string]string
}

func (p publisher) reconcile(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	namespace := key.Name
	ns, ok := state.Get[*corev1.Namespace](p.env.State, kind.Namespace, "", namespace)
	if !ok || ns.DeletionTimestamp != nil {
		return 0, nil
	}
	request := api.Request{
		User:         controller.User("root-ca-cert-publisher"),
		FieldManager: controller.FieldManager,
		Kind:         kind.ConfigMap,
		Namespace:    namespace,
		Name:         Name,
	}
	have, ok := state.Get[*corev1.ConfigMap](p.env.State, kind.ConfigMap, namespace, Name)
	if !ok {
		_, err := p.env.API.Create(ctx, request, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{
				Name: Name, Namespace: namespace,
				Annotations: map[string]string{"kubernetes.io/description": description},
			},
			Data: maps.Clone(p.data),
		})
		if controller.Terminating(err) {
			return 0, nil
		}
		return 0, err
	}
	if maps.Equal(have.Data, p.data) {
		return 0, nil
	}
	_, err := p.env.API.Modify(ctx, request, func(obj kind.Object) error {
		obj.(*corev1.ConfigMap).Data = maps.Clone(p.data)
		return nil
	})
	return 0, err
}
