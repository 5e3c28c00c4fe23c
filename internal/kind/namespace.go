package kind

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Namespace describes the kind of that name.
var Namespace = &Kind{
	Resource:   schema.GroupVersionResource{Group: "", Version: "v1", Resource: "namespaces"},
	Kind:       "Namespace",
	Singular:   "namespace",
	Namespaced: false,
	New:        func() Object { return &corev1.Namespace{} },
	NewList:    func() runtime.Object { return &corev1.NamespaceList{} },
}
