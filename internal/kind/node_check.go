package kind

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
)

// nodeErrors checks a whole Node. Paths of taints and swap begin with "metadata"
// because upstream's do. old may be nil.
func nodeErrors(n, old *corev1.Node) field.ErrorList {
	var was Object
	if old != nil {
		was = old
	}
	errs := newMetaErrors(n, was, apivalidation.NameIsDNSSubdomain)
	errs = append(errs, nodeAnnotationErrors(n.Annotations)...)
	errs = append(errs, nodeTaintErrors(n.Spec.Taints, metaPath().Child("taints"))...)
	errs = append(errs, nodeResourceErrors(n)...)
	if swap := n.Status.NodeInfo.Swap; swap != nil && swap.Capacity != nil {
		errs = append(errs, positive(metaPath().Child("nodeSwapStatus", "capacity"), *swap.Capacity)...)
	}
	errs = append(errs, nodeFeatureErrors(n.Status.DeclaredFeatures)...)
	return append(errs, podCIDRErrors(n.Spec.PodCIDRs, field.NewPath("spec", "podCIDRs"))...)
}

func podCIDRErrors(cidrs []string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, cidr := range cidrs {
		errs = append(errs, validation.IsValidCIDRForLegacyField(path.Index(i), cidr, true, nil)...)
	}
	if len(cidrs) < 2 {
		return errs
	}
	both, err := netutils.IsDualStackCIDRStrings(cidrs)
	if err != nil {
		errs = append(errs, field.InternalError(path, fmt.Errorf("invalid PodCIDRs. failed to check with dual stack with error:%w", err)))
	}
	if !both || len(cidrs) > 2 {
		errs = append(errs, field.Invalid(path, cidrs, "may specify no more than one CIDR for each IP family"))
	}
	return errs
}

func nodeTaintErrors(taints []corev1.Taint, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, taint := range taints {
		at := path.Index(i)
		errs = append(errs, metavalidation.ValidateLabelName(taint.Key, at.Child("key"))...)
		if msgs := validation.IsValidLabelValue(taint.Value); len(msgs) > 0 {
			errs = append(errs, field.Invalid(at.Child("value"), taint.Value, strings.Join(msgs, ";")))
		}
		errs = append(errs, requiredOneOf(at.Child("effect"), taint.Effect,
			corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute)...)
		if key := string(taint.Effect) + "/" + taint.Key; seen[key] {
			duplicate := field.Duplicate(at, untagged{taint})
			duplicate.Detail = "taints must be unique by key and effect pair"
			errs = append(errs, duplicate)
		} else {
			seen[key] = true
		}
	}
	return errs
}

func nodeResourceErrors(n *corev1.Node) field.ErrorList {
	var errs field.ErrorList
	for _, list := range []struct {
		name  string
		items corev1.ResourceList
	}{{"capacity", n.Status.Capacity}, {"allocatable", n.Status.Allocatable}} {
		for _, name := range slices.Sorted(maps.Keys(list.items)) {
			quantity, path := list.items[name], field.NewPath("status", list.name, string(name))
			if quantity.Cmp(resource.Quantity{}) < 0 {
				errs = append(errs, field.Invalid(path, quantity.String(), apivalidation.IsNegativeErrorMsg))
			}
			if countedResource(name) && quantity.MilliValue()%1000 != 0 {
				errs = append(errs, field.Invalid(path, quantity, "must be an integer"))
			}
		}
	}
	return errs
}

// countedResource reports whether there is only a whole number of it: objects,
// and extended resources (devices).
func countedResource(name corev1.ResourceName) bool {
	switch name {
	case corev1.ResourcePods, corev1.ResourceQuotas, corev1.ResourceServices, corev1.ResourceReplicationControllers,
		corev1.ResourceSecrets, corev1.ResourceConfigMaps, corev1.ResourcePersistentVolumeClaims,
		corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers:
		return true
	}
	native := !strings.Contains(string(name), "/") || strings.Contains(string(name), corev1.ResourceDefaultNamespacePrefix)
	return !native && !strings.HasPrefix(string(name), corev1.DefaultResourceRequestsPrefix) &&
		len(validation.IsQualifiedName(corev1.DefaultResourceRequestsPrefix+string(name))) == 0
}

// featureName is a path of words, the first of which begins with a capital.
var featureName = regexp.MustCompile(`^[A-Z][a-zA-Z0-9]*(\/[a-zA-Z][a-zA-Z0-9]*)*$`)

// nodeFeatureErrors demands the features that a kubelet declares in order.
func nodeFeatureErrors(features []string) field.ErrorList {
	path := field.NewPath("status", "declaredFeatures")
	var errs field.ErrorList
	for i, name := range features {
		switch {
		case len(name) > validation.DNS1123SubdomainMaxLength:
			errs = append(errs, field.Invalid(path.Index(i), name, fmt.Sprintf("invalid feature name %q: must be no more than %d characters", name, validation.DNS1123SubdomainMaxLength)))
		case !featureName.MatchString(name):
			errs = append(errs, field.Invalid(path.Index(i), name, fmt.Sprintf("invalid feature name %q: must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes", name)))
		}
		if i+1 == len(features) {
			break
		}
		switch next, at := features[i+1], path.Index(i+1); {
		case name == next:
			errs = append(errs, field.Duplicate(at, next))
		case name > next:
			errs = append(errs, field.Invalid(at, next, "list must be sorted alphabetically"))
		}
	}
	return errs
}

// nodeUpdateErrors checks a change to spec or status: what ties the node to its
// network and its provider is set once.
func nodeUpdateErrors(n, old *corev1.Node) field.ErrorList {
	errs := append(metaUpdateErrors(n, old), nodeAnnotationErrors(n.Annotations)...)
	errs = append(errs, nodeResourceErrors(n)...)
	errs = append(errs, nodeFeatureErrors(n.Status.DeclaredFeatures)...)
	seen := map[corev1.NodeAddress]bool{}
	for i, address := range n.Status.Addresses {
		if seen[address] {
			errs = append(errs, field.Duplicate(field.NewPath("status", "addresses").Index(i), untagged{address}))
		}
		seen[address] = true
	}
	errs = append(errs, podCIDRChangeErrors(n.Spec.PodCIDRs, old.Spec.PodCIDRs)...)
	if old.Spec.ProviderID != "" && old.Spec.ProviderID != n.Spec.ProviderID {
		errs = append(errs, field.Forbidden(field.NewPath("spec", "providerID"), `node updates may not change providerID except from "" to valid`))
	}
	errs = append(errs, nodeTaintErrors(n.Spec.Taints, metaPath().Child("taints"))...)
	if n.Spec.DoNotUseExternalID != old.Spec.DoNotUseExternalID {
		errs = append(errs, field.Forbidden(field.NewPath("spec", "externalID"), "may not be updated"))
	}
	return errs
}

// podCIDRChangeErrors has an error for each subnet that changed.
func podCIDRChangeErrors(cidrs, old []string) field.ErrorList {
	refused := field.Forbidden(field.NewPath("spec", "podCIDRs"), `node updates may not change podCIDR except from "" to valid`)
	if len(old) > 0 && len(old) != len(cidrs) {
		return field.ErrorList{refused}
	}
	var errs field.ErrorList
	for i := range old {
		if cidrs[i] != old[i] {
			errs = append(errs, refused)
		}
	}
	return errs
}
