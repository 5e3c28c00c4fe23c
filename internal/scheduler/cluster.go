package scheduler

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Cluster is what a decision is made from: the nodes and the Pods that are, or
// are about to be, on them. It belongs to one goroutine.
type Cluster struct {
	nodes map[string]*nodeInfo
	names []string // of nodes that exist, sorted
	// antiAffine counts Pods that keep others away: where there are none, that
	// filter costs nothing.
	antiAffine int
	where      map[types.UID]placed
}

// placed is where a Pod is.
type placed struct {
	node string
	info *podInfo
}

// nodeInfo is a node with what is on it. node is nil while Pods name a node
// that does not exist.
type nodeInfo struct {
	node        *corev1.Node
	allocatable resources
	maxPods     int
	asked       resources
	counted     resources
	pods        map[types.UID]*podInfo
}

// podInfo is a Pod with what is computed of it once.
type podInfo struct {
	pod            *corev1.Pod
	asked, counted resources
	ports          []hostPort
}

type hostPort struct {
	protocol corev1.Protocol
	ip       string // "0.0.0.0" is every address
	port     int32
}

// NewCluster returns a cluster without nodes.
func NewCluster() *Cluster {
	return &Cluster{nodes: map[string]*nodeInfo{}, where: map[types.UID]placed{}}
}

func newPodInfo(pod *corev1.Pod) *podInfo {
	p := &podInfo{pod: pod, ports: hostPorts(pod)}
	p.asked, p.counted = requests(pod)
	return p
}

func hostPorts(pod *corev1.Pod) []hostPort {
	var list []hostPort
	for _, c := range slices.Concat(pod.Spec.Containers, sidecars(pod)) {
		for _, p := range c.Ports {
			if p.HostPort <= 0 {
				continue
			}
			h := hostPort{protocol: p.Protocol, ip: p.HostIP, port: p.HostPort}
			if h.ip == "" {
				h.ip = "0.0.0.0"
			}
			if h.protocol == "" {
				h.protocol = corev1.ProtocolTCP
			}
			list = append(list, h)
		}
	}
	return list
}

func sidecars(pod *corev1.Pod) []corev1.Container {
	var list []corev1.Container
	for _, c := range pod.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			list = append(list, c)
		}
	}
	return list
}

// SetNode adds a node or takes in its new state.
func (c *Cluster) SetNode(node *corev1.Node) {
	info := c.info(node.Name)
	if info.node == nil {
		i, _ := slices.BinarySearch(c.names, node.Name)
		c.names = slices.Insert(c.names, i, node.Name)
	}
	info.node = node
	info.allocatable = newResources(node.Status.Allocatable)
	pods := node.Status.Allocatable[corev1.ResourcePods]
	info.maxPods = int(pods.Value())
}

// RemoveNode removes a node; what is on it stays known until it goes.
func (c *Cluster) RemoveNode(name string) {
	info, ok := c.nodes[name]
	if !ok || info.node == nil {
		return
	}
	info.node = nil
	if i, found := slices.BinarySearch(c.names, name); found {
		c.names = slices.Delete(c.names, i, i+1)
	}
	c.drop(name)
}

// Place notes that a Pod is, or will be, on a node.
func (c *Cluster) Place(pod *corev1.Pod, node string) {
	c.Remove(pod.UID)
	p := newPodInfo(pod)
	info := c.info(node)
	info.pods[pod.UID] = p
	info.asked.add(p.asked, 1)
	info.counted.add(p.counted, 1)
	c.where[pod.UID] = placed{node: node, info: p}
	if len(antiAffinity(pod)) > 0 {
		c.antiAffine++
	}
}

// Remove forgets a Pod and reports whether it was known.
func (c *Cluster) Remove(uid types.UID) bool {
	at, ok := c.where[uid]
	if !ok {
		return false
	}
	info := c.nodes[at.node]
	delete(info.pods, uid)
	info.asked.add(at.info.asked, -1)
	info.counted.add(at.info.counted, -1)
	delete(c.where, uid)
	if len(antiAffinity(at.info.pod)) > 0 {
		c.antiAffine--
	}
	c.drop(at.node)
	return true
}

func (c *Cluster) info(name string) *nodeInfo {
	info, ok := c.nodes[name]
	if !ok {
		info = &nodeInfo{pods: map[types.UID]*podInfo{}}
		c.nodes[name] = info
	}
	return info
}

func (c *Cluster) drop(name string) {
	if info := c.nodes[name]; info.node == nil && len(info.pods) == 0 {
		delete(c.nodes, name)
	}
}
