package cluster

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/e2e/cluster/lab"
)

// A node that leaves gives away its Pods first and is gone then, and may come
// again.
func TestDrainAndLeave(t *testing.T) {
	c := ownCluster(t)
	near, err := c.startAgent("near", lab.Near)
	if err == nil {
		err = c.settle()
	}
	if err != nil {
		t.Fatal(err)
	}
	s := c.session(t)
	s.kubectl("cordon", "server")
	s.kubectl("create", "deployment", "web", "--image=example.org/box:1", "--replicas=2")
	s.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
	s.kubectl("uncordon", "server")
	s.kubectl("drain", "near", "--timeout=60s")
	s.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
	s.allOn("server")
	s.kubectl("uncordon", "near")
	s.kubectl("cordon", "server")
	s.kubectl("rollout", "restart", "deployment/web")
	s.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
	s.allOn("near")
	s.kubectl("uncordon", "server")

	if out, err := near.Skiff(s.ctx, "leave").CombinedOutput(); err != nil {
		t.Fatalf("skiff leave: %v: %s", err, out)
	}
	if _, err := s.client.CoreV1().Nodes().Get(s.ctx, "near", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the Node is there after it left: %v", err)
	}
	s.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
	s.allOn("server")
	s.retry(func() error {
		if done, _ := near.Ended(); !done {
			return errors.New("the agent still runs")
		}
		return nil
	})
	if _, err := os.Stat(filepath.Join(near.Host.DataDir, "agent/tls/client.crt")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it keeps its certificate: %v", err)
	}

	t.Log("it comes again")
	token, err := s.token()
	if err != nil {
		t.Fatal(err)
	}
	if err := near.Start("agent", "--server", s.url(), "--token", token); err != nil {
		t.Fatal(err)
	}
	s.awaitNodeFor(patience, "near", nodeReady)
	s.create(pod("again", "near"))
	s.awaitPod("again", podReady)
}

// allOn fails unless all of the namespace's Pods that stay are on the node.
func (s *session) allOn(node string) {
	s.t.Helper()
	list, err := s.pods().List(s.ctx, metav1.ListOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, p := range list.Items {
		if p.DeletionTimestamp == nil && p.Spec.NodeName != node {
			s.t.Errorf("%s is on %s", p.Name, p.Spec.NodeName)
		}
	}
}

// A Node that is deleted while its machine is away takes its Pods with it: when
// the machine is back, they end there too.
func TestDeleteNode(t *testing.T) {
	c := ownCluster(t)
	near, err := c.startAgent("near", lab.Near)
	if err == nil {
		err = c.settle()
	}
	if err != nil {
		t.Fatal(err)
	}
	s := c.session(t)
	s.create(marked("doomed", "near"))
	s.awaitPod("doomed", podReady)
	if err := near.Stop(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.kubectl("delete", "node", "near")
	s.awaitPodFor(lossPatience, "doomed", nil)
	if left, err := markedProcesses("doomed"); err != nil || len(left) != 1 {
		t.Errorf("processes %v while the agent is away, %v", left, err)
	}
	if err := near.Start("agent", "--server", s.url()); err != nil {
		t.Fatal(err)
	}
	s.awaitNodeFor(patience, "near", nodeReady)
	s.retry(func() error {
		left, err := markedProcesses("doomed")
		if err == nil && len(left) > 0 {
			err = errors.New("its container still runs")
		}
		return err
	})
	s.create(pod("next", "near"))
	s.awaitPod("next", podReady)
}

// A server without a node reaches the Pods of agents all the same, wherever they
// stand, and is no node itself. Connections to it are all that they need.
func TestServerWithoutNode(t *testing.T) {
	c := ownCluster(t, "--disable-agent")
	if err := c.Confine(); err != nil {
		t.Fatal(err)
	}
	for name, place := range map[string]lab.Place{"near": lab.Near, "hidden": lab.Hidden} {
		if _, err := c.startAgent(name, place); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.settle(); err != nil {
		t.Fatal(err)
	}
	s := c.session(t)
	s.reaches(s.onEachNode())
	s.apply(webService)
	for _, n := range s.nodes {
		t.Run(n.Name, func(t *testing.T) { s.streams(t, n.Name) })
		if out := s.exec(n.Name, "box api GET /version"); !strings.Contains(out, "200") {
			t.Errorf("the API answers %s with %s", n.Name, out)
		}
	}
	nodes, err := s.client.CoreV1().Nodes().List(s.ctx, metav1.ListOptions{})
	if err != nil || len(nodes.Items) != 2 {
		t.Errorf("%d nodes, %v", len(nodes.Items), err)
	}
}
