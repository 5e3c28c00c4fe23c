package scheduler

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Cluster is what a decision is made from: the nodes and the Pods that are, or
// are about to be, on them. It belongs to one goroutine.
type Cluster struct {
	byName map[string]*nodeInfo
	nodes  []*nodeInfo // those that exist, by name
	first  int         // where the next decision begins to look
	// affine are the nodes with Pods that have a say in where others go: where
	// there are none, that costs nothing.
	affine   map[*nodeInfo]struct{}
	images   map[string]int // on how many nodes each is
	families map[string]*family
	where    map[types.UID]placed
}

// placed is where a Pod is.
type placed struct {
	node *nodeInfo
	info *podInfo
}

// nodeInfo is a node with what is on it. node is nil while Pods name a node
// that does not exist.
type nodeInfo struct {
	name string
	node *corev1.Node
	// What most decisions ask of the node, near at hand.
	cordoned    bool
	taints      []corev1.Taint // hard ones
	softTaints  []corev1.Taint
	allocatable resources
	maxPods     int
	images      map[string]int64 // bytes, by every name of an image
	asked       resources
	counted     resources
	pods        map[types.UID]*podInfo
	affine      map[types.UID]*podInfo // those with affinity terms
	owners      map[types.UID]int      // Pods that stay, by what controls them
	ports       map[hostPort]int       // how many Pods have each
}

// NewCluster returns a cluster without nodes.
func NewCluster() *Cluster {
	return &Cluster{
		byName: map[string]*nodeInfo{}, affine: map[*nodeInfo]struct{}{},
		images: map[string]int{}, families: map[string]*family{}, where: map[types.UID]placed{},
	}
}

func compareNames(n *nodeInfo, name string) int { return strings.Compare(n.name, name) }

// SetNode adds a node or takes in its new state.
func (c *Cluster) SetNode(node *corev1.Node) {
	info := c.info(node.Name)
	if info.node == nil {
		i, _ := slices.BinarySearchFunc(c.nodes, node.Name, compareNames)
		c.nodes = slices.Insert(c.nodes, i, info)
	}
	info.node = node
	info.cordoned, info.taints, info.softTaints = node.Spec.Unschedulable, nil, nil
	for _, t := range node.Spec.Taints {
		if t.Effect == corev1.TaintEffectPreferNoSchedule {
			info.softTaints = append(info.softTaints, t)
		} else {
			info.taints = append(info.taints, t)
		}
	}
	info.allocatable = newResources(node.Status.Allocatable)
	pods := node.Status.Allocatable[corev1.ResourcePods]
	info.maxPods = int(pods.Value())
	c.setImages(info, node.Status.Images)
}

func (c *Cluster) setImages(info *nodeInfo, images []corev1.ContainerImage) {
	for name := range info.images {
		if c.images[name]--; c.images[name] == 0 {
			delete(c.images, name)
		}
	}
	info.images = nil
	for _, image := range images {
		for _, name := range image.Names {
			if info.images == nil {
				info.images = map[string]int64{}
			}
			if _, twice := info.images[name]; !twice {
				c.images[name]++
			}
			info.images[name] = image.SizeBytes
		}
	}
}

// RemoveNode removes a node; what is on it stays known until it goes.
func (c *Cluster) RemoveNode(name string) {
	info, ok := c.byName[name]
	if !ok || info.node == nil {
		return
	}
	info.node = nil
	c.setImages(info, nil)
	if i, found := slices.BinarySearchFunc(c.nodes, name, compareNames); found {
		c.nodes = slices.Delete(c.nodes, i, i+1)
	}
	c.drop(info)
}

// Place notes that a Pod is, or will be, on a node.
func (c *Cluster) Place(pod *corev1.Pod, node string) {
	before, known := c.where[pod.UID]
	if known && before.node.name == node && before.info.same(pod) {
		// Only the status is news, of most Pods many times.
		c.count(before.node, before.info, -1)
		before.info.pod = pod
		c.count(before.node, before.info, 1)
		return
	}
	c.place(newPodInfo(pod), node)
}

func (c *Cluster) place(p *podInfo, node string) {
	c.Remove(p.pod.UID)
	info := c.info(node)
	info.pods[p.pod.UID] = p
	info.asked.add(p.asked, 1)
	info.counted.add(p.counted, 1)
	c.count(info, p, 1)
	for _, port := range p.ports {
		info.ports[port]++
	}
	if p.affine() {
		info.affine[p.pod.UID] = p
		c.affine[info] = struct{}{}
	}
	c.where[p.pod.UID] = placed{node: info, info: p}
}

// Remove forgets a Pod and returns the node that it was on, nil if none.
func (c *Cluster) Remove(uid types.UID) *nodeInfo {
	at, ok := c.where[uid]
	if !ok {
		return nil
	}
	info := at.node
	delete(info.pods, uid)
	info.asked.add(at.info.asked, -1)
	info.counted.add(at.info.counted, -1)
	c.count(info, at.info, -1)
	for _, port := range at.info.ports {
		if info.ports[port]--; info.ports[port] == 0 {
			delete(info.ports, port)
		}
	}
	delete(info.affine, uid)
	if len(info.affine) == 0 {
		delete(c.affine, info)
	}
	delete(c.where, uid)
	c.drop(info)
	return info
}

// count adds a Pod to its family, and one that stays to those of its owner.
func (c *Cluster) count(n *nodeInfo, p *podInfo, by int) {
	c.join(p, n, by)
	if p.owner == "" || p.pod.DeletionTimestamp != nil {
		return
	}
	if n.owners[p.owner] += by; n.owners[p.owner] == 0 {
		delete(n.owners, p.owner)
	}
}

func (c *Cluster) info(name string) *nodeInfo {
	info, ok := c.byName[name]
	if !ok {
		info = &nodeInfo{
			name: name, pods: map[types.UID]*podInfo{}, affine: map[types.UID]*podInfo{},
			owners: map[types.UID]int{}, ports: map[hostPort]int{},
		}
		c.byName[name] = info
	}
	return info
}

func (c *Cluster) drop(info *nodeInfo) {
	if info.node == nil && len(info.pods) == 0 {
		delete(c.byName, info.name)
	}
}
