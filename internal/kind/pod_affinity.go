package kind

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const (
	required  = "requiredDuringSchedulingIgnoredDuringExecution"
	preferred = "preferredDuringSchedulingIgnoredDuringExecution"
)

func validateAffinity(path *field.Path, spec *corev1.PodSpec) field.ErrorList {
	affinity, at := spec.Affinity, path.Child("affinity")
	if affinity == nil {
		return nil
	}
	var errs field.ErrorList
	if n := affinity.NodeAffinity; n != nil {
		errs = append(errs, validateNodeAffinity(at.Child("nodeAffinity"), n)...)
	}
	if p := affinity.PodAffinity; p != nil {
		errs = append(errs, validatePodTerms(at.Child("podAffinity"), p.RequiredDuringSchedulingIgnoredDuringExecution, p.PreferredDuringSchedulingIgnoredDuringExecution)...)
	}
	if p := affinity.PodAntiAffinity; p != nil {
		errs = append(errs, validatePodTerms(at.Child("podAntiAffinity"), p.RequiredDuringSchedulingIgnoredDuringExecution, p.PreferredDuringSchedulingIgnoredDuringExecution)...)
	}
	return errs
}

func validateNodeAffinity(path *field.Path, n *corev1.NodeAffinity) field.ErrorList {
	var errs field.ErrorList
	if s := n.RequiredDuringSchedulingIgnoredDuringExecution; s != nil {
		terms := path.Child(required, "nodeSelectorTerms")
		if len(s.NodeSelectorTerms) == 0 {
			errs = append(errs, field.Required(terms, "must have at least one node selector term"))
		}
		for i, term := range s.NodeSelectorTerms {
			errs = append(errs, validateNodeTerm(terms.Index(i), term, true)...)
		}
	}
	for i, p := range n.PreferredDuringSchedulingIgnoredDuringExecution {
		at := path.Child(preferred).Index(i)
		errs = append(errs, validateWeight(at, p.Weight)...)
		// A preference that no label can match is harmless, and was always let by.
		errs = append(errs, validateNodeTerm(at.Child("preference"), p.Preference, false)...)
	}
	return errs
}

func validateWeight(path *field.Path, weight int32) field.ErrorList {
	if weight < 1 || weight > 100 {
		return field.ErrorList{field.Invalid(path.Child("weight"), weight, "must be in the range 1-100")}
	}
	return nil
}

// validateNodeTerm checks one term; strict asks for values that labels can have.
func validateNodeTerm(path *field.Path, term corev1.NodeSelectorTerm, strict bool) field.ErrorList {
	var errs field.ErrorList
	for i, r := range term.MatchExpressions {
		errs = append(errs, validateNodeExpression(path.Child("matchExpressions").Index(i), r, strict)...)
	}
	for i, r := range term.MatchFields {
		errs = append(errs, validateNodeField(path.Child("matchFields").Index(i), r)...)
	}
	return errs
}

func validateNodeExpression(path *field.Path, r corev1.NodeSelectorRequirement, strict bool) field.ErrorList {
	var errs field.ErrorList
	values := path.Child("values")
	switch r.Operator {
	case corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn:
		if len(r.Values) == 0 {
			errs = append(errs, field.Required(values, "must be specified when `operator` is 'In' or 'NotIn'"))
		}
	case corev1.NodeSelectorOpExists, corev1.NodeSelectorOpDoesNotExist:
		if len(r.Values) > 0 {
			errs = append(errs, field.Forbidden(values, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"))
		}
	case corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt:
		if len(r.Values) != 1 {
			errs = append(errs, field.Required(values, "must be specified single value when `operator` is 'Lt' or 'Gt'"))
		}
	default:
		errs = append(errs, field.Invalid(path.Child("operator"), r.Operator, "not a valid selector operator"))
	}
	errs = append(errs, metavalidation.ValidateLabelName(r.Key, path.Child("key"))...)
	if strict {
		for i, value := range r.Values {
			errs = append(errs, invalidEach(values.Index(i), value, validation.IsValidLabelValue(value))...)
		}
	}
	return errs
}

func validateNodeField(path *field.Path, r corev1.NodeSelectorRequirement) field.ErrorList {
	var errs field.ErrorList
	switch r.Operator {
	case corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn:
		if len(r.Values) != 1 {
			errs = append(errs, field.Required(path.Child("values"), "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"))
		}
	default:
		errs = append(errs, field.Invalid(path.Child("operator"), r.Operator, "not a valid selector operator"))
	}
	if r.Key != metav1.ObjectNameField {
		return append(errs, field.Invalid(path.Child("key"), r.Key, "not a valid field selector key"))
	}
	for i, value := range r.Values {
		errs = append(errs, dnsSubdomain(path.Child("values").Index(i), value)...)
	}
	return errs
}

func validatePodTerms(path *field.Path, must []corev1.PodAffinityTerm, may []corev1.WeightedPodAffinityTerm) field.ErrorList {
	var errs field.ErrorList
	for i := range must {
		errs = append(errs, validatePodTerm(path.Child(required).Index(i), &must[i])...)
	}
	for i := range may {
		at := path.Child(preferred).Index(i)
		errs = append(errs, validateWeight(at, may[i].Weight)...)
		errs = append(errs, validatePodTerm(at.Child("podAffinityTerm"), &may[i].PodAffinityTerm)...)
	}
	return errs
}

func validatePodTerm(path *field.Path, term *corev1.PodAffinityTerm) field.ErrorList {
	options := metavalidation.LabelSelectorValidationOptions{}
	errs := metavalidation.ValidateLabelSelector(term.LabelSelector, options, path.Child("labelSelector"))
	errs = append(errs, metavalidation.ValidateLabelSelector(term.NamespaceSelector, options, path.Child("namespaceSelector"))...)
	for _, name := range term.Namespaces {
		errs = append(errs, invalidEach(path.Child("namespace"), name, apivalidation.ValidateNamespaceName(name, false))...)
	}
	errs = append(errs, validateLabelKeys(path, term.MatchLabelKeys, term.MismatchLabelKeys, term.LabelSelector)...)
	if term.TopologyKey == "" {
		errs = append(errs, field.Required(path.Child("topologyKey"), "can not be empty"))
	}
	return append(errs, metavalidation.ValidateLabelName(term.TopologyKey, path.Child("topologyKey"))...)
}

// validateLabelKeys checks keys whose values in the Pod's own labels have been
// merged into selector, when the Pod was created, as expressions at its end: a
// key that occurs again before that was given twice.
func validateLabelKeys(path *field.Path, match, mismatch []string, selector *metav1.LabelSelector) field.ErrorList {
	errs := validateKeyNames(path.Child("matchLabelKeys"), match, selector)
	errs = append(errs, validateKeyNames(path.Child("mismatchLabelKeys"), mismatch, selector)...)
	if selector != nil {
		seen := map[string]bool{}
		for key := range selector.MatchLabels {
			seen[key] = true
		}
		for _, e := range selector.MatchExpressions {
			if i := lastIndex(match, e.Key); i >= 0 && seen[e.Key] {
				errs = append(errs, field.Invalid(path.Index(i), e.Key, "exists in both matchLabelKeys and labelSelector"))
			}
			seen[e.Key] = true
		}
	}
	for i, key := range match {
		if slices.Contains(mismatch, key) {
			errs = append(errs, field.Invalid(path.Child("matchLabelKeys").Index(i), key, "exists in both matchLabelKeys and mismatchLabelKeys"))
		}
	}
	return errs
}

func lastIndex(list []string, value string) int {
	for i, s := range slices.Backward(list) {
		if s == value {
			return i
		}
	}
	return -1
}

func validateKeyNames(path *field.Path, keys []string, selector *metav1.LabelSelector) field.ErrorList {
	if len(keys) > 0 && selector == nil {
		return field.ErrorList{field.Forbidden(path, "must not be specified when labelSelector is not set")}
	}
	var errs field.ErrorList
	for i, key := range keys {
		errs = append(errs, metavalidation.ValidateLabelName(key, path.Index(i))...)
	}
	return errs
}
