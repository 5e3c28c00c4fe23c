package kind

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ReplicaSet describes the kind of that name.
var ReplicaSet = &Kind{
	Resource:   schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "replicasets"},
	Kind:       "ReplicaSet",
	Singular:   "replicaset",
	ShortNames: []string{"rs"},
	Categories: []string{"all"},
	Namespaced: true,
	New:        func() Object { return &appsv1.ReplicaSet{} },
	NewList:    func() runtime.Object { return &appsv1.ReplicaSetList{} },

	Default: func(obj Object) {
		rs := obj.(*appsv1.ReplicaSet)
		setDefault(&rs.Spec.Replicas, 1)
		defaultTemplate(&rs.Spec.Template)
	},
	PrepareCreate: func(obj Object) {
		rs := obj.(*appsv1.ReplicaSet)
		rs.Generation, rs.Status = 1, appsv1.ReplicaSetStatus{}
		dropDisabled(&rs.Spec.Template.Spec)
	},
	PrepareUpdate:  prepareReplicaSetUpdate,
	Validate:       newMetaFirst(apivalidation.NameIsDNSSubdomain, func(obj Object) field.ErrorList { return validateReplicaSet(obj.(*appsv1.ReplicaSet), nil) }),
	ValidateUpdate: metaUpdateFirst(validateReplicaSetUpdate),
	Canonicalize:   func(obj Object) { canonicalPodSpec(&obj.(*appsv1.ReplicaSet).Spec.Template.Spec) },
	Warnings: func(obj, old Object) []string {
		return templateWarnings(obj, old, &obj.(*appsv1.ReplicaSet).Spec.Template)
	},

	Subresources: []Subresource{
		scaleSubresource(),
		{
			Name:  "status",
			Verbs: []string{"get", "patch", "update"},
			PrepareUpdate: func(obj, old Object) {
				rs, was := obj.(*appsv1.ReplicaSet), old.(*appsv1.ReplicaSet)
				rs.Spec, rs.Generation = *was.Spec.DeepCopy(), was.Generation
			},
			ValidateUpdate: metaUpdateFirst(validateReplicaSetStatus),
		},
	},

	Columns: []metav1.TableColumnDefinition{
		nameColumn,
		countColumn("Desired", appsv1.ReplicaSetSpec{}.SwaggerDoc()["replicas"]),
		countColumn("Current", appsv1.ReplicaSetStatus{}.SwaggerDoc()["replicas"]),
		countColumn("Ready", appsv1.ReplicaSetStatus{}.SwaggerDoc()["readyReplicas"]),
		ageColumn,
		wideColumn("Containers", "Names of each container in the template."),
		wideColumn("Images", "Images referenced by each container in the template."),
		wideColumn("Selector", appsv1.ReplicaSetSpec{}.SwaggerDoc()["selector"]),
	},
	Row: replicaSetRow,
}

func countColumn(name, description string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: name, Type: "integer", Description: description}
}

func prepareReplicaSetUpdate(obj, old Object) {
	rs, was := obj.(*appsv1.ReplicaSet), old.(*appsv1.ReplicaSet)
	rs.Status = *was.Status.DeepCopy()
	dropDisabled(&rs.Spec.Template.Spec)
	rs.Generation = was.Generation
	if !equality.Semantic.DeepEqual(rs.Spec, was.Spec) {
		rs.Generation++
	}
}

// validateReplicaSet checks a ReplicaSet; old is nil at creation.
func validateReplicaSet(rs, old *appsv1.ReplicaSet) field.ErrorList {
	var template *corev1.PodTemplateSpec
	if old != nil {
		template = &old.Spec.Template
	}
	path := field.NewPath("spec")
	var errs field.ErrorList
	if rs.Spec.Replicas != nil {
		errs = append(errs, nonNegative(path.Child("replicas"), int64(*rs.Spec.Replicas))...)
	}
	errs = append(errs, nonNegative(path.Child("minReadySeconds"), int64(rs.Spec.MinReadySeconds))...)
	return append(errs, validateReplicated(path, rs.Spec.Selector, &rs.Spec.Template, template)...)
}

func validateReplicaSetUpdate(obj, old Object) field.ErrorList {
	rs, was := obj.(*appsv1.ReplicaSet), old.(*appsv1.ReplicaSet)
	errs := validateReplicaSet(rs, was)
	return append(errs, immutable(field.NewPath("spec", "selector"), rs.Spec.Selector, was.Spec.Selector)...)
}

func validateReplicaSetStatus(obj, _ Object) field.ErrorList {
	status := &obj.(*appsv1.ReplicaSet).Status
	counts := replicaCounts{path: field.NewPath("status"), all: status.Replicas}
	counts.nonNegative("replicas", int64(status.Replicas))
	counts.nonNegative("fullyLabeledReplicas", int64(status.FullyLabeledReplicas))
	counts.nonNegative("readyReplicas", int64(status.ReadyReplicas))
	counts.nonNegative("availableReplicas", int64(status.AvailableReplicas))
	counts.nonNegative("observedGeneration", status.ObservedGeneration)
	counts.optional("terminatingReplicas", status.TerminatingReplicas)
	counts.part("fullyLabeledReplicas", status.FullyLabeledReplicas)
	counts.part("readyReplicas", status.ReadyReplicas)
	counts.part("availableReplicas", status.AvailableReplicas)
	counts.available(status.AvailableReplicas, status.ReadyReplicas)
	return counts.errs
}

func replicaSetRow(obj Object, now time.Time) []any {
	rs := obj.(*appsv1.ReplicaSet)
	var desired int32
	if rs.Spec.Replicas != nil {
		desired = *rs.Spec.Replicas
	}
	names, images := templateCells(&rs.Spec.Template)
	return []any{
		rs.Name, int64(desired), int64(rs.Status.Replicas), int64(rs.Status.ReadyReplicas),
		since(rs.CreationTimestamp.Time, now), names, images, metav1.FormatLabelSelector(rs.Spec.Selector),
	}
}
