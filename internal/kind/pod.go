package kind

import (
	"strconv"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Pod describes the kind of that name.
var Pod = &Kind{
	Resource:   schema.GroupVersionResource{Group: "", Version: "v1", Resource: "pods"},
	Kind:       "Pod",
	Singular:   "pod",
	ShortNames: []string{"po"},
	Categories: []string{"all"},
	Namespaced: true,
	New:        func() Object { return &corev1.Pod{} },
	NewList:    func() runtime.Object { return &corev1.PodList{} },

	Default:       func(obj Object) { defaultPod(obj.(*corev1.Pod)) },
	PrepareCreate: func(obj Object) { preparePodCreate(obj.(*corev1.Pod)) },
	PrepareUpdate: func(obj, old Object) { preparePodUpdate(obj.(*corev1.Pod), old.(*corev1.Pod)) },
	Validate: newMetaFirst(apivalidation.NameIsDNSSubdomain, func(obj Object) field.ErrorList {
		return validatePodCreate(obj.(*corev1.Pod))
	}),
	ValidateUpdate: metaUpdateFirst(func(obj, old Object) field.ErrorList {
		return append(newMetaErrors(obj, old, apivalidation.NameIsDNSSubdomain), validatePodUpdate(obj.(*corev1.Pod), old.(*corev1.Pod))...)
	}),
	Canonicalize:  func(obj Object) { canonicalPodSpec(&obj.(*corev1.Pod).Spec) },
	Warnings:      podWarnings,
	EarlyWarnings: earlyPodWarnings,
	DeletionGrace: podDeletionGrace,

	Subresources: []Subresource{
		{Name: "attach", Kind: corev1.SchemeGroupVersion.WithKind("PodAttachOptions"), Verbs: []string{"create", "get"}},
		{Name: "binding", Kind: corev1.SchemeGroupVersion.WithKind("Binding"), Verbs: []string{"create"}},
		{
			Name:          "ephemeralcontainers",
			Verbs:         []string{"get", "patch", "update"},
			PrepareUpdate: func(obj, old Object) { preparePodEphemeral(obj.(*corev1.Pod), old.(*corev1.Pod)) },
			ValidateUpdate: metaUpdateFirst(func(obj, old Object) field.ErrorList {
				return append(newMetaErrors(obj, old, apivalidation.NameIsDNSSubdomain), validateEphemeralUpdate(obj.(*corev1.Pod), old.(*corev1.Pod))...)
			}),
		},
		{Name: "eviction", Kind: policyv1.SchemeGroupVersion.WithKind("Eviction"), Verbs: []string{"create"}},
		{Name: "exec", Kind: corev1.SchemeGroupVersion.WithKind("PodExecOptions"), Verbs: []string{"create", "get"}},
		{Name: "log", Verbs: []string{"get"}},
		{Name: "portforward", Kind: corev1.SchemeGroupVersion.WithKind("PodPortForwardOptions"), Verbs: []string{"create", "get"}},
		{Name: "proxy", Kind: corev1.SchemeGroupVersion.WithKind("PodProxyOptions"), Verbs: []string{"create", "delete", "get", "patch", "update"}},
		{
			Name:           "resize",
			Verbs:          []string{"get", "patch", "update"},
			PrepareUpdate:  func(obj, old Object) { preparePodResize(obj.(*corev1.Pod), old.(*corev1.Pod)) },
			ValidateUpdate: func(obj, old Object) field.ErrorList { return validatePodResize(obj.(*corev1.Pod), old.(*corev1.Pod)) },
		},
		{
			Name:           "status",
			Verbs:          []string{"get", "patch", "update"},
			PrepareUpdate:  func(obj, old Object) { preparePodStatus(obj.(*corev1.Pod), old.(*corev1.Pod)) },
			ValidateUpdate: metaUpdateFirst(func(obj, old Object) field.ErrorList { return validatePodStatus(obj.(*corev1.Pod), old.(*corev1.Pod)) }),
			Warnings:       podStatusWarnings,
		},
	},

	Columns: podColumns,
	Row:     podRow,

	FieldNames: []string{
		"spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork",
		"status.phase", "status.podIP", "status.podIPs", "status.nominatedNodeName",
	},
	Fields: podFields,
}

// podFields has nothing for status.podIPs: upstream lets it be asked for, but
// matches only the empty value.
func podFields(obj Object) fields.Set {
	pod := obj.(*corev1.Pod)
	ip := pod.Status.PodIP
	if len(pod.Status.PodIPs) > 0 {
		ip = pod.Status.PodIPs[0].IP
	}
	return fields.Set{
		"spec.nodeName":            pod.Spec.NodeName,
		"spec.restartPolicy":       string(pod.Spec.RestartPolicy),
		"spec.schedulerName":       pod.Spec.SchedulerName,
		"spec.serviceAccountName":  pod.Spec.ServiceAccountName,
		"spec.hostNetwork":         strconv.FormatBool(pod.Spec.HostNetwork),
		"status.phase":             string(pod.Status.Phase),
		"status.podIP":             ip,
		"status.nominatedNodeName": pod.Status.NominatedNodeName,
	}
}

// podDeletionGrace is what the request or else the Pod asks for, but nothing
// where no node runs it any more or yet.
func podDeletionGrace(obj Object, options *metav1.DeleteOptions) int64 {
	pod := obj.(*corev1.Pod)
	var seconds int64
	switch {
	case options != nil && options.GracePeriodSeconds != nil:
		seconds = *options.GracePeriodSeconds
	case pod.Spec.TerminationGracePeriodSeconds != nil:
		seconds = *pod.Spec.TerminationGracePeriodSeconds
	}
	if pod.Spec.NodeName == "" || PodFinished(pod) {
		return 0
	}
	if seconds < 0 { // once accepted, and meant as soon as can be
		return 1
	}
	return seconds
}

// scaleSubresource is that of every workload with a number of replicas.
func scaleSubresource() Subresource {
	return Subresource{Name: "scale", Kind: autoscalingv1.SchemeGroupVersion.WithKind("Scale"), Verbs: []string{"get", "patch", "update"}}
}
