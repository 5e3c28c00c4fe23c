package scheduler

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"github.com/skiff-sh/skiff/internal/kind"
)

// podInfo is a Pod with what is computed of it once.
type podInfo struct {
	pod            *corev1.Pod
	asked, counted resources
	ports          []hostPort
	owner          types.UID
	family         string

	wants     *nodeaffinity.RequiredNodeAffinity // nil: all that its selector wants
	likes     *nodeaffinity.PreferredSchedulingTerms
	near, far []term // required
	prefers   []term // of either kind, with weights
	spread    []spread
	features  []string // that its node must say it has
}

type hostPort struct {
	protocol corev1.Protocol
	ip       string // "0.0.0.0" is every address
	port     int32
}

func newPodInfo(pod *corev1.Pod) *podInfo {
	p := &podInfo{
		pod: pod, ports: hostPorts(pod), family: familyKey(pod),
		wants: requiredAffinity(pod), likes: preferredTerms(pod), spread: newSpread(pod),
	}
	if kind.MayRestartAll(&pod.Spec) {
		p.features = []string{kind.RestartsAll}
	}
	p.asked, p.counted = requests(pod)
	if ref := metav1.GetControllerOfNoCopy(pod); ref != nil {
		p.owner = ref.UID
	}
	p.terms()
	return p
}

// same says whether all that is computed of the Pod holds for its new state.
func (p *podInfo) same(pod *corev1.Pod) bool {
	if p.pod.Generation != pod.Generation || !maps.Equal(p.pod.Labels, pod.Labels) {
		return false
	}
	asked, _ := requests(pod) // a resize is under way or over
	return asked.equal(p.asked)
}

// affine says whether the Pod has a say in where others go.
func (p *podInfo) affine() bool { return len(p.near)+len(p.far)+len(p.prefers) > 0 }

func hostPorts(pod *corev1.Pod) []hostPort {
	var list []hostPort
	add := func(c *corev1.Container) {
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
	for i := range pod.Spec.Containers {
		add(&pod.Spec.Containers[i])
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if kind.IsSidecar(c) {
			add(c)
		}
	}
	return list
}

func (p hostPort) clashes(o hostPort) bool {
	return p.protocol == o.protocol && p.port == o.port &&
		(p.ip == o.ip || p.ip == "0.0.0.0" || o.ip == "0.0.0.0")
}

// requiredAffinity returns the Pod's required affinity, nil if it has none.
func requiredAffinity(pod *corev1.Pod) *nodeaffinity.RequiredNodeAffinity {
	affinity := pod.Spec.Affinity
	if affinity == nil || affinity.NodeAffinity == nil ||
		affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return nil
	}
	r := nodeaffinity.GetRequiredNodeAffinity(pod)
	return &r
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
