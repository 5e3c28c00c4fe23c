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
// of those that want it so.
type together struct {
	nearHas  []map[string]bool  // values with Pods that match all terms, by term
	anywhere bool               // there are such Pods
	farHas   []map[string]bool  // by term
	repelled map[domain]bool    // by required terms of others
	liked    map[domain]float64 // by preferences, the Pod's and others'
}

// term is a PodAffinityTerm that is ready to match.
type term struct {
	key        string
	selector   labels.Selector
	namespaces []string
	nsSelector labels.Selector // nil: none
	weight     float64         // of a preference, negative to keep away
}

// terms prepares the Pod's affinity.
func (p *podInfo) terms() {
	a := p.pod.Spec.Affinity
	if a == nil {
		return
	}
	add := func(list *[]term, t *corev1.PodAffinityTerm, weight float64) {
		ready := newTerm(p.pod, t)
		ready.weight = weight
		*list = append(*list, ready)
	}
	if n := a.PodAffinity; n != nil {
		for i := range n.RequiredDuringSchedulingIgnoredDuringExecution {
			add(&p.near, &n.RequiredDuringSchedulingIgnoredDuringExecution[i], 0)
		}
		for i := range n.PreferredDuringSchedulingIgnoredDuringExecution {
			t := &n.PreferredDuringSchedulingIgnoredDuringExecution[i]
			add(&p.prefers, &t.PodAffinityTerm, float64(t.Weight))
		}
	}
	if f := a.PodAntiAffinity; f != nil {
		for i := range f.RequiredDuringSchedulingIgnoredDuringExecution {
			add(&p.far, &f.RequiredDuringSchedulingIgnoredDuringExecution[i], 0)
		}
		for i := range f.PreferredDuringSchedulingIgnoredDuringExecution {
			t := &f.PreferredDuringSchedulingIgnoredDuringExecution[i]
			add(&p.prefers, &t.PodAffinityTerm, -float64(t.Weight))
		}
	}
}

// newTerm prepares a term of a Pod. One that cannot be read matches nothing;
// validation has refused it.
func newTerm(pod *corev1.Pod, t *corev1.PodAffinityTerm) term {
	selector, err := metav1.LabelSelectorAsSelector(withKeys(t.LabelSelector, pod.Labels, t.MatchLabelKeys, t.MismatchLabelKeys))
	if err != nil {
		selector = labels.Nothing()
	}
	ready := term{key: t.TopologyKey, selector: selector, namespaces: t.Namespaces}
	if len(t.Namespaces) == 0 && t.NamespaceSelector == nil {
		ready.namespaces = []string{pod.Namespace}
	}
	if t.NamespaceSelector != nil {
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
		t.nsSelector != nil && t.nsSelector.Matches(namespaceLabels(pod.Namespace))
	return inNamespace && t.selector.Matches(labels.Set(pod.Labels))
}

// newTogether looks at all Pods if the cycle's own has a say, else at those
// that have one.
func (c *cycle) newTogether() *together {
	own := c.pod.affine()
	if !own && len(c.cluster.affine) == 0 {
		return nil
	}
	t := &together{repelled: map[domain]bool{}, liked: map[domain]float64{}}
	for range c.pod.near {
		t.nearHas = append(t.nearHas, map[string]bool{})
	}
	for range c.pod.far {
		t.farHas = append(t.farHas, map[string]bool{})
	}
	if own {
		for _, f := range c.cluster.families {
			c.meet(t, f)
		}
	}
	for n := range c.cluster.affine {
		if n.node == nil {
			continue
		}
		for _, other := range n.affine {
			c.hear(t, n.node, other)
		}
	}
	return t
}

// meet notes what a family of Pods means for the terms of the cycle's own.
func (c *cycle) meet(t *together, f *family) {
	if len(c.pod.near) > 0 && c.matchesAll(c.pod.near, f.sample) {
		for i := range c.pod.near {
			t.anywhere = f.in(c.pod.near[i].key, t.nearHas[i]) || t.anywhere
		}
	}
	for i := range c.pod.far {
		if c.pod.far[i].matches(f.sample, c.namespaceLabels) {
			f.in(c.pod.far[i].key, t.farHas[i])
		}
	}
	for i := range c.pod.prefers {
		p := &c.pod.prefers[i]
		if !p.matches(f.sample, c.namespaceLabels) {
			continue
		}
		for n, m := range f.on {
			if value, ok := n.label(p.key); ok {
				t.liked[domain{p.key, value}] += p.weight * float64(m.all)
			}
		}
	}
}

// in adds the values that a label has where the family is, and says whether
// there are any.
func (f *family) in(key string, values map[string]bool) (any bool) {
	for n := range f.on {
		if value, ok := n.label(key); ok {
			values[value], any = true, true
		}
	}
	return any
}

// label returns the value of a label of a node that exists.
func (n *nodeInfo) label(key string) (string, bool) {
	if n.node == nil {
		return "", false
	}
	value, ok := n.node.Labels[key]
	return value, ok
}

// hear notes what the terms of a Pod on a node say of the cycle's own.
func (c *cycle) hear(t *together, node *corev1.Node, other *podInfo) {
	for i := range other.far {
		f := &other.far[i]
		if value, ok := node.Labels[f.key]; ok && f.matches(c.pod.pod, c.namespaceLabels) {
			t.repelled[domain{f.key, value}] = true
		}
	}
	c.like(t, node, other.prefers, c.pod.pod, 0)
	c.like(t, node, other.near, c.pod.pod, 1) // upstream's hardPodAffinityWeight
}

// like adds the weights of the terms that match a Pod to the node's domains.
func (c *cycle) like(t *together, node *corev1.Node, terms []term, pod *corev1.Pod, weight float64) {
	for i := range terms {
		if value, ok := node.Labels[terms[i].key]; ok && terms[i].matches(pod, c.namespaceLabels) {
			t.liked[domain{terms[i].key, value}] += terms[i].weight + weight
		}
	}
}

func (c *cycle) matchesAll(terms []term, pod *corev1.Pod) bool {
	for i := range terms {
		if !terms[i].matches(pod, c.namespaceLabels) {
			return false
		}
	}
	return true
}

func apart(c *cycle, n *nodeInfo) {
	t := c.together
	if t == nil {
		return
	}
	if !t.hasNear(c, n.node) {
		c.no("node(s) didn't match pod affinity rules")
		c.hopeless = true
		return
	}
	for i := range c.pod.far {
		if value, ok := n.node.Labels[c.pod.far[i].key]; ok && t.farHas[i][value] {
			c.no("node(s) didn't match pod anti-affinity rules")
			return
		}
	}
	if len(t.repelled) == 0 {
		return
	}
	for key, value := range n.node.Labels {
		if t.repelled[domain{key, value}] {
			c.no("node(s) didn't satisfy existing pods anti-affinity rules")
			return
		}
	}
}

// hasNear says whether the Pods that must be near are. The first of a group
// that wants to be near itself may go anywhere that has the labels.
func (t *together) hasNear(c *cycle, node *corev1.Node) bool {
	satisfied := true
	for i := range c.pod.near {
		value, ok := node.Labels[c.pod.near[i].key]
		if !ok {
			return false
		}
		satisfied = satisfied && t.nearHas[i][value]
	}
	return satisfied || !t.anywhere && c.matchesAll(c.pod.near, c.pod.pod)
}

// liking is the sum of what is liked about a node.
func liking(c *cycle, n *nodeInfo) float64 {
	sum := 0.0
	if c.together == nil || len(c.together.liked) == 0 {
		return sum
	}
	for key, value := range n.node.Labels {
		sum += c.together.liked[domain{key, value}]
	}
	return sum
}
