package kind

import (
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateDeployment checks a Deployment; old is nil at creation.
func validateDeployment(d, old *appsv1.Deployment) field.ErrorList {
	var template *corev1.PodTemplateSpec
	if old != nil {
		template = &old.Spec.Template
	}
	path, spec := field.NewPath("spec"), &d.Spec
	var errs field.ErrorList
	if spec.Replicas != nil {
		errs = append(errs, nonNegative(path.Child("replicas"), int64(*spec.Replicas))...)
	}
	errs = append(errs, validateReplicated(path, spec.Selector, &spec.Template, template)...)
	errs = append(errs, validateStrategy(path.Child("strategy"), &spec.Strategy)...)
	errs = append(errs, nonNegative(path.Child("minReadySeconds"), int64(spec.MinReadySeconds))...)
	if spec.RevisionHistoryLimit != nil {
		errs = append(errs, nonNegative(path.Child("revisionHistoryLimit"), int64(*spec.RevisionHistoryLimit))...)
	}
	if seconds := spec.ProgressDeadlineSeconds; seconds != nil {
		at := path.Child("progressDeadlineSeconds")
		errs = append(errs, nonNegative(at, int64(*seconds))...)
		if *seconds <= spec.MinReadySeconds {
			errs = append(errs, field.Invalid(at, seconds, "must be greater than minReadySeconds"))
		}
	}
	return errs
}

func validateDeploymentUpdate(obj, old Object) field.ErrorList {
	d, was := obj.(*appsv1.Deployment), old.(*appsv1.Deployment)
	errs := validateDeployment(d, was)
	return append(errs, immutable(field.NewPath("spec", "selector"), d.Spec.Selector, was.Spec.Selector)...)
}

func validateStrategy(path *field.Path, s *appsv1.DeploymentStrategy) field.ErrorList {
	at := path.Child("rollingUpdate")
	switch s.Type {
	case appsv1.RecreateDeploymentStrategyType:
		if s.RollingUpdate != nil {
			return field.ErrorList{field.Forbidden(at, "may not be specified when strategy `type` is 'Recreate'")}
		}
		return nil
	case appsv1.RollingUpdateDeploymentStrategyType:
		return validateRollingUpdate(at, s.RollingUpdate)
	}
	return field.ErrorList{field.NotSupported(path, untagged{shownStrategy(s)}, []appsv1.DeploymentStrategyType{appsv1.RecreateDeploymentStrategyType, appsv1.RollingUpdateDeploymentStrategyType})}
}

// shownStrategy is a strategy as upstream shows it: numbers left out are 0.
func shownStrategy(s *appsv1.DeploymentStrategy) *appsv1.DeploymentStrategy {
	shown := s.DeepCopy()
	if r := shown.RollingUpdate; r != nil {
		setDefault(&r.MaxUnavailable, intstr.IntOrString{})
		setDefault(&r.MaxSurge, intstr.IntOrString{})
	}
	return shown
}

func validateRollingUpdate(path *field.Path, r *appsv1.RollingUpdateDeployment) field.ErrorList {
	var unavailable, surge intstr.IntOrString
	if r.MaxUnavailable != nil {
		unavailable = *r.MaxUnavailable
	}
	if r.MaxSurge != nil {
		surge = *r.MaxSurge
	}
	at := path.Child("maxUnavailable")
	errs := validateCountOrPercent(at, unavailable)
	errs = append(errs, validateCountOrPercent(path.Child("maxSurge"), surge)...)
	if countOrPercent(unavailable) == 0 && countOrPercent(surge) == 0 {
		errs = append(errs, field.Invalid(at, unavailable, "may not be 0 when `maxSurge` is 0"))
	}
	if isPercent(unavailable) && countOrPercent(unavailable) > 100 {
		errs = append(errs, field.Invalid(at, unavailable, "must not be greater than 100%"))
	}
	return errs
}

func validateCountOrPercent(path *field.Path, value intstr.IntOrString) field.ErrorList {
	if value.Type == intstr.String {
		return invalidEach(path, value, validation.IsValidPercent(value.StrVal))
	}
	return nonNegative(path, int64(value.IntValue()))
}

// countOrPercent is the number in value; what cannot be read is 0.
func countOrPercent(value intstr.IntOrString) int {
	if isPercent(value) {
		n, _ := strconv.Atoi(strings.TrimSuffix(value.StrVal, "%"))
		return n
	}
	return value.IntValue()
}

func isPercent(value intstr.IntOrString) bool {
	return value.Type == intstr.String && len(validation.IsValidPercent(value.StrVal)) == 0
}

func validateDeploymentStatus(obj, old Object) field.ErrorList {
	is, was := &obj.(*appsv1.Deployment).Status, &old.(*appsv1.Deployment).Status
	path := field.NewPath("status")
	counts := replicaCounts{path: path, all: is.Replicas}
	counts.nonNegative("observedGeneration", is.ObservedGeneration)
	counts.nonNegative("replicas", int64(is.Replicas))
	counts.nonNegative("updatedReplicas", int64(is.UpdatedReplicas))
	counts.nonNegative("readyReplicas", int64(is.ReadyReplicas))
	counts.nonNegative("availableReplicas", int64(is.AvailableReplicas))
	counts.nonNegative("unavailableReplicas", int64(is.UnavailableReplicas))
	counts.optional("terminatingReplicas", is.TerminatingReplicas)
	counts.optional("collisionCount", is.CollisionCount)
	counts.part("updatedReplicas", is.UpdatedReplicas)
	counts.part("readyReplicas", is.ReadyReplicas)
	counts.part("availableReplicas", is.AvailableReplicas)
	counts.available(is.AvailableReplicas, is.ReadyReplicas)
	if was.CollisionCount != nil && (is.CollisionCount == nil || *is.CollisionCount < *was.CollisionCount) {
		var count int32
		if is.CollisionCount != nil {
			count = *is.CollisionCount
		}
		counts.errs = append(counts.errs, field.Invalid(path.Child("collisionCount"), count, "cannot be decremented"))
	}
	return counts.errs
}

// replicaCounts checks the numbers in a workload's status.
type replicaCounts struct {
	path *field.Path
	all  int32
	errs field.ErrorList
}

func (r *replicaCounts) nonNegative(name string, n int64) {
	r.errs = append(r.errs, nonNegative(r.path.Child(name), n)...)
}

func (r *replicaCounts) optional(name string, n *int32) {
	if n != nil {
		r.nonNegative(name, int64(*n))
	}
}

// part is a number of some of all replicas.
func (r *replicaCounts) part(name string, n int32) {
	if n > r.all {
		r.errs = append(r.errs, field.Invalid(r.path.Child(name), n, "cannot be greater than status.replicas"))
	}
}

func (r *replicaCounts) available(available, ready int32) {
	if available > ready {
		r.errs = append(r.errs, field.Invalid(r.path.Child("availableReplicas"), available, "cannot be greater than readyReplicas"))
	}
}
