package scheduler

import (
	"math"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// constraint is a hard topology spread constraint (KEP-895) with the Pods that
// count for it.
type constraint struct {
	key     string
	maxSkew int
	least   int // matching Pods in the emptiest domain
	self    int // 1 if the Pod itself counts
	counts  map[string]int
}

func (c *cycle) newConstraints() []constraint {
	var list []constraint
	for _, t := range c.pod.pod.Spec.TopologySpreadConstraints {
		if t.WhenUnsatisfiable == corev1.DoNotSchedule {
			list = append(list, c.newConstraint(t))
		}
	}
	return list
}

func (c *cycle) newConstraint(t corev1.TopologySpreadConstraint) constraint {
	pod := c.pod.pod
	selector, err := metav1.LabelSelectorAsSelector(withKeys(t.LabelSelector, pod.Labels, t.MatchLabelKeys, nil))
	if err != nil {
		selector = labels.Nothing()
	}
	k := constraint{key: t.TopologyKey, maxSkew: int(t.MaxSkew), counts: map[string]int{}}
	if selector.Matches(labels.Set(pod.Labels)) {
		k.self = 1
	}
	for _, name := range c.cluster.names {
		n := c.cluster.nodes[name]
		value, ok := n.node.Labels[t.TopologyKey]
		if !ok || !c.counts(t, n) {
			continue
		}
		for _, other := range n.pods {
			if other.pod.Namespace == pod.Namespace && other.pod.DeletionTimestamp == nil && selector.Matches(labels.Set(other.pod.Labels)) {
				k.counts[value]++
			}
		}
		k.counts[value] += 0 // the domain exists
	}
	k.least = math.MaxInt
	for _, n := range k.counts {
		k.least = min(k.least, n)
	}
	if t.MinDomains != nil && len(k.counts) < int(*t.MinDomains) || len(k.counts) == 0 {
		k.least = 0
	}
	return k
}

// counts says whether a node's Pods count, by the constraint's policies.
func (c *cycle) counts(t corev1.TopologySpreadConstraint, n *nodeInfo) bool {
	if t.NodeAffinityPolicy == nil || *t.NodeAffinityPolicy == corev1.NodeInclusionPolicyHonor {
		if len(unwanted(c, n)) > 0 {
			return false
		}
	}
	if t.NodeTaintsPolicy != nil && *t.NodeTaintsPolicy == corev1.NodeInclusionPolicyHonor {
		return len(untolerated(c, n)) == 0
	}
	return true
}

func skewed(c *cycle, n *nodeInfo) []string {
	for _, k := range c.constraints {
		value, ok := n.node.Labels[k.key]
		if !ok {
			return []string{"node(s) didn't match pod topology spread constraints (missing required label)"}
		}
		if k.counts[value]+k.self-k.least > k.maxSkew {
			return []string{"node(s) didn't match pod topology spread constraints"}
		}
	}
	return nil
}
