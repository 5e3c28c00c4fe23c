package kind

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Secret describes the kind of that name.
var Secret = &Kind{
	Resource:   schema.GroupVersionResource{Group: "", Version: "v1", Resource: "secrets"},
	Kind:       "Secret",
	Singular:   "secret",
	Namespaced: true,
	New:        func() Object { return &corev1.Secret{} },
	NewList:    func() runtime.Object { return &corev1.SecretList{} },
}
