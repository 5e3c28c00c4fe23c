package kind

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Namespace describes the kind of that name.
var Namespace = &Kind{
	Resource:   schema.GroupVersionResource{Group: "", Version: "v1", Resource: "namespaces"},
	Kind:       "Namespace",
	Singular:   "namespace",
	ShortNames: []string{"ns"},
	Namespaced: false,
	New:        func() Object { return &corev1.Namespace{} },
	NewList:    func() runtime.Object { return &corev1.NamespaceList{} },

	Default:       func(obj Object) { defaultNamespace(obj.(*corev1.Namespace)) },
	Canonicalize:  func(obj Object) { defaultNamespace(obj.(*corev1.Namespace)) },
	PrepareCreate: func(obj Object) { prepareNamespace(obj.(*corev1.Namespace)) },
	PrepareUpdate: func(obj, old Object) {
		n, o := obj.(*corev1.Namespace), old.(*corev1.Namespace)
		o.Spec.DeepCopyInto(&n.Spec)
		o.Status.DeepCopyInto(&n.Status)
	},
	Validate: func(obj Object) field.ErrorList { return namespaceErrors(obj.(*corev1.Namespace), nil) },
	ValidateUpdate: func(obj, old Object) field.ErrorList {
		return append(namespaceErrors(obj.(*corev1.Namespace), old), metaUpdateErrors(obj, old)...)
	},

	Subresources: []Subresource{
		{
			Name:  "finalize",
			Verbs: []string{"update"},
			PrepareUpdate: func(obj, old Object) {
				old.(*corev1.Namespace).Status.DeepCopyInto(&obj.(*corev1.Namespace).Status)
			},
			ValidateUpdate: func(obj, old Object) field.ErrorList {
				return append(metaUpdateErrors(obj, old), namespaceFinalizeErrors(obj.(*corev1.Namespace))...)
			},
		},
		{
			Name:  "status",
			Verbs: []string{"get", "patch", "update"},
			PrepareUpdate: func(obj, old Object) {
				old.(*corev1.Namespace).Spec.DeepCopyInto(&obj.(*corev1.Namespace).Spec)
			},
			ValidateUpdate: func(obj, old Object) field.ErrorList {
				return append(metaUpdateErrors(obj, old), namespaceStatusErrors(obj.(*corev1.Namespace))...)
			},
		},
	},

	Columns: []metav1.TableColumnDefinition{
		nameColumn,
		column("Status", "The status of the namespace"),
		ageColumn,
	},
	Row: func(obj Object, now time.Time) []any {
		n := obj.(*corev1.Namespace)
		return []any{n.Name, string(n.Status.Phase), since(n.CreationTimestamp.Time, now)}
	},

	FieldNames: []string{"status.phase"},
	Fields: func(obj Object) fields.Set {
		return fields.Set{"status.phase": string(obj.(*corev1.Namespace).Status.Phase)}
	},
}

// defaultNamespace cannot label a namespace whose name is still to be
// generated: it is called again once there is one.
func defaultNamespace(n *corev1.Namespace) {
	if n.Status.Phase == "" {
		n.Status.Phase = corev1.NamespaceActive
	}
	if n.Name == "" || n.Labels[corev1.LabelMetadataName] == n.Name {
		return
	}
	if n.Labels == nil {
		n.Labels = map[string]string{}
	}
	n.Labels[corev1.LabelMetadataName] = n.Name
}

func prepareNamespace(n *corev1.Namespace) {
	n.Status = corev1.NamespaceStatus{Phase: corev1.NamespaceActive}
	if !slices.Contains(n.Spec.Finalizers, corev1.FinalizerKubernetes) {
		n.Spec.Finalizers = append(n.Spec.Finalizers, corev1.FinalizerKubernetes)
	}
}

// namespaceErrors checks a whole Namespace. old may be nil.
func namespaceErrors(n *corev1.Namespace, old Object) field.ErrorList {
	errs := newMetaErrors(n, old, apivalidation.ValidateNamespaceName)
	for _, f := range n.Spec.Finalizers {
		errs = append(errs, finalizerErrors(string(f), field.NewPath("spec", "finalizers"))...)
	}
	return errs
}

func namespaceFinalizeErrors(n *corev1.Namespace) field.ErrorList {
	var errs field.ErrorList
	for i, f := range n.Spec.Finalizers {
		errs = append(errs, finalizerErrors(string(f), field.NewPath("spec", "finalizers").Index(i))...)
	}
	return errs
}

// finalizerErrors accepts what is qualified and the few names from before
// finalizers had to be.
func finalizerErrors(name string, path *field.Path) field.ErrorList {
	return append(apivalidation.ValidateFinalizerName(name, path), standardFinalizer(path, name)...)
}

func namespaceStatusErrors(n *corev1.Namespace) field.ErrorList {
	path := field.NewPath("status", "Phase")
	if n.DeletionTimestamp.IsZero() {
		if n.Status.Phase != corev1.NamespaceActive {
			return field.ErrorList{field.Invalid(path, n.Status.Phase, "may only be 'Active' if `deletionTimestamp` is empty")}
		}
		return nil
	}
	if n.Status.Phase != corev1.NamespaceTerminating {
		return field.ErrorList{field.Invalid(path, n.Status.Phase, "may only be 'Terminating' if `deletionTimestamp` is not empty")}
	}
	return nil
}
