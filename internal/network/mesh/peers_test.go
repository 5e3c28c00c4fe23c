package mesh

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func cidrs(texts ...string) (out []netip.Prefix) {
	for _, t := range texts {
		out = append(out, netip.MustParsePrefix(t))
	}
	return out
}

// node is a Node; the later ones of a test are younger.
func node(name, address string, podCIDRs ...string) *corev1.Node {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, CreationTimestamp: metav1.NewTime(noon), ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "x"}},
			Labels: map[string]string{"a": "b"},
		},
		Spec: corev1.NodeSpec{PodCIDRs: podCIDRs},
	}
	n.Status.Images = []corev1.ContainerImage{{Names: []string{"large"}}}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name}}
	if address != "" {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: address})
	}
	return n
}

func TestRoster(t *testing.T) {
	for _, tc := range []struct {
		what    string
		nodes   []*corev1.Node
		own     string
		peers   string // "name share address", in any order
		refused string
	}{
		{"two", []*corev1.Node{node("a", "192.0.2.1", "10.42.0.0/24"), node("b", "192.0.2.2", "10.42.1.0/24")},
			"10.42.0.0/24", "b 10.42.1.0/24 192.0.2.2", ""},
		{"alone", []*corev1.Node{node("a", "192.0.2.1", "10.42.0.0/24")}, "10.42.0.0/24", "", ""},
		{"no share yet", []*corev1.Node{node("a", "192.0.2.1"), node("b", "192.0.2.2", "10.42.1.0/24")},
			"invalid Prefix", "b 10.42.1.0/24 192.0.2.2", ""},
		{"peer without share", []*corev1.Node{node("a", "192.0.2.1", "10.42.0.0/24"), node("b", "192.0.2.2")}, "10.42.0.0/24", "", ""},
		{"peer without address", []*corev1.Node{node("a", "", "10.42.0.0/24"), node("b", "", "10.42.1.0/24")},
			"10.42.0.0/24", "b 10.42.1.0/24 invalid IP", ""},
		{"two families", []*corev1.Node{node("a", "192.0.2.1", "fd42::/64", "10.42.0.0/24"), node("b", "2001:db8::1", "fd42:0:0:1::/64", "10.42.1.0/24")},
			"10.42.0.0/24", "b 10.42.1.0/24 invalid IP", ""},
		{"share out of the range", []*corev1.Node{node("a", "192.0.2.1", "10.42.0.0/24"), node("b", "192.0.2.2", "192.0.2.0/24")},
			"10.42.0.0/24", "", "192.0.2.0/24 of node b is not of the Pod range"},
		{"everything", []*corev1.Node{node("a", "192.0.2.1", "10.42.0.0/24"), node("b", "192.0.2.2", "0.0.0.0/0")},
			"10.42.0.0/24", "", "0.0.0.0/0 of node b is not of the Pod range"},
		{"our share", []*corev1.Node{node("0", "192.0.2.2", "10.42.0.0/24"), node("a", "192.0.2.1", "10.42.0.0/24")},
			"10.42.0.0/24", "", "10.42.0.0/24 of node 0 overlaps with that of node a"},
		{"another's share", []*corev1.Node{
			node("a", "192.0.2.1", "10.42.0.0/24"), younger(node("0", "192.0.2.9", "10.42.2.128/25")), node("c", "192.0.2.3", "10.42.2.0/24"),
		}, "10.42.0.0/24", "c 10.42.2.0/24 192.0.2.3", "10.42.2.128/25 of node 0 overlaps with that of node c"},
		{"all shares", []*corev1.Node{
			node("a", "192.0.2.1", "10.42.0.0/24"), younger(node("0", "192.0.2.9", "10.42.0.0/16")), node("c", "192.0.2.3", "10.42.2.0/24"),
		}, "10.42.0.0/24", "c 10.42.2.0/24 192.0.2.3", "10.42.0.0/16 of node 0 overlaps with that of node a"},
		{"address among the Pods", []*corev1.Node{node("a", "192.0.2.1", "10.42.0.0/24"), node("b", "10.42.0.7", "10.42.1.0/24")},
			"10.42.0.0/24", "b 10.42.1.0/24 invalid IP", ""},
		{"loopback address", []*corev1.Node{node("a", "192.0.2.1", "10.42.0.0/24"), node("b", "127.0.0.1", "10.42.1.0/24")},
			"10.42.0.0/24", "b 10.42.1.0/24 invalid IP", ""},
		{"nonsense", []*corev1.Node{node("a", "192.0.2.1", "10.42.0.0/24"), node("b", "x", "y"), node("c", "192.0.2.3", "10.42.3.7/24"), node("d", "192.0.2.4", "10.42.4.0/31")},
			"10.42.0.0/24", "", ""},
	} {
		t.Run(tc.what, func(t *testing.T) {
			r := newRoster(tc.nodes, "a", cidrs("10.42.0.0/16"))
			var peers []string
			for _, p := range r.peers {
				peers = append(peers, p.name+" "+p.pods.String()+" "+p.node.String())
			}
			if r.own.String() != tc.own || strings.Join(peers, ", ") != tc.peers || strings.Join(r.refused, ", ") != tc.refused {
				t.Errorf("own %s, peers %q, refused %q", r.own, peers, r.refused)
			}
		})
	}
}

func younger(n *corev1.Node) *corev1.Node {
	n.CreationTimestamp = metav1.NewTime(noon.Add(time.Hour))
	return n
}

func TestClaims(t *testing.T) {
	var c claims
	for _, tc := range []struct{ share, by string }{
		{"10.42.4.0/24", ""}, {"10.42.2.0/24", ""}, {"10.42.0.0/24", ""}, {"10.42.8.0/22", ""},
		{"10.42.2.0/24", "10.42.2.0/24"}, {"10.42.2.0/25", "10.42.2.0/24"}, {"10.42.2.128/25", "10.42.2.0/24"},
		{"10.42.2.0/23", "10.42.2.0/24"}, {"10.42.0.0/16", "10.42.0.0/24"}, {"10.42.3.0/24", ""}, {"10.42.10.0/24", "10.42.8.0/22"},
		{"10.42.12.0/24", ""},
	} {
		if by := c.add(netip.MustParsePrefix(tc.share), tc.share); by != tc.by {
			t.Errorf("%s: taken by %q, want %q", tc.share, by, tc.by)
		}
	}
}

func TestStripKeepsWhatTheMeshReads(t *testing.T) {
	full := node("b", "192.0.2.2", "10.42.1.0/24")
	obj, err := strip(full)
	if err != nil {
		t.Fatal(err)
	}
	kept := obj.(*corev1.Node)
	if len(kept.Status.Images) != 0 || len(kept.Labels) != 0 || len(kept.ManagedFields) != 0 || len(kept.Status.Addresses) != 1 {
		t.Errorf("kept %+v", kept)
	}
	ranges := cidrs("10.42.0.0/16")
	a, b := newRoster([]*corev1.Node{full}, "a", ranges), newRoster([]*corev1.Node{kept}, "a", ranges)
	if !slices.Equal(a.peers, b.peers) {
		t.Errorf("%v, stripped %v", a.peers, b.peers)
	}
	heartbeat := full.DeepCopy()
	heartbeat.ResourceVersion, heartbeat.Labels["a"] = "7", "c"
	beat, _ := strip(heartbeat)
	if !same(kept, beat.(*corev1.Node)) {
		t.Error("a heartbeat looks like a change")
	}
	moved, _ := strip(node("b", "192.0.2.3", "10.42.1.0/24"))
	if same(kept, moved.(*corev1.Node)) {
		t.Error("another address looks like no change")
	}
}

func TestVTEPAddressesDiffer(t *testing.T) {
	seen := map[string]string{}
	for _, gateway := range []string{"10.42.0.1", "10.42.1.1", "10.42.255.1", "fd42::1", "fd42:0:0:1::1"} {
		mac := vtepMAC(netip.MustParseAddr(gateway))
		if len(mac) != 6 || mac[0]&1 != 0 || mac[0]&2 == 0 {
			t.Errorf("%s has %s: not a local unicast address", gateway, mac)
		}
		if other := seen[mac.String()]; other != "" {
			t.Errorf("%s and %s both have %s", gateway, other, mac)
		}
		seen[mac.String()] = gateway
	}
}
