package controller_test

import (
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/auth"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

// settings are what the cluster tells its nodes.
func (p *plane) settings() map[string]string {
	m, ok := state.Get[*corev1.ConfigMap](p.env.State, kind.ConfigMap, metav1.NamespaceSystem, auth.ClusterSettings)
	if !ok {
		return nil
	}
	return m.Data
}

// What every node has to know comes back when somebody changes or deletes it.
func TestClusterSettingsAreKept(t *testing.T) {
	inPlane(t, func(p *plane) {
		request := api.Request{User: p.to(kind.ConfigMap, "").User, Kind: kind.ConfigMap, Namespace: metav1.NamespaceSystem, Name: auth.ClusterSettings}
		_, err := p.env.API.Modify(p.ctx, request, func(obj kind.Object) error {
			obj.(*corev1.ConfigMap).Data = map[string]string{"cluster-cidr": "192.168.0.0/16"}
			return nil
		})
		p.must(err)
		p.settle()
		equal(p, "after a change, cluster-cidr", p.settings()["cluster-cidr"], "10.42.0.0/16")
		_, _, err = p.env.API.Delete(p.ctx, request, metav1.DeleteOptions{})
		p.must(err)
		p.settle()
		equal(p, "after a deletion, servers", p.settings()["servers"], "https://192.0.2.1:6443")
	})
}

// When the server's machine has another address, everyone is told where the API is.
func TestServersAddressIsFollowed(t *testing.T) {
	inPlane(t, func(p *plane) {
		p.nodeAt("home", "192.0.2.1")
		equal(p, "before, servers", p.settings()["servers"], "https://192.0.2.1:6443")
		p.home = netip.MustParseAddr("198.51.100.1")
		_, err := p.env.API.Modify(p.ctx, api.Request{
			User: p.to(kind.Node, "").User, Kind: kind.Node, Name: "home", Subresource: "status",
		}, func(obj kind.Object) error {
			obj.(*corev1.Node).Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "198.51.100.1"}}
			return nil
		})
		p.must(err)
		p.settle()
		equal(p, "then, servers", p.settings()["servers"], "https://198.51.100.1:6443")
		endpoints := get[*corev1.Endpoints](p, kind.Endpoints, "kubernetes")
		equal(p, "then, the endpoint", endpoints.Subsets[0].Addresses[0].IP, "198.51.100.1")
		slice := get[*discoveryv1.EndpointSlice](p, kind.EndpointSlice, "kubernetes")
		equal(p, "then, the slice", slice.Endpoints[0].Addresses[0], "198.51.100.1")
	})
}
