package kind

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const selectsNothing = "a null labelSelector results in matching no pod"

// oldNodeLabel says what to use in place of a node label from before v1.17.
func oldNodeLabel(key string) (text string, old bool) {
	switch key {
	case "beta.kubernetes.io/arch":
		return `deprecated since v1.14; use "kubernetes.io/arch" instead`, true
	case "beta.kubernetes.io/os":
		return `deprecated since v1.14; use "kubernetes.io/os" instead`, true
	case corev1.LabelFailureDomainBetaRegion:
		return `deprecated since v1.17; use "topology.kubernetes.io/region" instead`, true
	case corev1.LabelFailureDomainBetaZone:
		return `deprecated since v1.17; use "topology.kubernetes.io/zone" instead`, true
	case corev1.LabelInstanceType:
		return `deprecated since v1.17; use "node.kubernetes.io/instance-type" instead`, true
	case "app.kubernetes.io/created-by":
		return `deprecated since v1.9`, true
	case corev1.PreferAvoidPodsAnnotationKey:
		return `deprecated since v1.22; use Taints and Tolerations instead`, true
	case "node-role.kubernetes.io/master":
		return `use "node-role.kubernetes.io/control-plane" instead`, true
	}
	return "", false
}

// labels warns of old labels of nodes, and of spreading what selects nothing.
func (w *warner) labels(path *field.Path, spec *corev1.PodSpec) {
	for _, key := range slices.Sorted(maps.Keys(spec.NodeSelector)) {
		if text, old := oldNodeLabel(key); old {
			w.say(path.Child("nodeSelector").Key(key), "%s", text)
		}
	}
	n := nodeAffinity(spec)
	for i, term := range nodeTerms(n) {
		w.nodeTerm(path.Child("affinity", "nodeAffinity", required, "nodeSelectorTerms").Index(i), term, false)
	}
	if n != nil {
		for i, p := range n.PreferredDuringSchedulingIgnoredDuringExecution {
			w.nodeTerm(path.Child("affinity", "nodeAffinity", preferred).Index(i).Child("preference"), p.Preference, true)
		}
	}
	for i, c := range spec.TopologySpreadConstraints {
		at := path.Child("topologySpreadConstraints").Index(i)
		if text, old := oldNodeLabel(c.TopologyKey); old {
			w.say(at.Child("topologyKey"), "%s is %s", c.TopologyKey, text)
		}
		if c.LabelSelector == nil {
			w.say(at.Child("labelSelector"), selectsNothing)
		}
	}
}

// nodeTerm warns of old labels and, where they were always let by, of values
// that no label can have.
func (w *warner) nodeTerm(path *field.Path, term corev1.NodeSelectorTerm, values bool) {
	for i, e := range term.MatchExpressions {
		if text, old := oldNodeLabel(e.Key); old {
			w.say(path.Child("matchExpressions").Index(i).Child("key"), "%s is %s", e.Key, text)
		}
		for j, value := range e.Values {
			if !values {
				break
			}
			for _, wrong := range validation.IsValidLabelValue(value) {
				w.say(path.Child("matchExpressions").Index(i).Child("values").Index(j), "%s is invalid, %s", value, wrong)
			}
		}
	}
}

// affinity warns of terms about other Pods that select none.
func (w *warner) affinity(path *field.Path, affinity *corev1.Affinity) {
	terms := func(path *field.Path, must []corev1.PodAffinityTerm, may []corev1.WeightedPodAffinityTerm) {
		for i, term := range must {
			if term.LabelSelector == nil {
				w.say(path.Child(required).Index(i).Child("labelSelector"), selectsNothing)
			}
		}
		for i, term := range may {
			if term.PodAffinityTerm.LabelSelector == nil {
				w.say(path.Child(preferred).Index(i).Child("podAffinityTerm", "labelSelector"), selectsNothing)
			}
		}
	}
	if affinity == nil {
		return
	}
	if a := affinity.PodAffinity; a != nil {
		terms(path.Child("podAffinity"), a.RequiredDuringSchedulingIgnoredDuringExecution, a.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if a := affinity.PodAntiAffinity; a != nil {
		terms(path.Child("podAntiAffinity"), a.RequiredDuringSchedulingIgnoredDuringExecution, a.PreferredDuringSchedulingIgnoredDuringExecution)
	}
}

// addresses warns of addresses that are not written in the usual way.
func (w *warner) addresses(path *field.Path, spec *corev1.PodSpec) {
	check := func(at *field.Path, ip string) {
		if len(ipAddress(at, ip)) == 0 {
			w.texts = append(w.texts, validation.GetWarningsForIP(at, ip)...)
		}
	}
	if spec.DNSConfig != nil {
		for i, server := range spec.DNSConfig.Nameservers {
			check(path.Child("dnsConfig", "nameservers").Index(i), server)
		}
	}
	for i, alias := range spec.HostAliases {
		check(path.Child("hostAliases").Index(i).Child("ip"), alias.IP)
	}
}
