package kind

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Endpoints describes the kind of that name.
var Endpoints = &Kind{
	Resource:   schema.GroupVersionResource{Group: "", Version: "v1", Resource: "endpoints"},
	Kind:       "Endpoints",
	Singular:   "endpoints",
	Namespaced: true,
	New:        func() Object { return &corev1.Endpoints{} },
	NewList:    func() runtime.Object { return &corev1.EndpointsList{} },
}
