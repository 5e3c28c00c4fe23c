package cluster

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skiff-sh/skiff/e2e/cluster/lab"
)

// What make cluster and make cluster-stop do, in a place of its own.
func TestMakeCluster(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(base, "labs", "made")
	config := lab.Config{Dir: dir, Pins: filepath.Join(dir, "net") + "/", Skiff: skiff}
	names := []string{"server", "node-2", "node-3"}
	program := filepath.Join(base, "make-cluster")
	build := exec.Command("go", "build", "-tags", "grpcnotrace", "-buildvcs=false", "-o", program, "./run")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", build, err, out)
	}
	run := func(skiff string, args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, program, args...)
		cmd.Env = append(os.Environ(), "SKIFF_CLUSTER_DIR="+dir, "SKIFF_BIN="+skiff)
		return output(cmd, nil)
	}
	gone := func() {
		t.Helper()
		left, err := lab.Leftovers(config, names...)
		if err != nil || len(left) > 0 {
			t.Errorf("left %q, %v", left, err)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s is left", dir)
		}
	}
	out, err := run(skiff, "start", "-nodes", "3", "-nat")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{"3 nodes are Ready", "192.168.77.", "make cluster-stop"} {
		if !strings.Contains(out, want) {
			t.Errorf("start does not say %q:\n%s", want, out)
		}
	}
	nodes, err := output(exec.Command(filepath.Join(dir, "kubectl"), "get", "nodes", "-o", "name"), nil)
	if err != nil || len(strings.Fields(nodes)) != 3 {
		t.Errorf("kubectl get nodes: %v: %s", err, nodes)
	}
	if out, err := run(skiff, "start"); err == nil || !strings.Contains(out, "make cluster-stop") {
		t.Errorf("a second start: %v: %s", err, out)
	}
	hello := exec.Command("sh", "-c", `"$1" hello | "$2" apply -f - && "$2" rollout status deployment/hello --timeout=60s`, "sh", skiff, filepath.Join(dir, "kubectl"))
	if out, err := output(hello, nil); err != nil {
		t.Errorf("hello: %v: %s", err, out)
	}
	for range 2 {
		if out, err := run(skiff, "stop"); err != nil {
			t.Errorf("stop: %v: %s", err, out)
		}
		gone()
	}

	t.Log("a start that fails leaves what stop removes")
	if out, err := run("/bin/false", "start"); err == nil || !strings.Contains(out, "make cluster-stop removes") {
		t.Errorf("a start of what is no skiff: %v: %s", err, out)
	}
	if out, err := run(skiff, "stop"); err != nil {
		t.Errorf("stop: %v: %s", err, out)
	}
	gone()
}
