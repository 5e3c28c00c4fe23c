package kind

import (
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ServiceAccount describes the kind of that name.
var ServiceAccount = &Kind{
	Resource:   schema.GroupVersionResource{Group: "", Version: "v1", Resource: "serviceaccounts"},
	Kind:       "ServiceAccount",
	Singular:   "serviceaccount",
	ShortNames: []string{"sa"},
	Namespaced: true,
	New:        func() Object { return &corev1.ServiceAccount{} },
	NewList:    func() runtime.Object { return &corev1.ServiceAccountList{} },

	PrepareCreate: func(obj Object) { keepSecretNames(obj.(*corev1.ServiceAccount)) },
	PrepareUpdate: func(obj, _ Object) { keepSecretNames(obj.(*corev1.ServiceAccount)) },
	Validate: func(obj Object) field.ErrorList {
		return newMetaErrors(obj, nil, apivalidation.ValidateServiceAccountName)
	},
	ValidateUpdate: func(obj, old Object) field.ErrorList {
		return append(metaUpdateErrors(obj, old), newMetaErrors(obj, old, apivalidation.ValidateServiceAccountName)...)
	},
	Warnings: serviceAccountWarnings,

	Subresources: []Subresource{{
		Name:  "token",
		Kind:  authenticationv1.SchemeGroupVersion.WithKind("TokenRequest"),
		Verbs: []string{"create"},
	}},

	Columns: []metav1.TableColumnDefinition{nameColumn, ageColumn},
	Row: func(obj Object, now time.Time) []any {
		return []any{obj.GetName(), since(obj.GetCreationTimestamp().Time, now)}
	},
}

// keepSecretNames drops everything but the name from the Secrets that a
// ServiceAccount refers to: they are always its own namespace's.
func keepSecretNames(a *corev1.ServiceAccount) {
	for i, secret := range a.Secrets {
		a.Secrets[i] = corev1.ObjectReference{Name: secret.Name}
	}
}

// enforceMountableSecrets is an annotation that upstream has deprecated.
const enforceMountableSecrets = "kubernetes.io/enforce-mountable-secrets"

func serviceAccountWarnings(obj, old Object) []string {
	if old != nil {
		if _, had := old.GetAnnotations()[enforceMountableSecrets]; had {
			return nil
		}
	}
	if _, has := obj.GetAnnotations()[enforceMountableSecrets]; has {
		return []string{fmt.Sprintf("metadata.annotations[%s]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets", enforceMountableSecrets)}
	}
	return nil
}
