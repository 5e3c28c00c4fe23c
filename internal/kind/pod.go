package kind

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Pod describes the kind of that name.
var Pod = &Kind{
	Resource:   schema.GroupVersionResource{Group: "", Version: "v1", Resource: "pods"},
	Kind:       "Pod",
	Singular:   "pod",
	Namespaced: true,
	New:        func() Object { return &corev1.Pod{} },
	NewList:    func() runtime.Object { return &corev1.PodList{} },
}
