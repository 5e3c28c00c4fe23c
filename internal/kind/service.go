package kind

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Service describes the kind of that name.
var Service = &Kind{
	Resource:   schema.GroupVersionResource{Group: "", Version: "v1", Resource: "services"},
	Kind:       "Service",
	Singular:   "service",
	Namespaced: true,
	New:        func() Object { return &corev1.Service{} },
	NewList:    func() runtime.Object { return &corev1.ServiceList{} },
}
