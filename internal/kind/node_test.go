package kind

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func node(change ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n1", ResourceVersion: "7"},
		Spec:       corev1.NodeSpec{PodCIDR: "10.42.0.0/24", PodCIDRs: []string{"10.42.0.0/24"}, ProviderID: "skiff://n1"},
		Status: corev1.NodeStatus{
			Capacity:   corev1.ResourceList{"cpu": resource.MustParse("2")},
			Conditions: []corev1.NodeCondition{{Type: "Ready", Status: "True", LastHeartbeatTime: metav1.NewTime(time.Unix(100, 0))}},
			Addresses:  []corev1.NodeAddress{{Type: "InternalIP", Address: "192.0.2.1"}, {Type: "ExternalIP", Address: "198.51.100.1"}},
			NodeInfo:   corev1.NodeSystemInfo{KubeletVersion: "v1.36.3+skiff", OSImage: "Debian", KernelVersion: "6.1"},
		},
	}
	for _, c := range change {
		c(n)
	}
	return n
}

func TestCanonicalNode(t *testing.T) {
	n := node(func(n *corev1.Node) {
		n.Status.Images = []corev1.ContainerImage{{Names: []string{}, SizeBytes: 1}, {Names: []string{"a"}}}
		n.Status.Allocatable = corev1.ResourceList{}
	})
	Node.Canonicalize(n)
	if n.Status.Images[0].Names != nil || len(n.Status.Images[1].Names) != 1 {
		t.Errorf("images %+v", n.Status.Images)
	}
	if d := cmp.Diff(n.Status.Capacity, n.Status.Allocatable); d != "" {
		t.Error("nothing allocatable is all of it:", d)
	}
}

func TestNodeDefaults(t *testing.T) {
	n := node(func(n *corev1.Node) {
		n.Status.Capacity["memory"] = resource.MustParse("1100u")
		n.Spec.PodCIDRs = []string{"10.42.9.0/24", "fd00::/64"}
	})
	Node.Default(n)
	if got := n.Status.Allocatable.Cpu().String(); got != "2" {
		t.Errorf("allocatable cpu %s", got)
	}
	if got := n.Status.Capacity.Memory().String(); got != "2m" {
		t.Errorf("memory was not rounded up: %s", got)
	}
	n.Status.Allocatable["cpu"] = resource.MustParse("1")
	if got := n.Status.Capacity.Cpu().String(); got != "2" {
		t.Error("allocatable is the same map as capacity")
	}
	if d := cmp.Diff([]string{"10.42.0.0/24"}, n.Spec.PodCIDRs); d != "" {
		t.Error("podCIDR did not win:", d)
	}
	n = &corev1.Node{Spec: corev1.NodeSpec{PodCIDRs: []string{"10.42.1.0/24"}}}
	Node.Default(n)
	if n.Spec.PodCIDR != "10.42.1.0/24" || n.Status.Allocatable != nil {
		t.Errorf("%+v", n)
	}
}

func TestNodeValidation(t *testing.T) {
	cases := []struct {
		name   string
		change func(*corev1.Node)
		want   []string
	}{
		{"good", func(*corev1.Node) {}, nil},
		{"taints", func(n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{{Key: "a", Effect: "NoSchedule"}, {Key: "a", Effect: "NoSchedule"}, {Key: "a", Effect: "Never"}, {Key: "a"}}
		}, []string{
			`metadata.taints[1]: Duplicate value: {"Key":"a","Value":"","Effect":"NoSchedule","TimeAdded":null}: taints must be unique by key and effect pair`,
			`metadata.taints[2].effect: Unsupported value: "Never": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"`,
			"metadata.taints[3].effect: Required value",
		}},
		{"range", func(n *corev1.Node) { n.Spec.PodCIDRs = []string{"10.42.0.1/24"} },
			[]string{`spec.podCIDRs[0]: Invalid value: "10.42.0.1/24": must not have bits set beyond the prefix length`}},
		{"two ranges of a family", func(n *corev1.Node) { n.Spec.PodCIDRs = []string{"10.42.0.0/24", "10.42.1.0/24"} },
			[]string{`spec.podCIDRs: Invalid value: ["10.42.0.0/24","10.42.1.0/24"]: may specify no more than one CIDR for each IP family`}},
		{"not a range", func(n *corev1.Node) { n.Spec.PodCIDRs = []string{"10.42.0.0/24", "x"} }, []string{
			`spec.podCIDRs[1]: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)`,
			"spec.podCIDRs: Internal error: invalid PodCIDRs. failed to check with dual stack with error:invalid CIDR[1]: <nil> (invalid CIDR address: x)",
			`spec.podCIDRs: Invalid value: ["10.42.0.0/24","x"]: may specify no more than one CIDR for each IP family`,
		}},
		{"two families", func(n *corev1.Node) { n.Spec.PodCIDRs = []string{"10.42.0.0/24", "fd00::/64"} }, nil},
		{"resources", func(n *corev1.Node) {
			n.Status.Capacity = corev1.ResourceList{"cpu": resource.MustParse("-1"), "pods": resource.MustParse("1500m"), "example.com/gpu": resource.MustParse("100m"), "memory": resource.MustParse("1500m")}
			n.Status.Allocatable = corev1.ResourceList{"services.nodeports": resource.MustParse("1500m")}
		}, []string{
			`status.capacity.cpu: Invalid value: "-1": must be greater than or equal to 0`,
			`status.capacity.example.com/gpu: Invalid value: "100m": must be an integer`,
			`status.capacity.pods: Invalid value: "1500m": must be an integer`,
			`status.allocatable.services.nodeports: Invalid value: "1500m": must be an integer`,
		}},
		{"swap", func(n *corev1.Node) { n.Status.NodeInfo.Swap = &corev1.NodeSwapStatus{Capacity: ptr(int64(0))} },
			[]string{"metadata.nodeSwapStatus.capacity: Invalid value: 0: must be greater than zero"}},
		{"features", func(n *corev1.Node) { n.Status.DeclaredFeatures = []string{"B", "A/b", "A/b", "c"} }, []string{
			"status.declaredFeatures[1]: Invalid value: \"A/b\": list must be sorted alphabetically",
			"status.declaredFeatures[2]: Duplicate value: \"A/b\"",
			"status.declaredFeatures[3]: Invalid value: \"c\": invalid feature name \"c\": must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes",
		}},
		{"old taints", func(n *corev1.Node) {
			n.Annotations = map[string]string{"scheduler.alpha.kubernetes.io/taints": `[{"key":"a"}]`}
		}, []string{"metadata.annotations.scheduler.alpha.kubernetes.io/taints[0].effect: Required value"}},
		{"avoided Pods", func(n *corev1.Node) {
			n.Annotations = map[string]string{"scheduler.alpha.kubernetes.io/preferAvoidPods": `{"preferAvoidPods":[{},{"podSignature":{"podController":{"controller":false}}}]}`}
		}, []string{
			"metadata.annotations.scheduler.alpha.kubernetes.io/preferAvoidPods[0].PodSignature: Required value",
			"metadata.annotations.scheduler.alpha.kubernetes.io/preferAvoidPods[1].PodSignature.PodController.Controller: Invalid value: false: must point to a controller",
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { sameErrors(t, Node.Validate(node(c.change)), c.want...) })
	}
}

func TestNodeUpdate(t *testing.T) {
	cases := []struct {
		name     string
		old, new func(*corev1.Node)
		want     []string
	}{
		{"another range", func(*corev1.Node) {}, func(n *corev1.Node) { n.Spec.PodCIDRs = []string{"10.42.1.0/24"} },
			[]string{`spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid`}},
		{"first range", func(n *corev1.Node) { n.Spec.PodCIDRs = nil }, func(*corev1.Node) {}, nil},
		{"another provider", func(*corev1.Node) {}, func(n *corev1.Node) { n.Spec.ProviderID = "other://n1" },
			[]string{`spec.providerID: Forbidden: node updates may not change providerID except from "" to valid`}},
		{"first provider", func(n *corev1.Node) { n.Spec.ProviderID = "" }, func(*corev1.Node) {}, nil},
		{"cordoned", func(*corev1.Node) {}, func(n *corev1.Node) { n.Spec.Unschedulable = true }, nil},
		{"external ID", func(*corev1.Node) {}, func(n *corev1.Node) { n.Spec.DoNotUseExternalID = "x" }, []string{"spec.externalID: Forbidden: may not be updated"}},
		{"address twice", func(*corev1.Node) {}, func(n *corev1.Node) { n.Status.Addresses[1] = n.Status.Addresses[0] },
			[]string{`status.addresses[1]: Duplicate value: {"Type":"InternalIP","Address":"192.0.2.1"}`}},
		{"two other ranges", func(n *corev1.Node) { n.Spec.PodCIDRs = []string{"10.42.0.0/24", "fd00::/64"} },
			func(n *corev1.Node) { n.Spec.PodCIDRs = []string{"10.42.1.0/24", "fd01::/64"} },
			twice(`spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid`)},
	}
	status := Node.Subresource("status")
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { sameErrors(t, status.ValidateUpdate(node(c.new), node(c.old)), c.want...) })
	}
	configured := func(n *corev1.Node) {
		n.Spec.ConfigSource, n.Status.Config = &corev1.NodeConfigSource{}, &corev1.NodeConfigStatus{}
	}
	for _, prepare := range []func(obj, old Object){func(obj, _ Object) { Node.PrepareCreate(obj) }, Node.PrepareUpdate, status.PrepareUpdate} {
		n := node(configured)
		if prepare(n, node()); n.Spec.ConfigSource != nil || n.Status.Config != nil {
			t.Error("dynamic configuration is kept")
		}
	}
	n := node(func(n *corev1.Node) { n.Spec.Unschedulable, n.Status.Phase = true, "Running" })
	Node.PrepareUpdate(n, node())
	if !n.Spec.Unschedulable || n.Status.Phase != "" {
		t.Error("an update of the node changed its status")
	}
	n = node(func(n *corev1.Node) { n.Spec.Unschedulable, n.Status.Phase = true, "Running" })
	status.PrepareUpdate(n, node())
	if n.Spec.Unschedulable || n.Status.Phase != "Running" {
		t.Error("an update of the status changed the node")
	}
}

func TestNodeLazy(t *testing.T) {
	beat := func(n *corev1.Node) { n.Status.Conditions[0].LastHeartbeatTime = metav1.NewTime(time.Unix(110, 0)) }
	cases := []struct {
		name   string
		change func(*corev1.Node)
		lazy   bool
	}{
		{"heartbeat", beat, true},
		{"heartbeat of a manager", func(n *corev1.Node) { beat(n); n.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "m"}} }, true},
		{"not ready", func(n *corev1.Node) { beat(n); n.Status.Conditions[0].Status = "False" }, false},
		{"new condition", func(n *corev1.Node) {
			n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: "X"})
		}, false},
		{"images", func(n *corev1.Node) { beat(n); n.Status.Images = []corev1.ContainerImage{{}} }, false},
		{"cordoned", func(n *corev1.Node) { beat(n); n.Spec.Unschedulable = true }, false},
		{"labels", func(n *corev1.Node) { beat(n); n.Labels = map[string]string{"a": "b"} }, false},
	}
	for _, c := range cases {
		n, old := node(c.change), node()
		if got := Node.Lazy(n, old); got != c.lazy {
			t.Errorf("%s: lazy %v", c.name, got)
		}
		if d := cmp.Diff(node(), old); d != "" {
			t.Errorf("%s: the comparison changed the old object: %s", c.name, d)
		}
	}
	if Node.Lazy(node(), nil) {
		t.Error("a creation is lazy")
	}
}

func TestNodeRow(t *testing.T) {
	rowOf(t, Node, node(func(n *corev1.Node) {
		n.Labels = map[string]string{"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "edge"}
		n.Spec.Unschedulable = true
		n.Status.NodeInfo.ContainerRuntimeVersion, n.Status.NodeInfo.Architecture = "containerd://2.3.7", "arm64"
	}), "n1", "Ready,SchedulingDisabled", "control-plane,edge,worker", "3h", "v1.36.3+skiff", "192.0.2.1", "198.51.100.1", "Debian", "6.1 (arm64)", "containerd://2.3.7")
	rowOf(t, Node, node(func(n *corev1.Node) { n.Status.Conditions[0].Status = "Unknown"; n.Status.Addresses = nil }),
		"n1", "NotReady", "<none>", "3h", "v1.36.3+skiff", "<none>", "<none>", "Debian", "6.1", "<unknown>")
	rowOf(t, Node, &corev1.Node{}, "", "Unknown", "<none>", "3h", "", "<none>", "<none>", "<unknown>", "<unknown>", "<unknown>")
	if got := Node.Fields(node()).Get("spec.unschedulable"); got != "false" {
		t.Errorf("field spec.unschedulable %q", got)
	}
}

func TestNodeWarnings(t *testing.T) {
	n := node(func(n *corev1.Node) { n.Spec.DoNotUseExternalID = "x" })
	want := []string{"spec.externalID: this field is deprecated, and is unused by Kubernetes"}
	if d := cmp.Diff(want, Node.Warnings(n, nil)); d != "" {
		t.Error(d)
	}
}
