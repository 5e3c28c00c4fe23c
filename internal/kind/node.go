package kind

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Node describes the kind of that name.
var Node = &Kind{
	Resource:   schema.GroupVersionResource{Group: "", Version: "v1", Resource: "nodes"},
	Kind:       "Node",
	Singular:   "node",
	ShortNames: []string{"no"},
	Namespaced: false,
	New:        func() Object { return &corev1.Node{} },
	NewList:    func() runtime.Object { return &corev1.NodeList{} },

	// A Node is created with its status: it registers itself in one request.
	Default:       func(obj Object) { defaultNode(obj.(*corev1.Node)) },
	PrepareCreate: func(obj Object) { dropNodeConfig(obj.(*corev1.Node)) },
	PrepareUpdate: func(obj, old Object) {
		old.(*corev1.Node).Status.DeepCopyInto(&obj.(*corev1.Node).Status)
		dropNodeConfig(obj.(*corev1.Node))
	},
	Validate: func(obj Object) field.ErrorList { return nodeErrors(obj.(*corev1.Node), nil) },
	ValidateUpdate: func(obj, old Object) field.ErrorList {
		n, o := obj.(*corev1.Node), old.(*corev1.Node)
		return append(nodeErrors(n, o), nodeUpdateErrors(n, o)...)
	},
	Warnings: func(obj, _ Object) []string { return nodeWarnings(obj.(*corev1.Node)) },
	Lazy:     nodeOnlyBeats,

	Canonicalize: func(obj Object) { canonicalNode(obj.(*corev1.Node)) },

	Subresources: []Subresource{
		{
			Name:  "proxy",
			Kind:  corev1.SchemeGroupVersion.WithKind("NodeProxyOptions"),
			Verbs: []string{"create", "delete", "get", "patch", "update"},
		},
		{
			Name:  "status",
			Verbs: []string{"get", "patch", "update"},
			PrepareUpdate: func(obj, old Object) {
				old.(*corev1.Node).Spec.DeepCopyInto(&obj.(*corev1.Node).Spec)
				dropNodeConfig(obj.(*corev1.Node))
			},
			ValidateUpdate: func(obj, old Object) field.ErrorList {
				return nodeUpdateErrors(obj.(*corev1.Node), old.(*corev1.Node))
			},
		},
	},

	Columns: nodeColumns,
	Row:     func(obj Object, now time.Time) []any { return nodeRow(obj.(*corev1.Node), now) },

	FieldNames: []string{"spec.unschedulable"},
	Fields: func(obj Object) fields.Set {
		return fields.Set{"spec.unschedulable": fmt.Sprint(obj.(*corev1.Node).Spec.Unschedulable)}
	},
}

// defaultNode also keeps podCIDR, the older field, and podCIDRs in step.
func defaultNode(n *corev1.Node) {
	if n.Status.Allocatable == nil && n.Status.Capacity != nil {
		n.Status.Allocatable = n.Status.Capacity.DeepCopy()
	}
	// Quantities finer than a thousandth have never been representable.
	for _, list := range []corev1.ResourceList{n.Status.Capacity, n.Status.Allocatable} {
		for name, quantity := range list {
			quantity.RoundUp(-3)
			list[name] = quantity
		}
	}
	s := &n.Spec
	if s.PodCIDR != "" && (len(s.PodCIDRs) == 0 || s.PodCIDRs[0] != s.PodCIDR) {
		s.PodCIDRs = []string{s.PodCIDR}
	}
	if len(s.PodCIDRs) > 0 {
		s.PodCIDR = s.PodCIDRs[0]
	}
}

// canonicalNode: what is stored does not tell an empty list from none.
func canonicalNode(n *corev1.Node) {
	for i := range n.Status.Images {
		if image := &n.Status.Images[i]; len(image.Names) == 0 {
			image.Names = nil
		}
	}
	if len(n.Status.Allocatable) == 0 {
		n.Status.Allocatable = nil
		if len(n.Status.Capacity) > 0 {
			n.Status.Allocatable = n.Status.Capacity.DeepCopy()
		}
	}
}

// dropNodeConfig removes what is left of the kubelet's dynamic configuration.
func dropNodeConfig(n *corev1.Node) { n.Spec.ConfigSource, n.Status.Config = nil, nil }

func nodeWarnings(n *corev1.Node) []string {
	var warnings []string
	if n.Spec.DoNotUseExternalID != "" {
		warnings = append(warnings, "spec.externalID: this field is deprecated, and is unused by Kubernetes")
	}
	for i, cidr := range n.Spec.PodCIDRs {
		warnings = append(warnings, validation.GetWarningsForCIDR(field.NewPath("spec", "podCIDRs").Index(i), cidr)...)
	}
	return warnings
}

// nodeOnlyBeats is a status in which nothing but the heartbeats of conditions
// is new.
func nodeOnlyBeats(obj, old Object) bool {
	if obj == nil || old == nil {
		return false
	}
	a, b := *obj.(*corev1.Node), *old.(*corev1.Node)
	a.Status.Conditions = withoutBeats(a.Status.Conditions)
	b.Status.Conditions = withoutBeats(b.Status.Conditions)
	return sameMeta(&a.ObjectMeta, &b.ObjectMeta) &&
		equality.Semantic.DeepEqual(a.Spec, b.Spec) && equality.Semantic.DeepEqual(a.Status, b.Status)
}

func withoutBeats(conditions []corev1.NodeCondition) []corev1.NodeCondition {
	out := make([]corev1.NodeCondition, len(conditions))
	for i, c := range conditions {
		c.LastHeartbeatTime = metav1.Time{}
		out[i] = c
	}
	return out
}
