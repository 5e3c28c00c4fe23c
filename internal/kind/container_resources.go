package kind

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// resourceNameRule says what is wrong with the name of a resource.
type resourceNameRule func(*field.Path, corev1.ResourceName) field.ErrorList

// validateResources checks limits and requests, and that the claims they name
// are among those of the Pod.
func validateResources(path *field.Path, r *corev1.ResourceRequirements, rule resourceNameRule, claims []string) field.ErrorList {
	if len(r.Limits)+len(r.Requests)+len(r.Claims) == 0 {
		return nil
	}
	limits, requests := path.Child("limits"), path.Child("requests")
	var errs field.ErrorList
	for _, name := range slices.Sorted(maps.Keys(r.Limits)) {
		at := limits.Key(string(name))
		errs = append(errs, rule(at, name)...)
		errs = append(errs, validateQuantity(at, name, r.Limits[name])...)
		errs = append(errs, validateHugePages(at, name, r.Limits[name])...)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Requests)) {
		at := requests.Key(string(name))
		errs = append(errs, rule(at, name)...)
		errs = append(errs, validateQuantity(at, name, r.Requests[name])...)
		errs = append(errs, validateRequest(limits, requests, name, r)...)
		errs = append(errs, validateHugePages(at, name, r.Requests[name])...)
	}
	if hasHugePages(r.Limits, r.Requests) && !hasCompute(r.Limits, r.Requests) {
		errs = append(errs, field.Forbidden(path, "HugePages require cpu or memory"))
	}
	return append(errs, validateClaimNames(path.Child("claims"), r.Claims, claims)...)
}

func validateHugePages(path *field.Path, name corev1.ResourceName, quantity resource.Quantity) field.ErrorList {
	if isHugePages(name) && !wholeHugePages(name, quantity) {
		return field.ErrorList{field.Invalid(path, quantity.String(), fmt.Sprintf("%s is not positive integer multiple of %s", quantity.String(), name))}
	}
	return nil
}

// validateQuantity checks one amount of a resource.
func validateQuantity(path *field.Path, name corev1.ResourceName, quantity resource.Quantity) field.ErrorList {
	var errs field.ErrorList
	if quantity.Sign() < 0 {
		errs = append(errs, field.Invalid(path, quantity.String(), apivalidation.IsNegativeErrorMsg))
	}
	if isCounted(name) && quantity.MilliValue()%1000 != 0 {
		errs = append(errs, field.Invalid(path, quantity, "must be an integer"))
	}
	return errs
}

// validateRequest compares a request with its limit. What cannot be overcommitted
// needs a limit, and one that is the same.
func validateRequest(limits, requests *field.Path, name corev1.ResourceName, r *corev1.ResourceRequirements) field.ErrorList {
	request := r.Requests[name]
	limit, ok := r.Limits[name]
	switch {
	case !ok && !mayOvercommit(name):
		return field.ErrorList{field.Required(limits, "Limit must be set for non overcommitable resources")}
	case !ok:
		return nil
	case request.Cmp(limit) != 0 && !mayOvercommit(name):
		return field.ErrorList{field.Invalid(requests, request.String(), fmt.Sprintf("must be equal to %s limit of %s", name, limit.String()))}
	case request.Cmp(limit) > 0:
		return field.ErrorList{field.Invalid(requests, request.String(), fmt.Sprintf("must be less than or equal to %s limit of %s", name, limit.String()))}
	}
	return nil
}

// containerResourceName is the rule for what a container may ask for.
func containerResourceName(path *field.Path, name corev1.ResourceName) field.ErrorList {
	errs := anyResourceName(path, name)
	switch {
	case !strings.Contains(string(name), "/"):
		if !isContainerResource(name) {
			errs = append(errs, field.Invalid(path, name, "must be a standard resource for containers"))
		}
	case !isNative(name) && !isExtended(name):
		errs = append(errs, field.Invalid(path, name, "doesn't follow extended resource name standard"))
	}
	return errs
}

func anyResourceName(path *field.Path, name corev1.ResourceName) field.ErrorList {
	if errs := invalidEach(path, name, validation.IsQualifiedName(string(name))); len(errs) > 0 {
		return errs
	}
	if !strings.Contains(string(name), "/") && !isStandardResource(name) {
		return field.ErrorList{field.Invalid(path, name, "must be a standard resource type or fully qualified")}
	}
	return nil
}

// validateClaimNames checks that claims are named once, each, and exist in the Pod.
func validateClaimNames(path *field.Path, used []corev1.ResourceClaim, claims []string) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, claim := range used {
		at := path.Index(i)
		if claim.Name == "" {
			errs = append(errs, field.Required(at, ""))
			continue
		}
		errs = append(errs, validateClaimOnce(at, claim, seen)...)
		if !slices.Contains(claims, claim.Name) {
			missing := field.NotFound(at, claim.Name)
			missing.Detail = "must be one of the names in pod.spec.resourceClaims which is empty"
			if len(claims) > 0 {
				missing.Detail = "must be one of the names in pod.spec.resourceClaims: " + strings.Join(slices.Sorted(slices.Values(claims)), ", ")
			}
			errs = append(errs, missing)
		}
	}
	return errs
}

// validateClaimOnce refuses a claim, or a request in it, that seen already has:
// naming a claim as a whole includes each of its requests.
func validateClaimOnce(path *field.Path, claim corev1.ResourceClaim, seen map[string]bool) field.ErrorList {
	if seen[claim.Name] {
		return field.ErrorList{field.Duplicate(path, claim.Name)}
	}
	var errs field.ErrorList
	key := claim.Name
	if claim.Request != "" {
		errs = dnsLabel(path.Child("request"), claim.Request)
		key += "/" + claim.Request
	}
	switch {
	case seen[key]:
		errs = append(errs, field.Duplicate(path, key))
	case claim.Request == "":
		for other := range seen {
			if name, _, found := strings.Cut(other, "/"); found && name == claim.Name {
				errs = append(errs, field.Duplicate(path, claim.Name))
			}
		}
	}
	seen[key] = true
	return errs
}
