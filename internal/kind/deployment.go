package kind

import (
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Deployment describes the kind of that name.
var Deployment = &Kind{
	Resource:   schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"},
	Kind:       "Deployment",
	Singular:   "deployment",
	Namespaced: true,
	New:        func() Object { return &appsv1.Deployment{} },
	NewList:    func() runtime.Object { return &appsv1.DeploymentList{} },
}
