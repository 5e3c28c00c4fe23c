package kind

import (
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// taintsAnnotation had a node's taints before its spec did.
const taintsAnnotation = "scheduler.alpha.kubernetes.io/taints"

// nodeAnnotationErrors checks annotations that once had a meaning.
func nodeAnnotationErrors(annotations map[string]string) field.ErrorList {
	path := metaPath().Child("annotations")
	var errs field.ErrorList
	if text := annotations[taintsAnnotation]; text != "" {
		var taints []corev1.Taint
		if err := json.Unmarshal([]byte(text), &taints); err != nil {
			errs = append(errs, field.Invalid(path, taintsAnnotation, internalText(err)))
		} else {
			errs = append(errs, nodeTaintErrors(taints, path.Child(taintsAnnotation))...)
		}
	}
	const key = corev1.PreferAvoidPodsAnnotationKey
	if text := annotations[key]; text != "" {
		var avoided corev1.AvoidPods
		if err := json.Unmarshal([]byte(text), &avoided); err != nil {
			return append(errs, field.Invalid(path.Child("AvoidPods"), key, err.Error()))
		}
		for i := range avoided.PreferAvoidPods {
			errs = append(errs, avoidedPodErrors(&avoided.PreferAvoidPods[i].PodSignature, path.Child(key).Index(i).Child("PodSignature"))...)
		}
	}
	return errs
}

func avoidedPodErrors(s *corev1.PodSignature, path *field.Path) field.ErrorList {
	owner := s.PodController
	switch {
	case owner == nil:
		return field.ErrorList{field.Required(path, "")}
	case owner.Controller == nil || !*owner.Controller:
		return field.ErrorList{field.Invalid(path.Child("PodController", "Controller"), false, "must point to a controller")}
	}
	return nil
}
