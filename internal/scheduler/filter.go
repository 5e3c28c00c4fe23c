package scheduler

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/kind"
)

// change is a set of things that can happen in a cluster and make a Pod fit
// that did not.
type change uint8

const (
	nodeChanged change = 1 << iota // labels, taints, cordon, features, or a new node
	nodeGrew                       // allocatable
	nodeLeft
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
	// others says that the Pods of other nodes matter, too.
	others bool
	// object appends upstream's words for what is in the way to c.reasons, and
	// sets c.hopeless where even fewer Pods would not help.
	object func(c *cycle, n *nodeInfo)
}

// filters are asked in this order, and the first that objects ends the matter
// for a node: what costs least and rules out most comes first, as upstream.
var filters = [...]filter{
	{name: "NodeUnschedulable", helps: nodeChanged, object: unschedulable},
	{name: "NodeName", helps: nodeChanged, object: otherNode},
	{name: "TaintToleration", helps: nodeChanged, object: untolerated},
	{name: "NodeAffinity", helps: nodeChanged, object: unwanted},
	{name: "NodePorts", helps: podLeft | nodeChanged, preemptible: true, object: portsTaken},
	{name: "NodeResourcesFit", helps: podLeft | nodeGrew | nodeChanged, preemptible: true, object: insufficient},
	{name: "PodTopologySpread", helps: podLeft | podArrived | nodeChanged | nodeLeft, preemptible: true, others: true, object: skewed},
	{name: "InterPodAffinity", helps: podLeft | podArrived | nodeChanged, preemptible: true, others: true, object: apart},
	{name: "NodeDeclaredFeatures", helps: nodeChanged, object: incapable},
}

func (c *cycle) no(reason string) { c.reasons = append(c.reasons, reason) }

func unschedulable(c *cycle, n *nodeInfo) {
	if !n.cordoned {
		return
	}
	taint := corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}
	if !tolerated(c.pod.pod.Spec.Tolerations, &taint) {
		c.no("node(s) were unschedulable")
	}
}

func otherNode(c *cycle, n *nodeInfo) {
	if name := c.pod.pod.Spec.NodeName; name != "" && name != n.name {
		c.no("node(s) didn't match the requested node name")
	}
}

func untolerated(c *cycle, n *nodeInfo) {
	if !n.toleratedBy(c.pod.pod) {
		c.no("node(s) had untolerated taint(s)")
	}
}

func (n *nodeInfo) toleratedBy(pod *corev1.Pod) bool {
	for i := range n.taints {
		if !tolerated(pod.Spec.Tolerations, &n.taints[i]) {
			return false
		}
	}
	return true
}

func tolerated(tolerations []corev1.Toleration, taint *corev1.Taint) bool {
	for i := range tolerations {
		if kind.Tolerates(&tolerations[i], taint) {
			return true
		}
	}
	return false
}

func unwanted(c *cycle, n *nodeInfo) {
	if !c.wanted(n) {
		c.no("node(s) didn't match Pod's node affinity/selector")
	}
}

func (c *cycle) wanted(n *nodeInfo) bool {
	for key, value := range c.pod.pod.Spec.NodeSelector {
		if has, ok := n.node.Labels[key]; !ok || has != value {
			return false
		}
	}
	if c.pod.wants == nil {
		return true
	}
	ok, err := c.pod.wants.Match(n.node)
	return ok && err == nil
}

// incapable objects to a node that does not say it has what the Pod needs (KEP-5328).
func incapable(c *cycle, n *nodeInfo) {
	for _, name := range c.pod.features {
		if !slices.Contains(n.node.Status.DeclaredFeatures, name) {
			c.no("node(s) didn't match Pod's required features")
			return
		}
	}
}

func portsTaken(c *cycle, n *nodeInfo) {
	for _, p := range c.pod.ports {
		for taken := range n.ports {
			if p.clashes(taken) {
				c.no("node(s) didn't have free ports for the requested pod ports")
				return
			}
		}
	}
}

func insufficient(c *cycle, n *nodeInfo) {
	if len(n.pods)+1 > n.maxPods {
		c.no("Too many pods")
	}
	asked := &c.pod.asked
	c.lacks("Insufficient cpu", asked.cpu, n.allocatable.cpu, n.asked.cpu)
	c.lacks("Insufficient memory", asked.memory, n.allocatable.memory, n.asked.memory)
	c.lacks("Insufficient ephemeral-storage", asked.ephemeral, n.allocatable.ephemeral, n.asked.ephemeral)
	for name, amount := range asked.other {
		c.lacks("Insufficient "+string(name), amount, n.allocatable.other[name], n.asked.other[name])
	}
}

// lacks objects where more is asked than is free; more than there is at all is
// beyond help.
func (c *cycle) lacks(reason string, asked, all, taken int64) {
	if asked > 0 && asked > all-taken {
		c.no(reason)
		c.hopeless = c.hopeless || asked > all
	}
}
