package kind

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Deployment describes the kind of that name.
var Deployment = &Kind{
	Resource:   schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"},
	Kind:       "Deployment",
	Singular:   "deployment",
	ShortNames: []string{"deploy"},
	Categories: []string{"all"},
	Namespaced: true,
	New:        func() Object { return &appsv1.Deployment{} },
	NewList:    func() runtime.Object { return &appsv1.DeploymentList{} },

	Default: func(obj Object) { defaultDeployment(obj.(*appsv1.Deployment)) },
	PrepareCreate: func(obj Object) {
		d := obj.(*appsv1.Deployment)
		d.Generation, d.Status = 1, appsv1.DeploymentStatus{}
		dropDisabled(&d.Spec.Template.Spec)
	},
	PrepareUpdate:  prepareDeploymentUpdate,
	Validate:       newMetaFirst(apivalidation.NameIsDNSSubdomain, func(obj Object) field.ErrorList { return validateDeployment(obj.(*appsv1.Deployment), nil) }),
	ValidateUpdate: metaUpdateFirst(validateDeploymentUpdate),
	Canonicalize:   func(obj Object) { canonicalPodSpec(&obj.(*appsv1.Deployment).Spec.Template.Spec) },
	Warnings: func(obj, old Object) []string {
		return templateWarnings(obj, old, &obj.(*appsv1.Deployment).Spec.Template)
	},

	Subresources: []Subresource{
		scaleSubresource(),
		{
			Name:           "status",
			Verbs:          []string{"get", "patch", "update"},
			PrepareUpdate:  prepareDeploymentStatus,
			ValidateUpdate: metaUpdateFirst(validateDeploymentStatus),
		},
	},

	Columns: []metav1.TableColumnDefinition{
		nameColumn,
		column("Ready", "Number of the pod with ready state"),
		column("Up-to-date", appsv1.DeploymentStatus{}.SwaggerDoc()["updatedReplicas"]),
		column("Available", appsv1.DeploymentStatus{}.SwaggerDoc()["availableReplicas"]),
		ageColumn,
		wideColumn("Containers", "Names of each container in the template."),
		wideColumn("Images", "Images referenced by each container in the template."),
		wideColumn("Selector", appsv1.DeploymentSpec{}.SwaggerDoc()["selector"]),
	},
	Row: deploymentRow,
}

func defaultDeployment(d *appsv1.Deployment) {
	setDefault(&d.Spec.Replicas, 1)
	setDefault(&d.Spec.RevisionHistoryLimit, 10)
	setDefault(&d.Spec.ProgressDeadlineSeconds, 600)
	strategy := &d.Spec.Strategy
	orDefault(&strategy.Type, appsv1.RollingUpdateDeploymentStrategyType)
	if strategy.Type == appsv1.RollingUpdateDeploymentStrategyType {
		setDefault(&strategy.RollingUpdate, appsv1.RollingUpdateDeployment{})
		setDefault(&strategy.RollingUpdate.MaxUnavailable, intstr.FromString("25%"))
		setDefault(&strategy.RollingUpdate.MaxSurge, intstr.FromString("25%"))
	}
	defaultTemplate(&d.Spec.Template)
}

// prepareDeploymentUpdate raises the generation for annotations too, since they
// are copied to ReplicaSets.
func prepareDeploymentUpdate(obj, old Object) {
	d, was := obj.(*appsv1.Deployment), old.(*appsv1.Deployment)
	d.Status = *was.Status.DeepCopy()
	dropDisabled(&d.Spec.Template.Spec)
	d.Generation = was.Generation
	if !equality.Semantic.DeepEqual(d.Spec, was.Spec) || !equality.Semantic.DeepEqual(d.Annotations, was.Annotations) {
		d.Generation++
	}
}

func prepareDeploymentStatus(obj, old Object) {
	d, was := obj.(*appsv1.Deployment), old.DeepCopyObject().(*appsv1.Deployment)
	d.Spec, d.Labels, d.Generation = was.Spec, was.Labels, was.Generation
}

func deploymentRow(obj Object, now time.Time) []any {
	d := obj.(*appsv1.Deployment)
	var desired int32
	if d.Spec.Replicas != nil {
		desired = *d.Spec.Replicas
	}
	selector := "<invalid>"
	if s, err := metav1.LabelSelectorAsSelector(d.Spec.Selector); err == nil {
		selector = s.String()
	}
	names, images := templateCells(&d.Spec.Template)
	return []any{
		d.Name, fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, desired), int64(d.Status.UpdatedReplicas), int64(d.Status.AvailableReplicas),
		since(d.CreationTimestamp.Time, now), names, images, selector,
	}
}
