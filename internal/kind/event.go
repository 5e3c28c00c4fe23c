package kind

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Event describes the kind of that name.
var Event = &Kind{
	Resource:   schema.GroupVersionResource{Group: "", Version: "v1", Resource: "events"},
	Kind:       "Event",
	Singular:   "event",
	Namespaced: true,
	New:        func() Object { return &corev1.Event{} },
	NewList:    func() runtime.Object { return &corev1.EventList{} },
}
