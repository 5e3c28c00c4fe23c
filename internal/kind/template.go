package kind

import (
	"fmt"
	"strings"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateTemplate checks a Pod template of any workload. old is nil at creation.
func validateTemplate(path *field.Path, t, old *corev1.PodTemplateSpec) field.ErrorList {
	var of podIdentity
	if old != nil {
		of.old = &old.Spec
	}
	errs := metavalidation.ValidateLabels(t.Labels, path.Child("labels"))
	errs = append(errs, apivalidation.ValidateAnnotations(t.Annotations, path.Child("annotations"))...)
	errs = append(errs, validatePodAnnotations(path.Child("annotations"), t.Annotations, &t.Spec)...)
	errs = append(errs, validatePodSpec(path.Child("spec"), &t.Spec, of)...)
	errs = append(errs, validateProfilesMatch(path.Child("spec"), t.Annotations, &t.Spec)...)
	if len(t.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(path.Child("spec", "ephemeralContainers"), "ephemeral containers not allowed in pod template"))
	}
	return errs
}

// validateReplicated checks a template and the selector that must find what is
// made of it, as Deployments and ReplicaSets have them.
func validateReplicated(path *field.Path, s *metav1.LabelSelector, t, old *corev1.PodTemplateSpec) field.ErrorList {
	var errs field.ErrorList
	at := path.Child("selector")
	if s == nil {
		errs = append(errs, field.Required(at, ""))
	} else {
		errs = append(errs, metavalidation.ValidateLabelSelector(s, metavalidation.LabelSelectorValidationOptions{}, at)...)
		if len(s.MatchLabels)+len(s.MatchExpressions) == 0 {
			errs = append(errs, field.Invalid(at, s, "empty selector is invalid for deployment"))
		}
	}
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return append(errs, field.Invalid(at, s, "invalid label selector"))
	}
	at = path.Child("template")
	if !selector.Empty() && !selector.Matches(labels.Set(t.Labels)) {
		errs = append(errs, field.Invalid(at.Child("metadata", "labels"), t.Labels, "`selector` does not match template `labels`"))
	}
	errs = append(errs, validateTemplate(at, t, old)...)
	if t.Spec.RestartPolicy != corev1.RestartPolicyAlways {
		errs = append(errs, field.NotSupported(at.Child("spec", "restartPolicy"), t.Spec.RestartPolicy, []corev1.RestartPolicy{corev1.RestartPolicyAlways}))
	}
	if t.Spec.ActiveDeadlineSeconds != nil {
		errs = append(errs, field.Forbidden(at.Child("spec", "activeDeadlineSeconds"), "activeDeadlineSeconds in ReplicaSet is not Supported"))
	}
	return errs
}

// ScaleErrors says what is wrong with the Scale of a workload.
func ScaleErrors(s *autoscalingv1.Scale) field.ErrorList {
	errs := newMetaErrors(s, nil, apivalidation.NameIsDNSSubdomain)
	return append(errs, nonNegative(field.NewPath("spec", "replicas"), int64(s.Spec.Replicas))...)
}

// templateWarnings are told of a workload when it is created, and when its spec
// changes.
func templateWarnings(obj, old Object, t *corev1.PodTemplateSpec) []string {
	if old != nil && old.GetGeneration() == obj.GetGeneration() {
		return nil
	}
	warnings := specWarnings(field.NewPath("spec", "template"), t.Annotations, &t.Spec)
	wrong := validation.IsDNS1123Label(obj.GetName())
	if old != nil || len(wrong) == 0 {
		return warnings
	}
	name := fmt.Sprintf("metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: %v", wrong)
	return append([]string{name}, warnings...)
}

// templateCells are the names and images of a template's containers.
func templateCells(t *corev1.PodTemplateSpec) (names, images string) {
	var n, i []string
	for _, c := range t.Spec.Containers {
		n, i = append(n, c.Name), append(i, c.Image)
	}
	return strings.Join(n, ","), strings.Join(i, ",")
}
