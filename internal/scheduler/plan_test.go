package scheduler

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// node returns one with 4 CPUs, 8Gi and room for 10 Pods.
func node(name string, change ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}},
		Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi"),
			corev1.ResourceEphemeralStorage: resource.MustParse("10Gi"), corev1.ResourcePods: resource.MustParse("10"),
		}},
	}
	for _, c := range change {
		c(n)
	}
	return n
}

func label(key, value string) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Labels[key] = value }
}

func taint(key string, effect corev1.TaintEffect) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Effect: effect}) }
}

func pod(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID("uid-" + name), Labels: map[string]string{}},
		Spec:       corev1.PodSpec{SchedulerName: "default-scheduler", Containers: []corev1.Container{{Name: "c", Image: "image"}}},
	}
	for _, c := range change {
		c(p)
	}
	return p
}

func asks(name corev1.ResourceName, amount string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		r := &p.Spec.Containers[0].Resources
		if r.Requests == nil {
			r.Requests = corev1.ResourceList{}
		}
		r.Requests[name] = resource.MustParse(amount)
	}
}

func app(name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Labels["app"] = name }
}

func hostPort80(ip string, protocol corev1.Protocol) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 80, HostIP: ip, Protocol: protocol}}
	}
}

func terms(key, name string, change ...func(*corev1.PodAffinityTerm)) corev1.PodAffinityTerm {
	t := corev1.PodAffinityTerm{TopologyKey: key, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}}
	for _, c := range change {
		c(&t)
	}
	return t
}

func with(p *corev1.Pod) *corev1.Affinity {
	if p.Spec.Affinity == nil {
		p.Spec.Affinity = &corev1.Affinity{}
	}
	return p.Spec.Affinity
}

func near(t corev1.PodAffinityTerm) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		with(p).PodAffinity = &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{t}}
	}
}

func far(t corev1.PodAffinityTerm) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		with(p).PodAntiAffinity = &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{t}}
	}
}

func spreadOver(key string, skew int32, how corev1.UnsatisfiableConstraintAction) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.TopologySpreadConstraints = append(p.Spec.TopologySpreadConstraints, corev1.TopologySpreadConstraint{
			MaxSkew: skew, TopologyKey: key, WhenUnsatisfiable: how,
			LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": p.Labels["app"]}},
		})
	}
}

func selects(key, value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{key: value} }
}

func tolerating(key string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Tolerations = append(p.Spec.Tolerations, corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists})
	}
}

// on places Pods on a node.
type on struct {
	node string
	pods []*corev1.Pod
}

func cluster(nodes []*corev1.Node, placed ...on) *Cluster {
	c := NewCluster()
	for _, n := range nodes {
		c.SetNode(n)
	}
	for _, o := range placed {
		for _, p := range o.pods {
			c.Place(p, o.node)
		}
	}
	return c
}

func pods(n int, change ...func(*corev1.Pod)) []*corev1.Pod {
	var list []*corev1.Pod
	for i := range n {
		p := pod(fmt.Sprintf("filler-%d-%p", i, &list), change...)
		list = append(list, p)
	}
	return list
}

func namespaceLabels(name string) labels.Set { return labels.Set{"team": name} }

func restartsAll(p *corev1.Pod) {
	p.Spec.Containers = append(p.Spec.Containers, corev1.Container{RestartPolicyRules: []corev1.ContainerRestartRule{
		{Action: corev1.ContainerRestartRuleActionRestartAllContainers},
	}})
}

// Every reason not to run somewhere, in upstream's words.
func TestReasons(t *testing.T) {
	const (
		noVictims  = "No preemption victims found for incoming pod"
		notHelpful = "Preemption is not helpful for scheduling"
	)
	nodes := func(n ...*corev1.Node) []*corev1.Node { return n }
	for _, c := range []struct {
		name       string
		cluster    *Cluster
		pod        *corev1.Pod
		why        string // "" : it fits
		preemption string
	}{
		{"cordoned", cluster(nodes(node("a", func(n *corev1.Node) { n.Spec.Unschedulable = true }))), pod("p"), "1 node(s) were unschedulable", "1 " + notHelpful},
		{"cordoned but tolerated", cluster(nodes(node("a", func(n *corev1.Node) { n.Spec.Unschedulable = true }))), pod("p", tolerating(corev1.TaintNodeUnschedulable)), "", ""},
		{"tainted", cluster(nodes(node("a", taint("x", corev1.TaintEffectNoSchedule)), node("b", taint("x", corev1.TaintEffectNoExecute)))), pod("p"),
			"2 node(s) had untolerated taint(s)", "2 " + notHelpful},
		{"tainted but tolerated", cluster(nodes(node("a", taint("x", corev1.TaintEffectNoExecute)))), pod("p", tolerating("x")), "", ""},
		{"tainted softly", cluster(nodes(node("a", taint("x", corev1.TaintEffectPreferNoSchedule)))), pod("p"), "", ""},
		{"selector", cluster(nodes(node("a"))), pod("p", selects("disk", "ssd")), "1 node(s) didn't match Pod's node affinity/selector", "1 " + notHelpful},
		{"selector matches", cluster(nodes(node("a", label("disk", "ssd")))), pod("p", selects("disk", "ssd")), "", ""},
		{"affinity", cluster(nodes(node("a"), node("b"))), pod("p", func(p *corev1.Pod) {
			with(p).NodeAffinity = &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{
				{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "disk", Operator: corev1.NodeSelectorOpExists}}},
			}}}
		}), "2 node(s) didn't match Pod's node affinity/selector", "2 " + notHelpful},
		{"name", cluster(nodes(node("a"))), pod("p", func(p *corev1.Pod) { p.Spec.NodeName = "b" }), "1 node(s) didn't match the requested node name", "1 " + notHelpful},
		{"feature", cluster(nodes(node("a"), node("b", func(n *corev1.Node) { n.Status.DeclaredFeatures = []string{"Other"} }))), pod("p", restartsAll),
			"2 node(s) didn't match Pod's required features", "2 " + notHelpful},
		{"feature that it has", cluster(nodes(node("a"), node("b", func(n *corev1.Node) {
			n.Status.DeclaredFeatures = []string{"Other", "RestartAllContainersOnContainerExits"}
		}))), pod("p", restartsAll), "", ""},
		{"port", cluster(nodes(node("a")), on{"a", pods(1, hostPort80("", ""))}), pod("p", hostPort80("", "")),
			"1 node(s) didn't have free ports for the requested pod ports", "1 " + noVictims},
		{"port of one address", cluster(nodes(node("a")), on{"a", pods(1, hostPort80("127.0.0.1", ""))}), pod("p", hostPort80("0.0.0.0", "")),
			"1 node(s) didn't have free ports for the requested pod ports", "1 " + noVictims},
		{"port of another address", cluster(nodes(node("a")), on{"a", pods(1, hostPort80("127.0.0.1", ""))}), pod("p", hostPort80("127.0.0.2", "")), "", ""},
		{"port of another protocol", cluster(nodes(node("a")), on{"a", pods(1, hostPort80("", corev1.ProtocolUDP))}), pod("p", hostPort80("", "")), "", ""},
		{"cpu", cluster(nodes(node("a")), on{"a", pods(1, asks(corev1.ResourceCPU, "3500m"))}), pod("p", asks(corev1.ResourceCPU, "501m")), "1 Insufficient cpu", "1 " + noVictims},
		{"cpu to the last", cluster(nodes(node("a")), on{"a", pods(1, asks(corev1.ResourceCPU, "3500m"))}), pod("p", asks(corev1.ResourceCPU, "500m")), "", ""},
		{"more cpu than there is", cluster(nodes(node("a"))), pod("p", asks(corev1.ResourceCPU, "5")), "1 Insufficient cpu", "1 " + notHelpful},
		{"memory and cpu", cluster(nodes(node("a")), on{"a", pods(1, asks(corev1.ResourceCPU, "4"), asks(corev1.ResourceMemory, "8Gi"))}),
			pod("p", asks(corev1.ResourceCPU, "1"), asks(corev1.ResourceMemory, "1")), "1 Insufficient cpu, 1 Insufficient memory", "1 " + noVictims},
		{"storage", cluster(nodes(node("a"))), pod("p", asks(corev1.ResourceEphemeralStorage, "11Gi")), "1 Insufficient ephemeral-storage", "1 " + notHelpful},
		{"device", cluster(nodes(node("a"))), pod("p", asks("example.com/gpu", "1")), "1 Insufficient example.com/gpu", "1 " + notHelpful},
		{"too many", cluster(nodes(node("a")), on{"a", pods(10)}), pod("p"), "1 Too many pods", "1 " + noVictims},
		{"spread", cluster(nodes(node("a", label("zone", "1")), node("b", label("zone", "2"), func(n *corev1.Node) { n.Spec.Unschedulable = true })), on{"a", pods(1, app("x"))}),
			pod("p", app("x"), spreadOver("zone", 1, corev1.DoNotSchedule)),
			"1 node(s) didn't match pod topology spread constraints, 1 node(s) were unschedulable", "1 " + noVictims + ", 1 " + notHelpful},
		{"spread where others are on their way out", cluster(nodes(node("a", label("zone", "1")), node("b", label("zone", "2"), func(n *corev1.Node) { n.Spec.Unschedulable = true })),
			on{"a", pods(3, app("x"), func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} })}), pod("p", app("x"), spreadOver("zone", 1, corev1.DoNotSchedule)), "", ""},
		{"spread without the label", cluster(nodes(node("a"))), pod("p", app("x"), spreadOver("zone", 1, corev1.DoNotSchedule)),
			"1 node(s) didn't match pod topology spread constraints (missing required label)", "1 " + notHelpful},
		{"spread that is only wished for", cluster(nodes(node("a"))), pod("p", app("x"), spreadOver("zone", 1, corev1.ScheduleAnyway)), "", ""},
		{"near nobody", cluster(nodes(node("a"))), pod("p", near(terms(corev1.LabelHostname, "x"))), "1 node(s) didn't match pod affinity rules", "1 " + notHelpful},
		{"near itself", cluster(nodes(node("a"))), pod("p", app("x"), near(terms(corev1.LabelHostname, "x"))), "", ""},
		{"near itself, but others are elsewhere", cluster(nodes(node("a", func(n *corev1.Node) { n.Spec.Unschedulable = true }), node("b")), on{"a", pods(1, app("x"))}),
			pod("p", app("x"), near(terms(corev1.LabelHostname, "x"))), "1 node(s) didn't match pod affinity rules, 1 node(s) were unschedulable", "2 " + notHelpful},
		{"near one of another namespace", cluster(nodes(node("a")), on{"a", pods(1, app("x"), func(p *corev1.Pod) { p.Namespace = "other" })}),
			pod("p", near(terms(corev1.LabelHostname, "x"))), "1 node(s) didn't match pod affinity rules", "1 " + notHelpful},
		{"near one of a selected namespace", cluster(nodes(node("a")), on{"a", pods(1, app("x"), func(p *corev1.Pod) { p.Namespace = "other" })}),
			pod("p", near(terms(corev1.LabelHostname, "x", func(t *corev1.PodAffinityTerm) {
				t.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"team": "other"}}
			}))), "", ""},
		{"far from one", cluster(nodes(node("a")), on{"a", pods(1, app("x"))}), pod("p", far(terms(corev1.LabelHostname, "x"))),
			"1 node(s) didn't match pod anti-affinity rules", "1 " + noVictims},
		{"one that keeps it away", cluster(nodes(node("a")), on{"a", pods(1, far(terms(corev1.LabelHostname, "x")))}), pod("p", app("x")),
			"1 node(s) didn't satisfy existing pods anti-affinity rules", "1 " + noVictims},
		{"one that keeps others away", cluster(nodes(node("a")), on{"a", pods(1, far(terms(corev1.LabelHostname, "y")))}), pod("p", app("x")), "", ""},
		{"no preemption wanted", cluster(nodes(node("a")), on{"a", pods(10)}), pod("p", func(p *corev1.Pod) { p.Spec.PreemptionPolicy = new(corev1.PreemptNever) }),
			"1 Too many pods", "never"},
		{"first filter alone speaks", cluster(nodes(node("a", taint("x", corev1.TaintEffectNoSchedule)))), pod("p", asks(corev1.ResourceCPU, "100")), "1 node(s) had untolerated taint(s)", "1 " + notHelpful},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := c.cluster.Plan(c.pod, namespaceLabels)
			if c.why == "" {
				if got.Node == "" {
					t.Fatalf("it fits nowhere: %s", got.Message)
				}
				return
			}
			available := fmt.Sprintf("0/%d nodes are available: ", len(c.cluster.nodes))
			want := available + c.why + ". no new claims to deallocate, preemption: " + available + c.preemption + "."
			if c.preemption == "never" {
				want = available + c.why + ". no new claims to deallocate, preemption: not eligible due to preemptionPolicy=Never."
			}
			if got.Node != "" || got.Message != want {
				t.Errorf("got %q %q\nwant %q", got.Node, got.Message, want)
			}
		})
	}
}

func TestNoNodes(t *testing.T) {
	if got := NewCluster().Plan(pod("p"), nil).Message; got != "no nodes available to schedule pods" {
		t.Errorf("got %q", got)
	}
}

// What one node has over another.
func TestPreferences(t *testing.T) {
	both := []*corev1.Node{node("a", label("zone", "1")), node("b", label("zone", "2"))}
	owned := func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{UID: "rs", Controller: new(true)}}
	}
	prefer := func(weight int32, anti bool) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			list := []corev1.WeightedPodAffinityTerm{{Weight: weight, PodAffinityTerm: terms("zone", "x")}}
			if anti {
				with(p).PodAntiAffinity = &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: list}
			} else {
				with(p).PodAffinity = &corev1.PodAffinity{PreferredDuringSchedulingIgnoredDuringExecution: list}
			}
		}
	}
	for _, c := range []struct {
		name    string
		cluster *Cluster
		pod     *corev1.Pod
		want    string
	}{
		{"the emptier", cluster(both, on{"a", pods(1, asks(corev1.ResourceCPU, "2"), asks(corev1.ResourceMemory, "4Gi"))}), pod("p"), "b"},
		{"the one with fewer that ask for nothing", cluster(both, on{"b", pods(3)}), pod("p"), "a"},
		{"the one without siblings", cluster(both, on{"b", pods(1, owned)}, on{"a", pods(3)}), pod("p", owned), "a"},
		{"the one without a soft taint", cluster([]*corev1.Node{node("a", taint("x", corev1.TaintEffectPreferNoSchedule)), node("b")}, on{"b", pods(5)}), pod("p"), "b"},
		{"the one that is liked", cluster(both, on{"b", pods(2)}), pod("p", func(p *corev1.Pod) {
			with(p).NodeAffinity = &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{
				Weight: 1, Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "zone", Operator: corev1.NodeSelectorOpIn, Values: []string{"2"}}}},
			}}}
		}), "b"},
		{"with whom it likes", cluster(both, on{"b", pods(2, app("x"))}), pod("p", prefer(10, false)), "b"},
		{"without whom it dislikes", cluster(both, on{"b", pods(1, app("x"))}, on{"a", pods(2)}), pod("p", prefer(10, true)), "a"},
		{"with who likes it", cluster(both, on{"b", pods(2, prefer(10, false))}), pod("p", app("x")), "b"},
		{"away from who dislikes it", cluster(both, on{"b", pods(1, prefer(10, true))}, on{"a", pods(2)}), pod("p", app("x")), "a"},
		{"with who must be near it", cluster(both, on{"b", pods(2, app("x"), near(terms("zone", "x")))}), pod("p", app("x")), "b"},
		{"the emptier zone", cluster(both, on{"b", pods(1, app("x"))}, on{"a", pods(3)}), pod("p", app("x"), spreadOver("zone", 1, corev1.ScheduleAnyway)), "a"},
		{"the one with the image", cluster([]*corev1.Node{node("a"), node("b", func(n *corev1.Node) {
			n.Status.Images = []corev1.ContainerImage{{Names: []string{"image:latest"}, SizeBytes: 2000 << 20}}
		})}), pod("p"), "b"},
		{"the balanced", cluster([]*corev1.Node{node("a"), node("b")}, on{"a", pods(1, asks(corev1.ResourceCPU, "2"), asks(corev1.ResourceMemory, "200Mi"))},
			on{"b", pods(1, asks(corev1.ResourceCPU, "100m"), asks(corev1.ResourceMemory, "4Gi"))}), pod("p", asks(corev1.ResourceCPU, "1500m"), asks(corev1.ResourceMemory, "100Mi")), "b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for i := range 5 { // whatever the lots say
				c.pod.UID = types.UID(fmt.Sprint(i))
				if got := c.cluster.Plan(c.pod, namespaceLabels); got.Node != c.want {
					t.Fatalf("got %q %s, want %q", got.Node, got.Message, c.want)
				}
			}
		})
	}
}

func TestEnough(t *testing.T) {
	for nodes, want := range map[int]int{1: 1, 99: 99, 100: 100, 200: 100, 1000: 420, 5000: 500, 10000: 500} {
		if got := enough(nodes); got != want {
			t.Errorf("%d nodes: %d, want %d", nodes, got, want)
		}
	}
}

// What is on a node is the same, however it came about.
func TestClusterCountsAsItGoes(t *testing.T) {
	c := cluster([]*corev1.Node{node("a")}, on{"a", pods(2, asks(corev1.ResourceCPU, "1"), hostPort80("", ""), far(terms("zone", "x")))})
	p := pod("p", asks(corev1.ResourceCPU, "1"), func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{UID: "rs", Controller: new(true)}}
	})
	c.Place(p, "a")
	deleted := p.DeepCopy()
	deleted.DeletionTimestamp = &metav1.Time{}
	c.Place(deleted, "a")
	n := c.byName["a"]
	if n.asked.cpu != 3000 || len(n.owners) != 0 {
		t.Errorf("%d thousandths of a CPU, owners %v", n.asked.cpu, n.owners)
	}
	if m := c.families["default"].on[n]; m.all != 3 || m.staying != 2 {
		t.Errorf("members %+v", m)
	}
	c.Place(p, "b") // to a node that does not exist
	c.RemoveNode("a")
	for uid := range c.where {
		c.Remove(uid)
	}
	if len(c.byName)+len(c.nodes)+len(c.affine)+len(c.where)+len(c.images)+len(c.families) != 0 || n.asked.cpu != 0 || n.counted.memory != 0 || len(n.ports) != 0 {
		t.Errorf("left: %+v of %+v", n, c)
	}
}

func TestImageNames(t *testing.T) {
	for image, want := range map[string]string{
		"a": "a:latest", "a:1": "a:1", "host:5000/a": "host:5000/a:latest", "a@sha256:0": "a@sha256:0",
	} {
		if got := tagged(image); got != want {
			t.Errorf("%s: %s, want %s", image, got, want)
		}
	}
	if strings.Contains(tagged("a:1"), "latest") {
		t.Error("a tag was added to one")
	}
}
