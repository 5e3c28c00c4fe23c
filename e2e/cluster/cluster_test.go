package cluster

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/skiff-sh/skiff/e2e/await"
	"github.com/skiff-sh/skiff/e2e/cluster/lab"
)

// patience is how long anything that a test waits for may take.
const patience = 60 * time.Second

// cluster is a lab with a server.
type cluster struct {
	*lab.Lab
	server *lab.Node
	nodes  []*lab.Node // the server first, if it is one, then agents as they joined

	client kubernetes.Interface
	config *rest.Config

	sessions atomic.Int64 // tests that used it
}

// newCluster makes a lab of that name with a server that answers.
func newCluster(name string, args ...string) (*cluster, error) {
	l, err := lab.New(labConfig(name))
	if err != nil {
		return nil, err
	}
	c := &cluster{Lab: l}
	if c.server, err = l.Add("server", lab.Near); err != nil {
		return nil, err
	}
	if !slices.Contains(args, "--disable-agent") {
		c.nodes = []*lab.Node{c.server}
	}
	if err := c.server.Start(append([]string{"server"}, args...)...); err != nil {
		return nil, err
	}
	return c, c.awaitAPI()
}

// ownCluster makes a cluster for one test alone, which is gone after it.
func ownCluster(t *testing.T, args ...string) *cluster {
	t.Helper()
	t.Parallel()
	name := strings.ToLower(strings.TrimPrefix(t.Name(), "Test"))
	t.Cleanup(func() {
		if err := removeLab(name, t.Failed()); err != nil {
			t.Error(err)
		}
	})
	c, err := newCluster(name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// sharedCluster is the one that most tests use: a node of each place, with the
// box image.
var sharedCluster = sync.OnceValues(func() (*cluster, error) {
	c, err := newCluster("shared")
	if err != nil {
		return nil, err
	}
	for _, a := range []struct {
		name  string
		place lab.Place
	}{{"near", lab.Near}, {"far", lab.Far}, {"hidden", lab.Hidden}} {
		if _, err := c.startAgent(a.name, a.place); err != nil {
			return nil, err
		}
	}
	return c, c.settle()
})

// awaitAPI waits until the server answers.
func (c *cluster) awaitAPI() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := await.Try(ctx, func() (err error) {
		if done, err := c.server.Ended(); done {
			return fmt.Errorf("%w: server ended: %w: see %s", await.ErrGiveUp, err, c.server.Log())
		}
		if c.client == nil {
			if c.client, c.config, err = c.server.Client(); err != nil {
				return err
			}
		}
		_, err = c.client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("wait for /readyz: %w", err)
	}
	return nil
}

// url is where agents find the server.
func (c *cluster) url() string { return fmt.Sprintf("https://%s:6443", c.server.Address) }

// token is the server's own.
func (c *cluster) token() (string, error) {
	data, err := os.ReadFile(filepath.Join(c.server.Host.ServerDir(), "token"))
	return strings.TrimSpace(string(data)), err
}

// startAgent makes a machine and lets it join with nothing but the server's
// address and token.
func (c *cluster) startAgent(name string, place lab.Place, args ...string) (*lab.Node, error) {
	n, err := c.Add(name, place)
	if err != nil {
		return nil, err
	}
	return n, c.startAgentOn(n, args...)
}

// startAgentOn is startAgent on a machine that is there.
func (c *cluster) startAgentOn(n *lab.Node, args ...string) error {
	token, err := c.token()
	if err != nil {
		return err
	}
	c.nodes = append(c.nodes, n)
	return n.Start(append([]string{"agent", "--server", c.url(), "--token", token}, args...)...)
}

// settle waits until every node is Ready and gives each the tests' image.
func (c *cluster) settle() error {
	for _, n := range c.nodes {
		if err := c.awaitNode(n, nodeReady); err != nil {
			return err
		}
		if err := importBox(n); err != nil {
			return err
		}
	}
	return nil
}

// awaitNode waits until the condition holds for a node whose skiff runs.
func (c *cluster) awaitNode(n *lab.Node, condition func(*corev1.Node) bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ctx, stop := n.While(ctx)
	defer stop()
	_, err := await.Object(ctx, c.client.CoreV1().Nodes(), nil, n.Name, condition)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return err
}

func nodeReady(n *corev1.Node) bool { return nodeCondition(n) == corev1.ConditionTrue }

// nodeCondition is what is known of the node's readiness.
func nodeCondition(n *corev1.Node) corev1.ConditionStatus {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status
		}
	}
	return ""
}

// importBox gives the node the tests' image.
func importBox(n *lab.Node) error {
	archive, err := os.Open(boxArchive())
	if err != nil {
		return err
	}
	defer archive.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := n.Skiff(ctx, "images", "import", "-")
	cmd.Stdin = archive
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", cmd, err, out)
	}
	return nil
}

// output runs a command and returns what it wrote, errors too.
func output(cmd *exec.Cmd, in io.Reader) (string, error) {
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &out
	err := cmd.Run()
	return out.String(), err
}
