package kind

import (
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// ReplicaSet describes the kind of that name.
var ReplicaSet = &Kind{
	Resource:   schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "replicasets"},
	Kind:       "ReplicaSet",
	Singular:   "replicaset",
	Namespaced: true,
	New:        func() Object { return &appsv1.ReplicaSet{} },
	NewList:    func() runtime.Object { return &appsv1.ReplicaSetList{} },
}
