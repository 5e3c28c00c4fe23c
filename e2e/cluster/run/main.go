// Command run is make cluster and make cluster-stop: a server and agents on one
// machine, each in namespaces of its own, below build/cluster.
//
//	run start [-nodes N] [-nat] [-registries FILE]
//	run stop
//
// It needs root, iproute2, nftables and util-linux. What stop finds it removes,
// also after a start that failed; the machine's own network is not touched.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/skiff-sh/skiff/e2e/await"
	"github.com/skiff-sh/skiff/e2e/cluster/lab"
	"github.com/skiff-sh/skiff/e2e/process"
)

// pins is what `ip netns exec` finds the nodes' network namespaces by.
const pins = "/run/netns/skiff-cluster-"

// patience is how long a start may take.
const patience = 2 * time.Minute

const usage = "usage: run start [-nodes N] [-nat] [-registries FILE] | run stop"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if os.Geteuid() != 0 {
		return errors.New("making namespaces needs root: sudo make cluster")
	}
	if len(args) == 0 {
		return errors.New(usage)
	}
	c, err := place()
	if err != nil {
		return err
	}
	switch args[0] {
	case "start":
		flags := flag.NewFlagSet("start", flag.ContinueOnError)
		nodes := flags.Int("nodes", 3, "how many nodes, the server's too")
		nat := flags.Bool("nat", false, "put the last node behind a NAT that lets nothing in")
		registries := flags.String("registries", "", "registries.yaml of all nodes")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return start(c, *nodes, *nat, *registries)
	case "stop":
		if err := lab.Remove(c); err != nil {
			return err
		}
		fmt.Println("The cluster is gone.")
		return os.RemoveAll(c.Dir)
	}
	return errors.New(usage)
}

// place is where the cluster is: build/cluster, or SKIFF_CLUSTER_DIR with names
// of its own, and bin/skiff or SKIFF_BIN.
func place() (lab.Config, error) {
	dir, own := os.LookupEnv("SKIFF_CLUSTER_DIR")
	if !own {
		dir = "build/cluster"
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return lab.Config{}, err
	}
	skiff, err := process.Skiff()
	if err != nil {
		return lab.Config{}, err
	}
	c := lab.Config{Dir: dir, Pins: pins, Skiff: skiff}
	if own {
		c.Pins = filepath.Join(dir, "net") + "/"
	}
	return c, nil
}

// cluster is what start makes.
type cluster struct {
	*lab.Lab
	nodes  []*lab.Node // the server first
	client kubernetes.Interface
	args   []string // of every node
}

func start(config lab.Config, nodes int, nat bool, registries string) error {
	if nodes < 1 || nodes > 100 {
		return fmt.Errorf("%d nodes: expected 1 to 100", nodes)
	}
	if lab.Exists(config) {
		return errors.New("the cluster runs already, or something of it is left: make cluster-stop")
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	begin := time.Now()
	l, err := lab.New(config)
	c := &cluster{Lab: l}
	if registries != "" {
		c.args = []string{"--private-registry", registries}
	}
	for _, step := range []func() error{
		func() error { return err },
		func() error { return c.add(nodes, nat) },
		func() error { return c.startServer(ctx) },
		func() error { return c.startAgents(ctx) },
		func() error { return c.tell(time.Since(begin)) },
	} {
		if err := step(); err != nil {
			c.printLogs()
			return fmt.Errorf("%w\nmake cluster-stop removes what is there", err)
		}
	}
	return nil
}

// add makes the machines.
func (c *cluster) add(nodes int, nat bool) error {
	for i := range nodes {
		name, at := "server", lab.Near
		if i > 0 {
			name = fmt.Sprintf("node-%d", i+1)
			if nat && i == nodes-1 {
				at = lab.Hidden
			}
		}
		n, err := c.Add(name, at)
		if err != nil {
			return err
		}
		c.nodes = append(c.nodes, n)
	}
	return nil
}

func (c *cluster) startServer(ctx context.Context) error {
	server := c.nodes[0]
	fmt.Printf("Starting the server on %s …\n", server.Address)
	if err := server.Start(append([]string{"server"}, c.args...)...); err != nil {
		return err
	}
	err := await.Try(ctx, func() (err error) {
		if done, err := server.Ended(); done {
			return fmt.Errorf("%w: the server has ended: %w", await.ErrGiveUp, err)
		}
		if c.client, _, err = server.Client(); err != nil {
			return err
		}
		_, err = c.client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("wait for the API: %w", err)
	}
	return c.awaitReady(ctx, server)
}

func (c *cluster) startAgents(ctx context.Context) error {
	server := c.nodes[0]
	for _, n := range c.nodes[1:] {
		fmt.Printf("Starting %s on %s …\n", n.Name, n.Address)
		err := n.Start(append([]string{"agent", "--server", fmt.Sprintf("https://%s:6443", server.Address),
			"--token-file", filepath.Join(server.Host.ServerDir(), "token")}, c.args...)...)
		if err != nil {
			return err
		}
	}
	for _, n := range c.nodes[1:] {
		if err := c.awaitReady(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) awaitReady(ctx context.Context, n *lab.Node) error {
	ctx, stop := n.While(ctx)
	defer stop()
	_, err := await.Object(ctx, c.client.CoreV1().Nodes(), nil, n.Name, func(n *corev1.Node) bool {
		for _, condition := range n.Status.Conditions {
			if condition.Type == corev1.NodeReady {
				return condition.Status == corev1.ConditionTrue
			}
		}
		return false
	})
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// tell prints how to use the cluster.
func (c *cluster) tell(took time.Duration) error {
	server := c.nodes[0]
	kubectl := filepath.Join(c.Dir, "kubectl")
	// Only the network is the server's, so that files are found where one is.
	script := fmt.Sprintf("#!/bin/sh\nexport SKIFF_DATA_DIR=%s KUBECONFIG=%s\nexec nsenter --net=%s -- %s kubectl \"$@\"\n",
		server.Host.DataDir, server.Kubeconfig(), server.Pin(), c.Skiff)
	if err := os.WriteFile(kubectl, []byte(script), 0o755); err != nil {
		return err
	}
	out, err := server.Skiff(context.Background(), "kubectl", "get", "nodes", "-o", "wide").CombinedOutput()
	if err != nil {
		return fmt.Errorf("kubectl get nodes: %w: %s", err, out)
	}
	fmt.Printf(`%d nodes are Ready after %v.

%s
Go on with
  %s get pods -A -o wide
  nsenter --net=%s curl http://ADDRESS
  %s images import --data-dir %s ARCHIVE
and stop with
  make cluster-stop
Logs are %s.
`, len(c.nodes), took.Round(time.Millisecond), out, kubectl, server.Pin(), c.Skiff, filepath.Join(c.Dir, "nodes/NODE/data"), filepath.Join(c.Dir, "nodes/NODE/log"))
	return nil
}

// printLogs prints the last lines of every node's log.
func (c *cluster) printLogs() {
	for _, n := range c.nodes {
		log, err := os.ReadFile(n.Log())
		if err != nil {
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(log)), "\n")
		fmt.Fprintf(os.Stderr, "--- %s\n%s\n", n.Log(), strings.Join(lines[max(0, len(lines)-20):], "\n"))
	}
}
