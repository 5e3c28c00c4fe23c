package kind

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// ConfigMap describes the kind of that name.
var ConfigMap = &Kind{
	Resource:   schema.GroupVersionResource{Group: "", Version: "v1", Resource: "configmaps"},
	Kind:       "ConfigMap",
	Singular:   "configmap",
	Namespaced: true,
	New:        func() Object { return &corev1.ConfigMap{} },
	NewList:    func() runtime.Object { return &corev1.ConfigMapList{} },
}
