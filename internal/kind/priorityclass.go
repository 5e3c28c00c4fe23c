package kind

import (
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// PriorityClass describes the kind of that name.
var PriorityClass = &Kind{
	Resource:   schema.GroupVersionResource{Group: "scheduling.k8s.io", Version: "v1", Resource: "priorityclasses"},
	Kind:       "PriorityClass",
	Singular:   "priorityclass",
	Namespaced: false,
	New:        func() Object { return &schedulingv1.PriorityClass{} },
	NewList:    func() runtime.Object { return &schedulingv1.PriorityClassList{} },
}
