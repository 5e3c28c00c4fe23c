package kind

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// ServiceAccount describes the kind of that name.
var ServiceAccount = &Kind{
	Resource:   schema.GroupVersionResource{Group: "", Version: "v1", Resource: "serviceaccounts"},
	Kind:       "ServiceAccount",
	Singular:   "serviceaccount",
	Namespaced: true,
	New:        func() Object { return &corev1.ServiceAccount{} },
	NewList:    func() runtime.Object { return &corev1.ServiceAccountList{} },
}
