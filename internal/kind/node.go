package kind

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Node describes the kind of that name.
var Node = &Kind{
	Resource:   schema.GroupVersionResource{Group: "", Version: "v1", Resource: "nodes"},
	Kind:       "Node",
	Singular:   "node",
	Namespaced: false,
	New:        func() Object { return &corev1.Node{} },
	NewList:    func() runtime.Object { return &corev1.NodeList{} },
}
