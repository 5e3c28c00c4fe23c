package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/skiff-sh/skiff/e2e/process"
)

// nodes are those of the cluster: specs about scheduling and endpoints need two.
var nodes = []string{"server", "node-2"}

// cluster is that of e2e/cluster/run, below build/conformance.
type cluster struct {
	place
	program string // what starts and stops it
	begun   bool   // there may be something to stop

	mirror  *http.Server // of the images
	serving sync.WaitGroup
	closers []func() error
}

func (c *cluster) dir() string        { return c.built("cluster") }
func (c *cluster) skiff() string      { return c.built("skiff") }
func (c *cluster) kubeconfig() string { return filepath.Join(c.data(nodes[0]), "kubeconfig.yaml") }

func (c *cluster) data(node string) string { return filepath.Join(c.dir(), "nodes", node, "data") }

// inside is a command in the server's network, from where Pods and Services can
// be reached, too.
func (c *cluster) inside(ctx context.Context, args ...string) *exec.Cmd {
	net := "--net=" + filepath.Join(c.dir(), "net", nodes[0])
	return gentle(exec.CommandContext(ctx, "nsenter", append([]string{net, "--"}, args...)...))
}

// start starts the cluster, after removing what a run that was killed has left.
func (c *cluster) start(ctx context.Context) error {
	c.program = c.built("make-cluster")
	build := exec.CommandContext(ctx, "go", "build", "-tags", "grpcnotrace", "-buildvcs=false", "-o", c.program, "./e2e/cluster/run")
	if said, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", build, err, said)
	}
	if err := c.takeSkiff(); err != nil {
		return err
	}
	c.begun = true
	if err := c.run(ctx, "stop"); err != nil {
		return err
	}
	registries := c.built("registries.yaml")
	if err := os.WriteFile(registries, []byte(mirrorSettings), 0o644); err != nil {
		return err
	}
	return c.run(ctx, "start", "-nodes", fmt.Sprint(len(nodes)), "-registries", registries)
}

// takeSkiff copies the executable, which a build may replace meanwhile.
func (c *cluster) takeSkiff() error {
	from, err := process.Skiff()
	if err != nil {
		return err
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.Remove(c.skiff()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.WriteFile(c.skiff(), data, 0o755)
}

// stop stops the cluster if start was called, also when the context has ended.
// The nodes' logs stay.
func (c *cluster) stop() error {
	if !c.begun {
		return nil
	}
	if err := c.stopMirror(); err != nil {
		return err
	}
	for _, node := range nodes {
		from := filepath.Join(c.dir(), "nodes", node, "log")
		if err := os.Rename(from, c.built(node+".log")); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return c.run(context.Background(), "stop")
}

func (c *cluster) run(ctx context.Context, args ...string) error {
	cmd := gentle(exec.CommandContext(ctx, c.program, args...))
	cmd.Env = append(os.Environ(), "SKIFF_CLUSTER_DIR="+c.dir(), "SKIFF_BIN="+c.skiff())
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", cmd, err, said)
	}
	return nil
}

// importImages gives every node the images, which is quicker than to pull them.
func (c *cluster) importImages(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, node := range nodes {
		g.Go(func() error {
			cmd := gentle(exec.CommandContext(ctx, c.skiff(),
				"images", "import", "--data-dir", c.data(node), c.built(archive)))
			if said, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("%s: %w: %s", cmd, err, said)
			}
			return nil
		})
	}
	return g.Wait()
}

// gentle has a command asked to end, once, when its context ends, also where a
// terminal interrupts everything that runs in it, and leaves it time to do so.
func gentle(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = time.Minute
	return cmd
}
