package agent

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"
)

func (b *bench) node() *corev1.Node {
	b.Helper()
	node, err := b.client.CoreV1().Nodes().Get(b.Context(), "n1", metav1.GetOptions{})
	if err != nil {
		b.Fatal(err)
	}
	return node
}

func (b *bench) lease() *coordinationv1.Lease {
	b.Helper()
	lease, err := b.client.CoordinationV1().Leases("kube-node-lease").Get(b.Context(), "n1", metav1.GetOptions{})
	if err != nil {
		b.Fatal(err)
	}
	return lease
}

func TestNodeIsRegistered(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		node := b.node()
		for _, want := range []struct {
			t      corev1.NodeConditionType
			status corev1.ConditionStatus
			reason string
		}{
			{corev1.NodeMemoryPressure, corev1.ConditionFalse, "KubeletHasSufficientMemory"},
			{corev1.NodePIDPressure, corev1.ConditionFalse, "KubeletHasSufficientPID"},
			{corev1.NodeReady, corev1.ConditionTrue, "KubeletReady"},
		} {
			found := false
			for _, c := range node.Status.Conditions {
				found = found || c.Type == want.t && c.Status == want.status && c.Reason == want.reason
			}
			if !found {
				t.Errorf("no condition %+v among %+v", want, node.Status.Conditions)
			}
		}
		info := node.Status.NodeInfo
		if info.KubeletVersion != "v1.36.3+skiff1" || info.ContainerRuntimeVersion != "containerd://2.3.7" || info.KernelVersion == "" || info.BootID == "" || info.OSImage == "" {
			t.Errorf("info is %+v", info)
		}
		if pods := node.Status.Capacity[corev1.ResourcePods]; pods.Value() != 110 || node.Status.Capacity.Cpu().IsZero() || node.Status.Allocatable.Memory().IsZero() {
			t.Errorf("capacity is %v", node.Status.Capacity)
		}
		if _, ok := node.Labels["node-role.kubernetes.io/control-plane"]; !ok || node.Labels[corev1.LabelHostname] != "n1" || node.Labels["beta.kubernetes.io/os"] != "linux" {
			t.Errorf("labels are %v", node.Labels)
		}
		if len(node.Status.Images) != 1 || node.Status.Addresses[0].Address != "192.0.2.7" {
			t.Errorf("images %v, addresses %v", node.Status.Images, node.Status.Addresses)
		}
	})
}

func TestExistingNodeKeepsWhatIsNotOurs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{"mine": "x"}}}
		old.Spec.Unschedulable = true
		old.Status.Conditions = []corev1.NodeCondition{{Type: "Custom", Status: corev1.ConditionTrue}}
		b := newBench(t, old)
		b.start()
		defer func() { b.stop() }()
		node := b.node()
		if node.Labels["mine"] != "x" || !node.Spec.Unschedulable || node.Labels[corev1.LabelHostname] != "n1" || len(node.Status.Conditions) != 5 {
			t.Errorf("node is %+v", node)
		}
	})
}

func TestTwoAddressesOfOneType(t *testing.T) {
	old := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
	old.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}, {Type: corev1.NodeHostName, Address: "old"}}
	want := *old.Status.DeepCopy()
	want.Addresses = []corev1.NodeAddress{
		{Type: corev1.NodeInternalIP, Address: "192.0.2.7"}, {Type: corev1.NodeInternalIP, Address: "2001:db8::7"}, {Type: corev1.NodeHostName, Address: "n1"},
	}
	client := fake.NewClientset(old)
	a := &Agent{Config: Config{Client: client}}
	if _, err := a.patchNodeStatus(t.Context(), old, want); err != nil {
		t.Fatal(err)
	}
	got, err := client.CoreV1().Nodes().Get(t.Context(), "n1", metav1.GetOptions{})
	if err != nil || !slices.Equal(got.Status.Addresses, want.Addresses) {
		t.Errorf("addresses are %v, %v", got.Status.Addresses, err)
	}
}

func TestLeaseIsRenewed(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		first := b.lease()
		if *first.Spec.HolderIdentity != "n1" || *first.Spec.LeaseDurationSeconds != 40 || len(first.OwnerReferences) != 1 {
			t.Errorf("lease is %+v", first)
		}
		pass(11 * time.Second)
		if again := b.lease(); !again.Spec.RenewTime.After(first.Spec.RenewTime.Time) {
			t.Error("the lease is not renewed")
		}
	})
}

func TestUnchangedNodeStatusIsWrittenEveryFiveMinutes(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		writes := func() (n int) { // and reads: with many nodes they cost more than anything else
			for _, a := range b.client.Actions() {
				if a.GetResource().Resource == "nodes" {
					n++
				}
			}
			return n
		}
		before := writes()
		pass(4 * time.Minute)
		if n := writes() - before; n != 0 {
			t.Errorf("%d writes without a change", n)
		}
		pass(2 * time.Minute)
		if n := writes() - before; n != 1 {
			t.Errorf("%d writes in six minutes", n)
		}
	})
}

// A control plane that could not hear the node makes it Unknown; the node is
// back as soon as it hears of that.
func TestNodeThatWasGivenUpReturns(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		lost := b.node().DeepCopy()
		for i := range lost.Status.Conditions {
			lost.Status.Conditions[i].Status = corev1.ConditionUnknown
		}
		if _, err := b.client.CoreV1().Nodes().UpdateStatus(t.Context(), lost, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		for _, c := range b.node().Status.Conditions {
			if c.Status == corev1.ConditionUnknown {
				t.Errorf("%s is still unknown", c.Type)
			}
		}
	})
}

// A Node that somebody deletes while its agent runs stays deleted until the agent
// starts again, and its Lease too.
func TestDeletedNodeStaysDeleted(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		ctx, leases := t.Context(), b.client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
		if err := b.client.CoreV1().Nodes().Delete(ctx, "n1", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		if err := leases.Delete(ctx, "n1", metav1.DeleteOptions{}); err != nil { // as the garbage collector does
			t.Fatal(err)
		}
		pass(10 * time.Minute)
		if _, err := b.client.CoreV1().Nodes().Get(ctx, "n1", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("the Node: %v", err)
		}
		if _, err := leases.Get(ctx, "n1", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("the Lease: %v", err)
		}
		b.stop()
		b.start()
		if len(b.node().Status.Conditions) == 0 {
			t.Error("the Node says nothing")
		}
	})
}

// One that is not there any more when the server is back, as after a restored
// snapshot, is made again.
func TestLostNodeIsRegisteredAgain(t *testing.T) {
	for _, seen := range []bool{false, true} {
		o := &ownNode{}
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{UID: "1", ResourceVersion: "5"}}
		o.see(node)
		o.lose(&corev1.Node{ObjectMeta: metav1.ObjectMeta{UID: "0"}}, seen)
		if o.get() != node {
			t.Error("another Node's end counts")
		}
		o.lose(node, seen)
		if o.get() != nil || o.dismissed() != seen {
			t.Errorf("seen %t: dismissed %t", seen, o.dismissed())
		}
		o.see(&corev1.Node{ObjectMeta: metav1.ObjectMeta{UID: "2", ResourceVersion: "4"}})
		if o.get() == nil || o.dismissed() {
			t.Error("a new Node does not count")
		}
	}
}

// The Node's range of Pod addresses is told whenever it is another.
func TestPodRangesAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		var told []string
		b.podCIDRs = func(ranges []netip.Prefix) error {
			told = append(told, fmt.Sprint(ranges))
			return nil
		}
		b.start()
		defer func() { b.stop() }()
		for _, ranges := range []string{"10.42.1.0/24", "10.42.1.0/24", "10.42.2.0/24"} {
			node := b.node().DeepCopy()
			node.Spec.PodCIDRs = []string{ranges}
			if _, err := b.client.CoreV1().Nodes().Update(t.Context(), node, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			pass(time.Second)
		}
		if want := []string{"[10.42.1.0/24]", "[10.42.2.0/24]"}; !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
	})
}

func TestAbsentServerIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		var away atomic.Bool
		away.Store(true)
		b.client.PrependReactor("*", "*", func(ktesting.Action) (bool, runtime.Object, error) {
			if away.Load() {
				return true, nil, errors.New("connection refused")
			}
			return false, nil, nil
		})
		b.start()
		defer func() { b.stop() }()
		pass(time.Minute)
		away.Store(false)
		pass(30 * time.Second)
		b.node()
		b.lease()
		b.create(webPod())
		pass(time.Minute)
		if b.pod().Status.Phase != corev1.PodRunning {
			t.Errorf("status is %+v", b.pod().Status)
		}
		away.Store(true)
		b.runtime.exit(t, "c", 1) // restarts do not need the server
		pass(time.Second)
		if calls := b.runtime.taken(); len(calls) < 4 || calls[len(calls)-1] != "start c/1" {
			t.Errorf("calls are %q", calls)
		}
		away.Store(false)
		pass(time.Minute)
		if n := b.pod().Status.ContainerStatuses[0].RestartCount; n != 1 {
			t.Errorf("restart count is %d", n)
		}
	})
}

func TestNodeConditions(t *testing.T) {
	then, now := metav1.NewTime(time.Unix(1, 0)), metav1.NewTime(time.Unix(2, 0))
	first := nodeConditions(nil, health{}, then)
	second := nodeConditions(first, health{Pressure: Pressure{Disk: true}, Err: errors.New("container runtime is down")}, now)
	for _, c := range second {
		changed := c.Type == corev1.NodeDiskPressure || c.Type == corev1.NodeReady
		if changed != c.LastTransitionTime.Equal(&now) {
			t.Errorf("transition of %s is %v", c.Type, c.LastTransitionTime)
		}
		if c.Type == corev1.NodeReady && (c.Reason != "KubeletNotReady" || c.Message != "container runtime is down") {
			t.Errorf("Ready is %+v", c)
		}
	}
}
