package cluster

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/e2e/cluster/lab"
)

// A node's address may change while it runs: the cluster learns the new one, and
// Pods reach each other again.
func TestAgentMoves(t *testing.T) {
	c := ownCluster(t)
	near, err := c.startAgent("near", lab.Near)
	if err == nil {
		err = c.settle()
	}
	if err != nil {
		t.Fatal(err)
	}
	s := c.session(t)
	pods := s.onEachNode()
	s.kubectl("exec", "near", "--", "box", "reach", pods["server"].Status.PodIP)
	if err := near.Move(netip.MustParseAddr("192.0.2.77")); err != nil {
		t.Fatal(err)
	}
	moved := time.Now()
	s.awaitNodeFor(patience, "near", func(n *corev1.Node) bool { return nodeAddress(n) == "192.0.2.77" && nodeReady(n) })
	t.Logf("known after %v", time.Since(moved).Round(time.Millisecond))
	s.reaches(pods)
	t.Logf("healed after %v", time.Since(moved).Round(time.Millisecond))
	if got := s.awaitPod("near", podReady); got.Status.PodIP != pods["near"].Status.PodIP || got.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Errorf("the Pod had to pay for it: %+v", got.Status)
	}
}

// The server's address may change too. Agents that know both find it; so do
// Pods, by its Service.
func TestServerMoves(t *testing.T) {
	c := ownCluster(t)
	to := netip.MustParseAddr("192.0.2.78")
	args := []string{"--server", "https://" + to.String() + ":6443"}
	_, err := c.startAgent("near", lab.Near, args...)
	if err == nil {
		_, err = c.startAgent("hidden", lab.Hidden, args...)
	}
	if err == nil {
		err = c.settle()
	}
	if err != nil {
		t.Fatal(err)
	}
	s := c.session(t)
	pods := s.onEachNode()
	s.reaches(pods)
	if err := s.server.Move(to); err != nil {
		t.Fatal(err)
	}
	moved := time.Now()
	s.awaitNodeFor(patience, "server", func(n *corev1.Node) bool { return nodeAddress(n) == to.String() })
	t.Logf("known after %v", time.Since(moved).Round(time.Millisecond))
	for _, n := range s.nodes {
		s.create(pod("later-"+n.Name, n.Name))
	}
	for _, n := range s.nodes {
		s.awaitPod("later-"+n.Name, podReady)
	}
	s.reaches(pods)
	for _, n := range s.nodes {
		s.retry(func() error {
			out, err := s.try("exec", n.Name, "--", "box", "api", "GET", "/version")
			if err != nil || !strings.Contains(out, "200") {
				return fmt.Errorf("the API, as the Pod on %s knows it: %w: %s", n.Name, err, out)
			}
			return nil
		})
	}
	t.Logf("healed after %v", time.Since(moved).Round(time.Millisecond))
}

// reaches waits until every Pod reaches all others.
func (s *session) reaches(pods map[string]*corev1.Pod) {
	s.t.Helper()
	for _, from := range pods {
		for _, to := range pods {
			s.retry(func() error {
				out, err := s.try("exec", from.Name, "--", "box", "reach", to.Status.PodIP)
				if err != nil {
					return fmt.Errorf("%s to %s: %w: %s", from.Name, to.Name, err, out)
				}
				return nil
			})
		}
	}
}

// nodeAddress is the one under which the cluster knows the node.
func nodeAddress(n *corev1.Node) string {
	for _, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			return a.Address
		}
	}
	return ""
}
