package agent

import (
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// The Node and the Pods that have its network follow the machine's address, at
// once and not at the next look.
func TestAddressesChangeWhileRunning(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		pod := webPod()
		pod.Spec.HostNetwork = true
		b.create(pod)
		pass(time.Second)
		if got := b.pod().Status; got.PodIP != "192.0.2.7" || got.HostIP != "192.0.2.7" {
			t.Fatalf("addresses of the Pod: %s on %s", got.PodIP, got.HostIP)
		}
		b.agent.SetAddresses([]netip.Addr{netip.MustParseAddr("198.51.100.7")})
		pass(time.Second)
		node := b.node()
		if len(node.Status.Addresses) != 2 || node.Status.Addresses[0].Address != "198.51.100.7" || node.Status.Addresses[1].Type != corev1.NodeHostName {
			t.Errorf("addresses of the Node: %v", node.Status.Addresses)
		}
		if got := b.pod().Status; got.PodIP != "198.51.100.7" || len(got.PodIPs) != 1 || got.HostIP != "198.51.100.7" {
			t.Errorf("addresses of the Pod: %s %v on %s", got.PodIP, got.PodIPs, got.HostIP)
		}
	})
}
