package scheduler

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// change is a set of things that can happen in a cluster and make a Pod fit
// that did not.
type change uint8

const (
	nodeChanged change = 1 << iota // labels, taints, cordon, or a new node
	nodeGrew                       // allocatable
	podLeft
	podArrived // or changed its labels
)

// filter is a reason why a Pod cannot run on a node.
type filter struct {
	name string
	// helps are the changes after which another try makes sense.
	helps change
	// preemptible says that fewer Pods on the node would help.
	preemptible bool
	// reasons returns upstream's words for what is in the way, none if nothing is.
	reasons func(c *cycle, n *nodeInfo) []string
}

// filters are asked in this order, and the first that objects ends the matter
// for a node: what costs least and rules out most comes first, as upstream.
var filters = []filter{
	{"NodeUnschedulable", nodeChanged, false, unschedulable},
	{"NodeName", nodeChanged, false, otherNode},
	{"TaintToleration", nodeChanged, false, untolerated},
	{"NodeAffinity", nodeChanged, false, unwanted},
	{"NodePorts", podLeft | nodeChanged, true, portsTaken},
	{"NodeResourcesFit", podLeft | nodeGrew | nodeChanged, true, insufficient},
	{"PodTopologySpread", podLeft | podArrived | nodeChanged, true, skewed},
	{"InterPodAffinity", podLeft | podArrived | nodeChanged, true, apart},
}

func unschedulable(c *cycle, n *nodeInfo) []string {
	taint := corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}
	if n.node.Spec.Unschedulable && !tolerated(c.pod.pod.Spec.Tolerations, &taint) {
		return []string{"node(s) were unschedulable"}
	}
	return nil
}

func otherNode(c *cycle, n *nodeInfo) []string {
	if name := c.pod.pod.Spec.NodeName; name != "" && name != n.node.Name {
		return []string{"node(s) didn't match the requested node name"}
	}
	return nil
}

func untolerated(c *cycle, n *nodeInfo) []string {
	for i := range n.node.Spec.Taints {
		t := &n.node.Spec.Taints[i]
		if t.Effect != corev1.TaintEffectPreferNoSchedule && !tolerated(c.pod.pod.Spec.Tolerations, t) {
			return []string{"node(s) had untolerated taint(s)"}
		}
	}
	return nil
}

func tolerated(tolerations []corev1.Toleration, taint *corev1.Taint) bool {
	for i := range tolerations {
		t := &tolerations[i]
		if t.Effect != "" && t.Effect != taint.Effect || t.Key != "" && t.Key != taint.Key {
			continue
		}
		switch t.Operator {
		case "", corev1.TolerationOpEqual:
			if t.Value == taint.Value {
				return true
			}
		case corev1.TolerationOpExists:
			return true
		}
	}
	return false
}

func unwanted(c *cycle, n *nodeInfo) []string {
	if c.wants == nil {
		return nil
	}
	if ok, err := c.wants.Match(n.node); err != nil || !ok {
		return []string{"node(s) didn't match Pod's node affinity/selector"}
	}
	return nil
}

// requiredAffinity returns the Pod's selector and required affinity, nil if it
// has none.
func requiredAffinity(pod *corev1.Pod) *nodeaffinity.RequiredNodeAffinity {
	affinity := pod.Spec.Affinity
	if len(pod.Spec.NodeSelector) == 0 && (affinity == nil || affinity.NodeAffinity == nil ||
		affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil) {
		return nil
	}
	r := nodeaffinity.GetRequiredNodeAffinity(pod)
	return &r
}

func portsTaken(c *cycle, n *nodeInfo) []string {
	if len(c.pod.ports) == 0 {
		return nil
	}
	for _, other := range n.pods {
		for _, taken := range other.ports {
			for _, p := range c.pod.ports {
				if p.clashes(taken) {
					return []string{"node(s) didn't have free ports for the requested pod ports"}
				}
			}
		}
	}
	return nil
}

func (p hostPort) clashes(o hostPort) bool {
	return p.protocol == o.protocol && p.port == o.port &&
		(p.ip == o.ip || p.ip == "0.0.0.0" || o.ip == "0.0.0.0")
}

func insufficient(c *cycle, n *nodeInfo) []string {
	var reasons []string
	if len(n.pods)+1 > n.maxPods {
		reasons = append(reasons, "Too many pods")
	}
	asked := c.pod.asked
	if asked.cpu > 0 && asked.cpu > n.allocatable.cpu-n.asked.cpu {
		reasons = append(reasons, "Insufficient cpu")
	}
	if asked.memory > 0 && asked.memory > n.allocatable.memory-n.asked.memory {
		reasons = append(reasons, "Insufficient memory")
	}
	if asked.ephemeral > 0 && asked.ephemeral > n.allocatable.ephemeral-n.asked.ephemeral {
		reasons = append(reasons, "Insufficient ephemeral-storage")
	}
	for name, amount := range asked.other {
		if amount > n.allocatable.other[name]-n.asked.other[name] {
			reasons = append(reasons, "Insufficient "+strings.TrimSpace(string(name)))
		}
	}
	return reasons
}
