package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/e2e/box"
	"github.com/skiff-sh/skiff/e2e/cluster/lab"
)

// staticPod is a file of a marked Pod that is asked at a port of its node.
func staticPod(namespace, word string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: static, namespace: %s}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: %q, command: [box, serve, %s], ports: [{containerPort: 8080, hostPort: 8081}]}
`, namespace, box.Image, mark(word))
}

// A node that starts while no server is to be reached, after a reboot even, runs the Pods
// that lie as files on it; their mirrors come when a server does.
func TestStaticPodsWithoutServer(t *testing.T) {
	c := ownCluster(t)
	edge, err := c.startAgent("edge", lab.Near)
	if err == nil {
		err = c.settle()
	}
	if err != nil {
		t.Fatal(err)
	}
	s := c.session(t)
	t.Log("the server is gone, and the node was off")
	if err := errors.Join(c.server.Stop(unix.SIGKILL), edge.Stop(unix.SIGTERM)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if out, err := output(edge.Skiff(ctx, "killall"), nil); err != nil {
		t.Fatalf("killall: %v: %s", err, out)
	}
	dir := filepath.Join(edge.Host.DataDir, "agent", "pod-manifests")
	write := func(word string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, ".new"), []byte(staticPod(s.namespace, word)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, ".new"), filepath.Join(dir, "static.yaml")); err != nil {
			t.Fatal(err)
		}
	}
	serves := func(word string) (process int) {
		t.Helper()
		process = s.markedProcess(word)
		s.retry(func() error {
			body, err := page(edge, fmt.Sprintf("http://%s:8081", edge.Address))
			if err == nil && !strings.HasPrefix(body, "static-edge ") {
				err = fmt.Errorf("the page is %q", body)
			}
			return err
		})
		return process
	}
	write("first")
	if err := edge.Start("agent", "--server", c.url()); err != nil {
		t.Fatal(err)
	}
	serves("first")
	t.Log("another file is another Pod")
	write("second")
	before := serves("second")

	t.Log("the server is back")
	if err := c.server.Start("server"); err != nil {
		t.Fatal(err)
	}
	if err := c.awaitAPI(); err != nil {
		t.Fatal(err)
	}
	p := s.awaitPod("static-edge", podReady)
	if n := p.Status.ContainerStatuses[0].RestartCount; n != 0 || p.Spec.NodeName != "edge" {
		t.Errorf("%d restarts, on %s", n, p.Spec.NodeName)
	}
	if now := s.markedProcess("second"); now != before {
		t.Errorf("process %d, before %d", now, before)
	}
	if err := os.Remove(filepath.Join(dir, "static.yaml")); err != nil {
		t.Fatal(err)
	}
	s.awaitPod("static-edge", nil)
}
