package scheduler

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// family is all placed Pods of one namespace with the same labels. Selectors ask
// of each family once instead of each Pod: the Pods of a controller are one.
type family struct {
	key    string
	sample *corev1.Pod // of whom only namespace and labels matter
	on     map[*nodeInfo]members
}

// members are a family's Pods on one node, and those of them that stay.
type members struct{ all, staying int }

// familyKey is equal for Pods of one family. No label or namespace has these
// separators in it.
func familyKey(pod *corev1.Pod) string {
	var b strings.Builder
	b.WriteString(pod.Namespace)
	for _, key := range slices.Sorted(maps.Keys(pod.Labels)) {
		b.WriteString("\n" + key + "=" + pod.Labels[key])
	}
	return b.String()
}

// join adds a Pod to its family on a node, or with by -1 takes it out.
func (c *Cluster) join(p *podInfo, n *nodeInfo, by int) {
	f := c.families[p.family]
	if f == nil {
		f = &family{key: p.family, sample: p.pod, on: map[*nodeInfo]members{}}
		c.families[p.family] = f
	}
	m := f.on[n]
	m.all += by
	if p.pod.DeletionTimestamp == nil {
		m.staying += by
	}
	if m.all > 0 {
		f.on[n] = m
		return
	}
	if delete(f.on, n); len(f.on) == 0 {
		delete(c.families, p.family)
	}
}
