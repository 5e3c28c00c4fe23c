package kind

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validatePodUpdate checks that of a Pod's spec only what may change has.
func validatePodUpdate(pod, old *corev1.Pod) field.ErrorList {
	path := field.NewPath("spec")
	errs := validatePod(pod, old)
	errs = append(errs, validateAnnotationsUpdate(field.NewPath("metadata", "annotations"), pod, old.Annotations)...)
	wrong, stop := validateImagesUpdate(path.Child("containers"), pod.Spec.Containers, old.Spec.Containers)
	errs = append(errs, wrong...)
	if stop {
		return errs
	}
	wrong, stop = validateImagesUpdate(path.Child("initContainers"), pod.Spec.InitContainers, old.Spec.InitContainers)
	errs = append(errs, wrong...)
	if stop {
		return errs
	}
	wrong, stop = validateDeadlineUpdate(path.Child("activeDeadlineSeconds"), pod.Spec.ActiveDeadlineSeconds, old.Spec.ActiveDeadlineSeconds)
	errs = append(errs, wrong...)
	if stop {
		return errs
	}
	errs = append(errs, validateTolerationsUpdate(path.Child("tolerations"), pod.Spec.Tolerations, old.Spec.Tolerations)...)
	errs = append(errs, validateGatesUpdate(path.Child("schedulingGates"), pod.Spec.SchedulingGates, old.Spec.SchedulingGates)...)
	if equality.Semantic.DeepEqual(pod.Spec, old.Spec) {
		return errs
	}
	return append(errs, validateRestUpdate(path, pod, old)...)
}

// validateRestUpdate compares what is left when all that may change, and has
// been checked, is put back to what it was.
func validateRestUpdate(path *field.Path, pod, old *corev1.Pod) field.ErrorList {
	if equality.Semantic.DeepEqual(pod.Spec, old.Spec) {
		return nil
	}
	var errs field.ErrorList
	was, rest := asStored(&old.Spec), pod.Spec.DeepCopy()
	for i := range rest.Containers {
		rest.Containers[i].Image = was.Containers[i].Image
	}
	for i := range rest.InitContainers {
		rest.InitContainers[i].Image = was.InitContainers[i].Image
	}
	if len(rest.InitContainers) == 0 {
		rest.InitContainers = nil // an empty list is not shown as a difference
	}
	rest.ActiveDeadlineSeconds = was.ActiveDeadlineSeconds
	rest.SchedulingGates = was.SchedulingGates
	rest.Tolerations = was.Tolerations
	if before, is := was.TerminationGracePeriodSeconds, rest.TerminationGracePeriodSeconds; before != nil && *before < 0 && is != nil && *is == 1 {
		rest.TerminationGracePeriodSeconds = before
	}
	if len(was.SchedulingGates) > 0 {
		errs = append(errs, validateGatedUpdate(path, rest, was)...)
	}
	if !equality.Semantic.DeepEqual(rest, was) {
		errs = append(errs, field.Forbidden(path, fmt.Sprintf("pod updates may not change fields other than %s\n%v",
			strings.Join(updatableFields(), ","), diff.Diff(untagged{*was}, untagged{*rest}))))
	}
	return errs
}

func updatableFields() []string {
	return []string{
		"`spec.containers[*].image`",
		"`spec.initContainers[*].image`",
		"`spec.activeDeadlineSeconds`",
		"`spec.tolerations` (only additions to existing tolerations)",
		"`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
	}
}

// validateImagesUpdate stops the rest where containers were added or removed.
func validateImagesUpdate(path *field.Path, containers, old []corev1.Container) (errs field.ErrorList, stop bool) {
	if len(containers) != len(old) {
		return field.ErrorList{field.Forbidden(path, "pod updates may not add or remove containers")}, true
	}
	for i := range containers {
		errs = append(errs, notEmpty(path.Index(i).Child("image"), containers[i].Image)...)
		errs = append(errs, validateImageSpaces(path.Index(i), &containers[i])...)
	}
	return errs, false
}

// validateDeadlineUpdate lets a deadline be set, and be made shorter.
func validateDeadlineUpdate(path *field.Path, deadline, old *int64) (errs field.ErrorList, stop bool) {
	switch {
	case deadline == nil && old != nil:
		return field.ErrorList{field.Invalid(path, deadline, "must not update from a positive integer to nil value")}, false
	case deadline == nil:
		return nil, false
	case *deadline < 0 || *deadline > math.MaxInt32:
		return field.ErrorList{field.Invalid(path, *deadline, validation.InclusiveRangeError(0, math.MaxInt32))}, true
	case old != nil && *old < *deadline:
		return field.ErrorList{field.Invalid(path, *deadline, "must be less than or equal to previous value")}, true
	}
	return nil, false
}

// validateTolerationsUpdate lets tolerations be added, and their seconds change.
func validateTolerationsUpdate(path *field.Path, tolerations, old []corev1.Toleration) field.ErrorList {
	for _, was := range old {
		kept := slices.ContainsFunc(tolerations, func(is corev1.Toleration) bool {
			is.TolerationSeconds = was.TolerationSeconds
			return is == was
		})
		if !kept {
			return field.ErrorList{field.Forbidden(path, "existing toleration can not be modified except its tolerationSeconds")}
		}
	}
	return validateTolerations(path, tolerations)
}

func validateGatesUpdate(path *field.Path, gates, old []corev1.PodSchedulingGate) field.ErrorList {
	var errs field.ErrorList
	for i, gate := range gates {
		// One that comes twice is told once, where it is last.
		if !slices.Contains(old, gate) && !slices.Contains(gates[i+1:], gate) {
			errs = append(errs, field.Forbidden(path.Index(i).Child("name"), fmt.Sprintf("only deletion is allowed, but found new scheduling gate '%s'", gate.Name)))
		}
	}
	return errs
}

// validateGatedUpdate lets where a Pod may run be narrowed until its gates have
// opened, and puts that in rest back to what it was.
func validateGatedUpdate(path *field.Path, rest, old *corev1.PodSpec) field.ErrorList {
	var errs field.ErrorList
	if !equality.Semantic.DeepEqual(rest.NodeSelector, old.NodeSelector) {
		kept := maps.Collect(maps.All(rest.NodeSelector))
		maps.DeleteFunc(kept, func(key, value string) bool { was, ok := old.NodeSelector[key]; return !ok || was != value })
		if len(kept) != len(old.NodeSelector) {
			errs = append(errs, field.Invalid(path.Child("nodeSelector"), rest.NodeSelector, "only additions to spec.nodeSelector are allowed (no mutations or deletions)"))
		}
		rest.NodeSelector = old.NodeSelector
	}
	is, was := nodeAffinity(rest), nodeAffinity(old)
	if equality.Semantic.DeepEqual(is, was) {
		return errs
	}
	errs = append(errs, validateTermsUpdate(path.Child("affinity", "nodeAffinity", required, "nodeSelectorTerms"), nodeTerms(is), nodeTerms(was))...)
	if rest.Affinity == nil {
		rest.Affinity = &corev1.Affinity{}
	}
	rest.Affinity.NodeAffinity = was
	if old.Affinity == nil && *rest.Affinity == (corev1.Affinity{}) {
		rest.Affinity = nil
	}
	return errs
}

func nodeAffinity(spec *corev1.PodSpec) *corev1.NodeAffinity {
	if spec.Affinity == nil {
		return nil
	}
	return spec.Affinity.NodeAffinity
}

func nodeTerms(n *corev1.NodeAffinity) []corev1.NodeSelectorTerm {
	if n == nil || n.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return nil
	}
	return n.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
}

// validateTermsUpdate lets each term, which any one of is enough, gain further
// requirements at its end.
func validateTermsUpdate(path *field.Path, terms, old []corev1.NodeSelectorTerm) field.ErrorList {
	if len(old) > 0 && len(old) != len(terms) {
		return field.ErrorList{field.Invalid(path, untagged{terms}, "no additions/deletions to non-empty NodeSelectorTerms list are allowed")}
	}
	var errs field.ErrorList
	for i, was := range old {
		is := terms[i]
		empty := len(was.MatchExpressions)+len(was.MatchFields) == 0
		grown := len(is.MatchExpressions)+len(is.MatchFields) > 0
		if empty && grown || !beginsWith(is.MatchExpressions, was.MatchExpressions) || !beginsWith(is.MatchFields, was.MatchFields) {
			errs = append(errs, field.Invalid(path.Index(i), untagged{is}, "only additions are allowed (no mutations or deletions)"))
		}
	}
	return errs
}

func beginsWith(list, start []corev1.NodeSelectorRequirement) bool {
	return len(list) >= len(start) && (len(start) == 0 || equality.Semantic.DeepEqual(list[:len(start)], start))
}

// validateEphemeralUpdate lets ephemeral containers be added only.
func validateEphemeralUpdate(pod, old *corev1.Pod) field.ErrorList {
	if _, static := old.Annotations[corev1.MirrorPodAnnotationKey]; static {
		return field.ErrorList{field.Forbidden(field.NewPath(""), "static pods do not support ephemeral containers")}
	}
	errs := validatePod(pod, old)
	path := field.NewPath("spec", "ephemeralContainers")
	for _, was := range old.Spec.EphemeralContainers {
		i := slices.IndexFunc(pod.Spec.EphemeralContainers, func(is corev1.EphemeralContainer) bool { return is.Name == was.Name })
		if i < 0 {
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("existing ephemeral containers %q may not be removed\n", was.Name)))
		} else if is := pod.Spec.EphemeralContainers[i]; !equality.Semantic.DeepEqual(was, is) {
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("existing ephemeral containers %q may not be changed\n%v", was.Name, diff.Diff(untagged{*asStored(&was)}, untagged{is}))))
		}
	}
	return errs
}
