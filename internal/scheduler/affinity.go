package scheduler

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// domain is one value of a topology label.
type domain struct{ key, value string }

// together is what a cycle knows of the Pods that its own wants near or far, and
// of those that want it far.
type together struct {
	near     []term
	nearHas  []map[domain]bool // by term of near
	anywhere bool              // some Pod matches all of near
	far      map[domain]bool   // by the Pod's own terms
	repelled map[domain]bool   // by terms of others
}

// term is a PodAffinityTerm that is ready to match.
type term struct {
	key        string
	selector   labels.Selector
	namespaces []string
	inAll      bool // a namespace selector is given, which matches by label
	nsSelector labels.Selector
}

func affinity(pod *corev1.Pod) []corev1.PodAffinityTerm {
	if a := pod.Spec.Affinity; a != nil && a.PodAffinity != nil {
		return a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	}
	return nil
}

func antiAffinity(pod *corev1.Pod) []corev1.PodAffinityTerm {
	if a := pod.Spec.Affinity; a != nil && a.PodAntiAffinity != nil {
		return a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	}
	return nil
}

// newTerm prepares a term of a Pod. One that cannot be read matches nothing;
// validation has refused it.
func newTerm(pod *corev1.Pod, t corev1.PodAffinityTerm) term {
	selector, err := metav1.LabelSelectorAsSelector(withKeys(t.LabelSelector, pod.Labels, t.MatchLabelKeys, t.MismatchLabelKeys))
	if err != nil {
		selector = labels.Nothing()
	}
	ready := term{key: t.TopologyKey, selector: selector, namespaces: t.Namespaces}
	if len(t.Namespaces) == 0 && t.NamespaceSelector == nil {
		ready.namespaces = []string{pod.Namespace}
	}
	if t.NamespaceSelector != nil {
		ready.inAll = true
		if ready.nsSelector, err = metav1.LabelSelectorAsSelector(t.NamespaceSelector); err != nil {
			ready.nsSelector = labels.Nothing()
		}
	}
	return ready
}

// withKeys adds the Pod's own values of matchLabelKeys (KEP-3633, KEP-3243).
func withKeys(selector *metav1.LabelSelector, own map[string]string, match, mismatch []string) *metav1.LabelSelector {
	if selector == nil || len(match)+len(mismatch) == 0 {
		return selector
	}
	selector = selector.DeepCopy()
	add := func(keys []string, operator metav1.LabelSelectorOperator) {
		for _, key := range keys {
			if value, ok := own[key]; ok {
				selector.MatchExpressions = append(selector.MatchExpressions,
					metav1.LabelSelectorRequirement{Key: key, Operator: operator, Values: []string{value}})
			}
		}
	}
	add(match, metav1.LabelSelectorOpIn)
	add(mismatch, metav1.LabelSelectorOpNotIn)
	return selector
}

func (t *term) matches(pod *corev1.Pod, namespaceLabels func(string) labels.Set) bool {
	inNamespace := slices.Contains(t.namespaces, pod.Namespace) ||
		t.inAll && t.nsSelector.Matches(namespaceLabels(pod.Namespace))
	return inNamespace && t.selector.Matches(labels.Set(pod.Labels))
}

func (c *cycle) newTogether() *together {
	near, far := affinity(c.pod.pod), antiAffinity(c.pod.pod)
	if len(near)+len(far)+c.cluster.antiAffine == 0 {
		return nil
	}
	t := &together{far: map[domain]bool{}, repelled: map[domain]bool{}}
	for _, n := range near {
		t.near = append(t.near, newTerm(c.pod.pod, n))
		t.nearHas = append(t.nearHas, map[domain]bool{})
	}
	var farTerms []term
	for _, f := range far {
		farTerms = append(farTerms, newTerm(c.pod.pod, f))
	}
	for _, name := range c.cluster.names {
		n := c.cluster.nodes[name]
		for _, other := range n.pods {
			c.meet(t, farTerms, n.node, other.pod)
		}
	}
	return t
}

// meet notes what one Pod on a node means for the cycle's Pod.
func (c *cycle) meet(t *together, far []term, node *corev1.Node, other *corev1.Pod) {
	matchesAll := len(t.near) > 0
	for i := range t.near {
		if !t.near[i].matches(other, c.namespaceLabels) {
			matchesAll = false
			continue
		}
		if value, ok := node.Labels[t.near[i].key]; ok {
			t.nearHas[i][domain{t.near[i].key, value}] = true
		}
	}
	t.anywhere = t.anywhere || matchesAll
	for i := range far {
		if value, ok := node.Labels[far[i].key]; ok && far[i].matches(other, c.namespaceLabels) {
			t.far[domain{far[i].key, value}] = true
		}
	}
	for _, a := range antiAffinity(other) {
		ready := newTerm(other, a)
		if value, ok := node.Labels[ready.key]; ok && ready.matches(c.pod.pod, c.namespaceLabels) {
			t.repelled[domain{ready.key, value}] = true
		}
	}
}

func apart(c *cycle, n *nodeInfo) []string {
	t := c.together
	if t == nil {
		return nil
	}
	if !t.hasNear(c, n.node) {
		return []string{"node(s) didn't match pod affinity rules"}
	}
	for d := range t.far {
		if n.node.Labels[d.key] == d.value {
			return []string{"node(s) didn't match pod anti-affinity rules"}
		}
	}
	for d := range t.repelled {
		if n.node.Labels[d.key] == d.value {
			return []string{"node(s) didn't satisfy existing pods anti-affinity rules"}
		}
	}
	return nil
}

// hasNear says whether the Pods that must be near are. The first of a group
// that wants to be near itself may go anywhere that has the labels.
func (t *together) hasNear(c *cycle, node *corev1.Node) bool {
	satisfied := true
	for i := range t.near {
		value, ok := node.Labels[t.near[i].key]
		if !ok {
			return false
		}
		satisfied = satisfied && t.nearHas[i][domain{t.near[i].key, value}]
	}
	if satisfied || t.anywhere {
		return satisfied
	}
	for i := range t.near {
		if !t.near[i].matches(c.pod.pod, c.namespaceLabels) {
			return false
		}
	}
	return true
}
