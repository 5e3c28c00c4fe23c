package admission

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/kind"
)

// namespaceLifecycle keeps the namespaces that a cluster cannot be without.
// That new content needs a namespace that is there and stays is part of the
// commit itself, in package api.
func namespaceLifecycle() Step {
	return Step{
		Name: "NamespaceLifecycle",
		Mutate: func(_ context.Context, r *Request) error {
			if r.Operation != Delete || r.Kind != kind.Namespace {
				return nil
			}
			switch r.Name {
			case metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic:
				return apierrors.NewForbidden(r.Kind.GroupResource(), r.Name, errors.New("this namespace may not be deleted"))
			}
			return nil
		},
	}
}
