package cluster

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/e2e/cluster/lab"
)

// Leaving stops at what would be lost, or is not the node's to decide; force does
// not, and does without the servers too.
func TestLeaveAgainstOdds(t *testing.T) {
	c := ownCluster(t, "--disable-agent")
	near, err := c.startAgent("near", lab.Near)
	if err == nil {
		err = c.settle()
	}
	if err != nil {
		t.Fatal(err)
	}
	s := c.session(t)
	s.create(marked("lone", "near"))
	s.awaitPod("lone", podReady)
	refused := func(wants []string, args ...string) {
		t.Helper()
		out, err := near.Skiff(s.ctx, append([]string{"leave"}, args...)...).CombinedOutput()
		if err == nil {
			t.Fatalf("it has left: %s", out)
		}
		s.mustContain(string(out), wants...)
	}

	t.Log("an administrator's taint keeps it, before anything is done")
	s.kubectl("taint", "node", "near", "dedicated=db:NoSchedule")
	refused([]string{"the taint dedicated=db:NoSchedule", "leave with --force"})
	node, err := s.client.CoreV1().Nodes().Get(s.ctx, "near", metav1.GetOptions{})
	if err != nil || node.Spec.Unschedulable {
		t.Errorf("the node is cordoned already: %v", err)
	}
	s.kubectl("taint", "node", "near", "dedicated-")

	t.Log("a Pod that would be lost")
	refused([]string{"/lone: delete them, or lose them with --force", "kubectl uncordon near"})
	s.kubectl("uncordon", "near")

	t.Log("no server")
	if err := s.server.Stop(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	refused([]string{"leave without the servers with --force"})
	if left, err := markedProcesses("lone"); err != nil || len(left) == 0 {
		t.Fatalf("the container has ended: %v", err)
	}
	out, err := near.Skiff(s.ctx, "leave", "--force", "--timeout", "1s").CombinedOutput()
	if err != nil {
		t.Fatalf("skiff leave --force: %v: %s", err, out)
	}
	s.mustContain(string(out), "delete it with kubectl delete node near", "This machine has left the cluster.")
	if left, err := markedProcesses("lone"); err != nil || len(left) > 0 {
		t.Errorf("processes %v are left, %v", left, err)
	}
	s.retry(func() error {
		if done, _ := near.Ended(); !done {
			return errors.New("the agent still runs")
		}
		return nil
	})
	for _, name := range []string{"tls", "cluster.json", "checkpoint"} {
		if _, err := os.Stat(filepath.Join(near.Host.DataDir, "agent", name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is kept: %v", name, err)
		}
	}
	if log, err := os.ReadFile(near.Log()); err != nil || !strings.Contains(string(log), "left the cluster") {
		t.Errorf("the log does not say so: %v", err)
	}
}
