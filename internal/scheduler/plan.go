package scheduler

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// Plan is the decision for one Pod: the node it goes to, or why there is none.
type Plan struct {
	Node    string
	Message string // upstream's words, for the event and the Pod's condition
	helps   change // after which another try makes sense
}

// cycle is the decision for one Pod while it is made.
type cycle struct {
	cluster         *Cluster
	pod             *podInfo
	namespaceLabels func(string) labels.Set

	wants       *nodeaffinity.RequiredNodeAffinity
	likes       *nodeaffinity.PreferredSchedulingTerms
	constraints []constraint
	together    *together
}

// Plan decides where a Pod goes. It changes nothing. namespaceLabels is asked
// where the Pod's affinity selects namespaces.
func (c *Cluster) Plan(pod *corev1.Pod, namespaceLabels func(string) labels.Set) Plan {
	if len(c.names) == 0 {
		return Plan{Message: "no nodes available to schedule pods", helps: nodeChanged}
	}
	cy := &cycle{
		cluster: c, pod: newPodInfo(pod), namespaceLabels: namespaceLabels,
		wants: requiredAffinity(pod), likes: preferredTerms(pod),
	}
	cy.constraints = cy.newConstraints()
	cy.together = cy.newTogether()
	var fitting []*nodeInfo
	var failed failures
	for _, name := range c.names {
		n := c.nodes[name]
		if f, reasons := cy.check(n); f != nil {
			failed.add(f, reasons)
			continue
		}
		fitting = append(fitting, n)
	}
	if len(fitting) == 0 {
		return failed.plan(len(c.names))
	}
	return Plan{Node: cy.choose(fitting).node.Name}
}

// check returns the first filter that objects to the node, with its reasons.
func (c *cycle) check(n *nodeInfo) (*filter, []string) {
	for i := range filters {
		if reasons := filters[i].reasons(c, n); len(reasons) > 0 {
			return &filters[i], reasons
		}
	}
	return nil, nil
}

// failures counts why nodes were ruled out.
type failures struct {
	counts      map[string]int
	preemptible int
	helps       change
}

func (f *failures) add(by *filter, reasons []string) {
	if f.counts == nil {
		f.counts = map[string]int{}
	}
	for _, r := range reasons {
		f.counts[r]++
	}
	if by.preemptible {
		f.preemptible++
	}
	f.helps |= by.helps
}

func (f *failures) plan(nodes int) Plan {
	preemption := map[string]int{}
	if f.preemptible > 0 {
		preemption["No preemption victims found for incoming pod."] = f.preemptible
	}
	if rest := nodes - f.preemptible; rest > 0 {
		preemption["Preemption is not helpful for scheduling."] = rest
	}
	available := fmt.Sprintf("0/%d nodes are available: ", nodes)
	message := available + counted(f.counts) + ". no new claims to deallocate, preemption: " +
		available + strings.ReplaceAll(counted(preemption), ".,", ",")
	return Plan{Message: message, helps: f.helps}
}

// counted returns "1 Insufficient cpu, 2 Too many pods", sorted.
func counted(counts map[string]int) string {
	var parts []string
	for reason, n := range counts {
		parts = append(parts, fmt.Sprintf("%d %s", n, reason))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}
