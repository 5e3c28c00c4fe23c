package kind

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// nodeErrors checks a whole Node. Paths of taints begin with "metadata" because
// upstream's do. old may be nil.
func nodeErrors(n, old *corev1.Node) field.ErrorList {
	errs := nodeTaintErrors(n.Spec.Taints, field.NewPath("metadata", "taints"))
	errs = append(errs, nodeResourceErrors(n)...)

	var known []string
	if old != nil {
		known = old.Spec.PodCIDRs
	}
	path := field.NewPath("spec", "podCIDRs")
	for i, cidr := range n.Spec.PodCIDRs {
		errs = append(errs, validation.IsValidCIDRForLegacyField(path.Index(i), cidr, true, known)...)
	}
	if len(n.Spec.PodCIDRs) < 2 {
		return errs
	}
	families, seen := map[bool]bool{}, map[string]bool{}
	for i, cidr := range n.Spec.PodCIDRs {
		if seen[cidr] {
			errs = append(errs, field.Duplicate(path.Index(i), cidr))
		}
		seen[cidr] = true
		if prefix, err := netip.ParsePrefix(cidr); err == nil {
			families[prefix.Addr().Is4()] = true
		}
	}
	if len(families) < 2 || len(n.Spec.PodCIDRs) > 2 {
		errs = append(errs, field.Invalid(path, n.Spec.PodCIDRs, "may specify no more than one CIDR for each IP family"))
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
			duplicate := field.Duplicate(at, taint)
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

// countedResource reports whether a node has it only in whole pieces: Pods and
// extended resources (devices).
func countedResource(name corev1.ResourceName) bool {
	if name == corev1.ResourcePods {
		return true
	}
	native := !strings.Contains(string(name), "/") || strings.Contains(string(name), corev1.ResourceDefaultNamespacePrefix)
	return !native && !strings.HasPrefix(string(name), corev1.DefaultResourceRequestsPrefix) &&
		len(validation.IsQualifiedName(corev1.DefaultResourceRequestsPrefix+string(name))) == 0
}

// nodeUpdateErrors checks a change to spec or status: what ties the node to its
// network and its provider is set once.
func nodeUpdateErrors(n, old *corev1.Node) field.ErrorList {
	errs := nodeResourceErrors(n)
	seen := map[corev1.NodeAddress]bool{}
	for i, address := range n.Status.Addresses {
		if seen[address] {
			errs = append(errs, field.Duplicate(field.NewPath("status", "addresses").Index(i), address))
		}
		seen[address] = true
	}
	if len(old.Spec.PodCIDRs) > 0 && !slices.Equal(old.Spec.PodCIDRs, n.Spec.PodCIDRs) {
		errs = append(errs, field.Forbidden(field.NewPath("spec", "podCIDRs"), `node updates may not change podCIDR except from "" to valid`))
	}
	if old.Spec.ProviderID != "" && old.Spec.ProviderID != n.Spec.ProviderID {
		errs = append(errs, field.Forbidden(field.NewPath("spec", "providerID"), `node updates may not change providerID except from "" to valid`))
	}
	errs = append(errs, nodeConfigErrors(n)...)
	errs = append(errs, nodeTaintErrors(n.Spec.Taints, field.NewPath("metadata", "taints"))...)
	if n.Spec.DoNotUseExternalID != old.Spec.DoNotUseExternalID {
		errs = append(errs, field.Forbidden(field.NewPath("spec", "externalID"), "may not be updated"))
	}
	return errs
}

// nodeConfigErrors checks the fields of dynamic kubelet configuration, which
// are still there though nothing reads them.
func nodeConfigErrors(n *corev1.Node) field.ErrorList {
	var errs field.ErrorList
	if n.Spec.ConfigSource != nil {
		errs = append(errs, nodeConfigSourceErrors(n.Spec.ConfigSource, false, field.NewPath("spec", "configSource"))...)
	}
	config := n.Status.Config
	if config == nil {
		return errs
	}
	for _, part := range []struct {
		name   string
		source *corev1.NodeConfigSource
	}{{"assigned", config.Assigned}, {"active", config.Active}, {"lastKnownGood", config.LastKnownGood}} {
		if part.source != nil {
			errs = append(errs, nodeConfigSourceErrors(part.source, true, field.NewPath("status", "config", part.name))...)
		}
	}
	return errs
}

func nodeConfigSourceErrors(s *corev1.NodeConfigSource, inStatus bool, path *field.Path) field.ErrorList {
	c := s.ConfigMap
	if c == nil {
		return field.ErrorList{field.Invalid(path, s, "exactly one reference subfield must be non-nil")}
	}
	var errs field.ErrorList
	path = path.Child("configMap")
	for _, id := range []struct{ name, value string }{{"uid", string(c.UID)}, {"resourceVersion", c.ResourceVersion}} {
		if inStatus && id.value == "" {
			errs = append(errs, field.Required(path.Child(id.name), id.name+" must be set in status"))
		}
		if !inStatus && id.value != "" {
			errs = append(errs, field.Forbidden(path.Child(id.name), id.name+" must not be set in spec"))
		}
	}
	for _, part := range []struct {
		name, value string
		check       func(string) []string
	}{
		{"namespace", c.Namespace, func(v string) []string { return apivalidation.ValidateNamespaceName(v, false) }},
		{"name", c.Name, func(v string) []string { return apivalidation.NameIsDNSSubdomain(v, false) }},
		{"kubeletConfigKey", c.KubeletConfigKey, validation.IsConfigMapKey},
	} {
		if part.value == "" {
			errs = append(errs, field.Required(path.Child(part.name), fmt.Sprintf("%s must be set", part.name)))
			continue
		}
		errs = append(errs, invalidEach(path.Child(part.name), part.value, part.check(part.value))...)
	}
	return errs
}
