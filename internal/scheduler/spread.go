package scheduler

import (
	"math"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// spread is a topology spread constraint (KEP-895) that is ready to match.
type spread struct {
	*corev1.TopologySpreadConstraint
	selector labels.Selector
}

func newSpread(pod *corev1.Pod) []spread {
	var list []spread
	for i := range pod.Spec.TopologySpreadConstraints {
		t := &pod.Spec.TopologySpreadConstraints[i]
		selector, err := metav1.LabelSelectorAsSelector(withKeys(t.LabelSelector, pod.Labels, t.MatchLabelKeys, nil))
		if err != nil {
			selector = labels.Nothing()
		}
		list = append(list, spread{t, selector})
	}
	return list
}

// counts says whether a Pod counts for a constraint of pod.
func (s *spread) counts(pod, other *corev1.Pod) bool {
	return other.Namespace == pod.Namespace && other.DeletionTimestamp == nil && s.selector.Matches(labels.Set(other.Labels))
}

// constraint is a spread with the Pods that count for it.
type constraint struct {
	*spread
	least int // matching Pods in the emptiest domain
	self  int // 1 if the Pod itself counts
	in    map[string]int
}

// newConstraints counts for the Pod's constraints of one kind.
func (c *cycle) newConstraints(of corev1.UnsatisfiableConstraintAction) []constraint {
	var list []constraint
	for i := range c.pod.spread {
		if s := &c.pod.spread[i]; s.WhenUnsatisfiable == of {
			list = append(list, c.newConstraint(s))
		}
	}
	return list
}

func (c *cycle) newConstraint(s *spread) constraint {
	k := constraint{spread: s, in: map[string]int{}}
	if s.selector.Matches(labels.Set(c.pod.pod.Labels)) {
		k.self = 1
	}
	for _, n := range c.cluster.nodes {
		if value, ok := n.node.Labels[s.TopologyKey]; ok && c.includes(s, n) {
			k.in[value] += 0 // the domain exists
		}
	}
	for _, f := range c.cluster.families {
		if f.sample.Namespace != c.pod.pod.Namespace || !s.selector.Matches(labels.Set(f.sample.Labels)) {
			continue
		}
		for n, m := range f.on {
			if value, ok := n.label(s.TopologyKey); ok && c.includes(s, n) {
				k.in[value] += m.staying
			}
		}
	}
	k.least = math.MaxInt
	for _, n := range k.in {
		k.least = min(k.least, n)
	}
	if s.MinDomains != nil && len(k.in) < int(*s.MinDomains) || len(k.in) == 0 {
		k.least = 0
	}
	return k
}

// includes says whether a node's Pods count, by the constraint's policies and
// since a node without all the constraints' labels is none of theirs.
func (c *cycle) includes(s *spread, n *nodeInfo) bool {
	for i := range c.pod.spread {
		if o := &c.pod.spread[i]; o.WhenUnsatisfiable == s.WhenUnsatisfiable {
			if _, ok := n.node.Labels[o.TopologyKey]; !ok {
				return false
			}
		}
	}
	if s.NodeAffinityPolicy == nil || *s.NodeAffinityPolicy == corev1.NodeInclusionPolicyHonor {
		if !c.wanted(n) {
			return false
		}
	}
	return s.NodeTaintsPolicy == nil || *s.NodeTaintsPolicy != corev1.NodeInclusionPolicyHonor || n.toleratedBy(c.pod.pod)
}

func skewed(c *cycle, n *nodeInfo) {
	for i := range c.constraints {
		k := &c.constraints[i]
		value, ok := n.node.Labels[k.TopologyKey]
		if !ok {
			c.no("node(s) didn't match pod topology spread constraints (missing required label)")
			c.hopeless = true
			return
		}
		if k.in[value]+k.self-k.least > int(k.MaxSkew) {
			c.no("node(s) didn't match pod topology spread constraints")
			return
		}
	}
}

// crowding is what the Pod's soft constraints say of a node: how many of its
// kind are in the node's domains, where domains that are many weigh more.
// Without any, Pods of the same controller are spread over nodes.
func crowding(c *cycle, n *nodeInfo) float64 {
	if len(c.soft) == 0 {
		return float64(n.owners[c.pod.owner])
	}
	sum := 0.0
	for i := range c.soft {
		k := &c.soft[i]
		value, ok := n.node.Labels[k.TopologyKey]
		if !ok {
			return math.Inf(1)
		}
		sum += float64(k.in[value])*math.Log(float64(len(k.in)+2)) + float64(k.MaxSkew-1)
	}
	return sum
}
