package scheduler

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Plan is the decision for one Pod: the node it goes to, or why there is none.
type Plan struct {
	Node    string
	Message string // upstream's words, for the event and the Pod's condition
	helps   change // after which another try makes sense
	others  bool   // and that on any node
}

// cycle is the decision for one Pod while it is made.
type cycle struct {
	cluster         *Cluster
	pod             *podInfo
	namespaceLabels func(string) labels.Set

	constraints []constraint // hard ones
	soft        []constraint
	together    *together

	// What the filter that was asked last says.
	reasons  []string
	hopeless bool
}

// Plan decides where a Pod goes. It changes nothing but the node at which the
// next decision begins to look. namespaceLabels is asked where the Pod's
// affinity selects namespaces.
func (c *Cluster) Plan(pod *corev1.Pod, namespaceLabels func(string) labels.Set) Plan {
	return c.plan(newPodInfo(pod), namespaceLabels)
}

func (c *Cluster) plan(pod *podInfo, namespaceLabels func(string) labels.Set) Plan {
	if len(c.nodes) == 0 {
		return Plan{Message: "no nodes available to schedule pods", helps: nodeChanged, others: true}
	}
	cy := &cycle{cluster: c, pod: pod, namespaceLabels: namespaceLabels}
	cy.constraints = cy.newConstraints(corev1.DoNotSchedule)
	cy.together = cy.newTogether()
	enough := enough(len(c.nodes))
	fitting := make([]*nodeInfo, 0, enough)
	var failed failures
	at := c.first % len(c.nodes)
	for range c.nodes {
		n := c.nodes[at]
		if at++; at == len(c.nodes) {
			at = 0
		}
		if f := cy.check(n, filters[:]); f != nil {
			failed.add(f, cy)
			continue
		}
		if fitting = append(fitting, n); len(fitting) == enough {
			break
		}
	}
	c.first = at
	if len(fitting) == 0 {
		return failed.plan(len(c.nodes), pod.pod)
	}
	return Plan{Node: cy.choose(fitting).name}
}

// enough is how many fitting nodes are compared, by upstream's rule: all of
// some, a falling share of many.
func enough(nodes int) int {
	const least = 100
	if nodes < least {
		return nodes
	}
	return max(least, nodes*max(5, 50-nodes/125)/100)
}

// check returns the first of the filters that objects to the node, with its
// reasons in the cycle.
func (c *cycle) check(n *nodeInfo, filters []filter) *filter {
	c.reasons, c.hopeless = c.reasons[:0], false
	for i := range filters {
		if filters[i].object(c, n); len(c.reasons) > 0 {
			return &filters[i]
		}
	}
	return nil
}

// mayFit says whether nothing on the node itself is in the way of a Pod.
func (c *Cluster) mayFit(pod *podInfo, n *nodeInfo) bool {
	cy := &cycle{cluster: c, pod: pod}
	f := cy.check(n, filters[:])
	return f == nil || f.others
}

// tally is how often something was said.
type tally struct {
	reason string
	n      int
}

// failures counts why nodes were ruled out.
type failures struct {
	counts      []tally // few
	preemptible int
	helps       change
	others      bool
}

func (f *failures) add(by *filter, c *cycle) {
	for _, r := range c.reasons {
		f.count(r)
	}
	if by.preemptible && !c.hopeless {
		f.preemptible++
	}
	f.helps |= by.helps
	f.others = f.others || by.others
}

func (f *failures) count(reason string) {
	for i := range f.counts {
		if f.counts[i].reason == reason {
			f.counts[i].n++
			return
		}
	}
	f.counts = append(f.counts, tally{reason, 1})
}

// plan words the failure as upstream does. Nothing is preempted yet, so no
// victims are ever found.
func (f *failures) plan(nodes int, pod *corev1.Pod) Plan {
	available := fmt.Sprintf("0/%d nodes are available: ", nodes)
	preemption := "not eligible due to preemptionPolicy=Never."
	if policy := pod.Spec.PreemptionPolicy; policy == nil || *policy != corev1.PreemptNever {
		var why []tally
		if f.preemptible > 0 {
			why = append(why, tally{"No preemption victims found for incoming pod", f.preemptible})
		}
		if rest := nodes - f.preemptible; rest > 0 {
			why = append(why, tally{"Preemption is not helpful for scheduling", rest})
		}
		preemption = available + counted(why) + "."
	}
	return Plan{
		Message: available + counted(f.counts) + ". no new claims to deallocate, preemption: " + preemption,
		helps:   f.helps, others: f.others,
	}
}

// counted returns "1 Insufficient cpu, 2 Too many pods", sorted.
func counted(counts []tally) string {
	var parts []string
	for _, t := range counts {
		parts = append(parts, fmt.Sprintf("%d %s", t.n, t.reason))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}
