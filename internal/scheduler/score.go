package scheduler

import (
	"hash/fnv"
	"math"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// best is what a node can get from one score.
const best = 100

// score is a reason to prefer a node. raw's results are scaled so that the
// best node of the cycle gets the most, where scaled is set.
type score struct {
	name   string
	weight float64
	scaled bool
	least  bool // small raw values are good
	raw    func(c *cycle, n *nodeInfo) float64
}

// scores and their weights are upstream's defaults.
var scores = []score{
	{"TaintToleration", 3, true, true, preferredAway},
	{"NodeAffinity", 2, true, false, preferred},
	{"PodTopologySpread", 2, true, true, siblings},
	{"LeastAllocated", 1, false, false, free},
	{"BalancedAllocation", 1, false, false, balanced},
}

func preferredAway(c *cycle, n *nodeInfo) float64 {
	count := 0
	for i := range n.node.Spec.Taints {
		t := &n.node.Spec.Taints[i]
		if t.Effect == corev1.TaintEffectPreferNoSchedule && !tolerated(c.pod.pod.Spec.Tolerations, t) {
			count++
		}
	}
	return float64(count)
}

func preferred(c *cycle, n *nodeInfo) float64 {
	if c.likes == nil {
		return 0
	}
	return float64(c.likes.Score(n.node))
}

func preferredTerms(pod *corev1.Pod) *nodeaffinity.PreferredSchedulingTerms {
	a := pod.Spec.Affinity
	if a == nil || a.NodeAffinity == nil || len(a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution) == 0 {
		return nil
	}
	terms, err := nodeaffinity.NewPreferredSchedulingTerms(a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
	if err != nil {
		return nil
	}
	return terms
}

// siblings counts Pods of the same controller on the node.
func siblings(c *cycle, n *nodeInfo) float64 {
	owner := ownerOf(c.pod.pod)
	if owner == "" {
		return 0
	}
	count := 0
	for _, other := range n.pods {
		if other.pod.DeletionTimestamp == nil && ownerOf(other.pod) == owner {
			count++
		}
	}
	return float64(count)
}

func ownerOf(pod *corev1.Pod) types.UID {
	if ref := metav1.GetControllerOfNoCopy(pod); ref != nil {
		return ref.UID
	}
	return ""
}

// free is the share of CPU and memory that would be left.
func free(c *cycle, n *nodeInfo) float64 {
	return (left(n.allocatable.cpu, n.counted.cpu+c.pod.counted.cpu) +
		left(n.allocatable.memory, n.counted.memory+c.pod.counted.memory)) / 2 * best
}

func left(all, used int64) float64 {
	if all <= 0 || used > all {
		return 0
	}
	return float64(all-used) / float64(all)
}

// balanced is high where CPU and memory would be used to the same degree.
func balanced(c *cycle, n *nodeInfo) float64 {
	cpu := 1 - left(n.allocatable.cpu, n.asked.cpu+c.pod.asked.cpu)
	memory := 1 - left(n.allocatable.memory, n.asked.memory+c.pod.asked.memory)
	return (1 - math.Abs(cpu-memory)/2) * best
}

// choose returns the best of the nodes. Equal ones are told apart by a hash of
// Pod and node, so that Pods spread and a decision can be repeated.
func (c *cycle) choose(fitting []*nodeInfo) *nodeInfo {
	if len(fitting) == 1 {
		return fitting[0]
	}
	totals := make([]float64, len(fitting))
	raw := make([]float64, len(fitting))
	for _, s := range scores {
		most := 0.0
		for i, n := range fitting {
			raw[i] = s.raw(c, n)
			most = max(most, raw[i])
		}
		for i := range fitting {
			totals[i] += s.weight * s.value(raw[i], most)
		}
	}
	winner := 0
	for i := range fitting {
		if totals[i] > totals[winner] || totals[i] == totals[winner] && c.lot(fitting[i]) > c.lot(fitting[winner]) {
			winner = i
		}
	}
	return fitting[winner]
}

func (s score) value(raw, most float64) float64 {
	switch {
	case !s.scaled:
		return raw
	case most == 0 && s.least:
		return best
	case most == 0:
		return 0
	case s.least:
		return best * (most - raw) / most
	}
	return best * raw / most
}

func (c *cycle) lot(n *nodeInfo) uint32 {
	h := fnv.New32a()
	h.Write([]byte(c.pod.pod.UID))
	h.Write([]byte(n.node.Name))
	return h.Sum32()
}
