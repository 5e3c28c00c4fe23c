package scheduler

import (
	"math"
	"math/rand/v2"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// best is what a node can get from one score.
const best = 100

// scale says how what a score finds becomes a value between 0 and best.
type scale uint8

const (
	asItIs scale = iota
	most         // as a share of what the best node of the cycle has
	least        // the less the better
	within       // by its place between the lowest and the highest
)

// score is a reason to prefer a node.
type score struct {
	name   string
	weight float64
	scale  scale
	raw    func(c *cycle, n *nodeInfo) float64
}

// scores and their weights are upstream's defaults.
var scores = [...]score{
	{"TaintToleration", 3, least, preferredAway},
	{"NodeAffinity", 2, most, preferred},
	{"PodTopologySpread", 2, least, crowding},
	{"InterPodAffinity", 2, within, liking},
	{"NodeResourcesFit", 1, asItIs, free},
	{"NodeResourcesBalancedAllocation", 1, asItIs, balanced},
	{"ImageLocality", 1, asItIs, present},
}

func preferredAway(c *cycle, n *nodeInfo) float64 {
	count := 0
	for i := range n.softTaints {
		if !tolerated(c.pod.pod.Spec.Tolerations, &n.softTaints[i]) {
			count++
		}
	}
	return float64(count)
}

func preferred(c *cycle, n *nodeInfo) float64 {
	if c.pod.likes == nil {
		return 0
	}
	return float64(c.pod.likes.Score(n.node))
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

// The bounds between which images that are there count, as upstream's.
const (
	smallImage = 23 << 20
	largeImage = 1000 << 20 // for each container
)

// present tells how much of the Pod's images need not be pulled. An image that
// few nodes have counts less, or all its Pods would go there.
func present(c *cycle, n *nodeInfo) float64 {
	if len(n.images) == 0 {
		return 0
	}
	sum, containers := int64(0), int64(0)
	for _, list := range [][]corev1.Container{c.pod.pod.Spec.InitContainers, c.pod.pod.Spec.Containers} {
		for i := range list {
			containers++
			name := tagged(list[i].Image)
			if size, ok := n.images[name]; ok {
				sum += int64(float64(size) * float64(c.cluster.images[name]) / float64(len(c.cluster.nodes)))
			}
		}
	}
	limit := largeImage * containers
	return best * float64(min(max(sum, smallImage), limit)-smallImage) / float64(limit-smallImage)
}

func tagged(image string) string {
	if strings.LastIndexByte(image, ':') <= strings.LastIndexByte(image, '/') {
		return image + ":latest"
	}
	return image
}

// choose returns the best of the nodes. Equal ones draw lots, so that Pods
// spread.
func (c *cycle) choose(fitting []*nodeInfo) *nodeInfo {
	if len(fitting) == 1 {
		return fitting[0]
	}
	c.soft = c.newConstraints(corev1.ScheduleAnyway)
	totals := make([]float64, len(fitting))
	raw := make([]float64, len(fitting))
	for i := range scores {
		s := &scores[i]
		low, high := math.Inf(1), math.Inf(-1)
		for i, n := range fitting {
			raw[i] = s.raw(c, n)
			low = min(low, raw[i])
			if !math.IsInf(raw[i], 1) {
				high = max(high, raw[i])
			}
		}
		for i := range fitting {
			totals[i] += s.weight * s.value(raw[i], low, high)
		}
	}
	winner, equal := 0, 1
	for i := 1; i < len(fitting); i++ {
		switch {
		case totals[i] > totals[winner]:
			winner, equal = i, 1
		case totals[i] == totals[winner]:
			if equal++; rand.IntN(equal) == 0 {
				winner = i
			}
		}
	}
	return fitting[winner]
}

// value scales what a score found; low and high are of all nodes that fit.
func (s *score) value(raw, low, high float64) float64 {
	switch s.scale {
	case most:
		if high <= 0 {
			return 0
		}
		return best * raw / high
	case least:
		switch {
		case math.IsInf(raw, 1):
			return 0
		case high <= 0:
			return best
		}
		return best * (high - raw) / high
	case within:
		if high <= low {
			return 0
		}
		return best * (raw - low) / (high - low)
	}
	return raw
}
