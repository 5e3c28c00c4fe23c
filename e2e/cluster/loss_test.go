package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/e2e/box"
	"github.com/skiff-sh/skiff/e2e/cluster/lab"
)

// lossPatience is how long it may take until a node that is not heard of counts
// as lost (40 s, as upstream), and its Pods are replaced.
const lossPatience = 100 * time.Second

// marked is a Pod whose container is known by a mark in its command line.
func marked(name, node string) *corev1.Pod {
	p := pod(name, node)
	p.Spec.Containers[0].Command = []string{"box", "serve", mark(name)}
	return p
}

// mark is in no other process's command line.
func mark(name string) string { return "mark-" + filepath.Base(base) + "-" + name }

// markedProcesses are those of a marked Pod's containers, on any node.
func markedProcesses(name string) ([]int, error) {
	all, err := filepath.Glob("/proc/[0-9]*")
	var pids []int
	for _, dir := range all {
		line, _ := os.ReadFile(dir + "/cmdline") // gone
		if !slices.Contains(strings.Split(string(line), "\x00"), mark(name)) {
			continue
		}
		var pid int
		if _, err := fmt.Sscanf(dir, "/proc/%d", &pid); err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, err
}

// markedProcess is that of a marked Pod that has just started.
func (s *session) markedProcess(name string) int {
	s.t.Helper()
	var pids []int
	s.retry(func() (err error) {
		if pids, err = markedProcesses(name); err == nil && len(pids) != 1 {
			err = fmt.Errorf("%s: processes %v, want one", name, pids)
		}
		return err
	})
	return pids[0]
}

// A node whose link is cut is lost: what ran there runs elsewhere, but nothing
// that has a name of its own runs twice; and when the node is back, what was
// replaced is gone from it.
func TestLinkCut(t *testing.T) {
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
	s.apply(fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      tolerations:
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 5}
      - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 5}
      containers:
      - {name: main, image: %s, command: [box, serve, %s]}`, box.Image, mark("web")))
	alone := marked("alone", "near")
	alone.Labels["app"] = "alone"
	seconds := int64(5)
	alone.Spec.Tolerations = []corev1.Toleration{
		{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds},
	}
	s.create(alone)
	s.awaitPod("alone", podReady)
	s.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
	s.kubectl("expose", "deployment", "web", "--port=80", "--target-port=8080")
	s.kubectl("uncordon", "server")
	old := s.markedProcess("web")

	if err := near.Cut(); err != nil {
		t.Fatal(err)
	}
	cut := time.Now()
	s.awaitNodeFor(lossPatience, "near", func(n *corev1.Node) bool { return nodeCondition(n) == corev1.ConditionUnknown })
	t.Logf("lost after %v", time.Since(cut).Round(time.Second))
	s.awaitPodFor(lossPatience, "", func(p *corev1.Pod) bool { return p.Spec.NodeName == "server" && podReady(p) })
	t.Logf("replaced after %v", time.Since(cut).Round(time.Second))
	service, err := s.client.CoreV1().Services(s.namespace).Get(s.ctx, "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		s.retry(func() error { _, err := page(s.server, "http://"+service.Spec.ClusterIP); return err })
	}
	p := s.awaitPod("alone", func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil })
	if again, err := s.client.CoreV1().Pods(s.namespace).Get(s.ctx, p.Name, metav1.GetOptions{}); err != nil {
		t.Errorf("its name is free while it may still run: %v", err)
	} else if again.UID != p.UID {
		t.Error("the name has another owner while the first may still run")
	}

	if err := near.Mend(); err != nil {
		t.Fatal(err)
	}
	mended := time.Now()
	s.awaitPod("alone", nil)
	s.awaitNodeFor(patience, "near", nodeReady)
	s.retry(func() error {
		now, err := markedProcesses("web")
		if err != nil || slices.Contains(now, old) {
			return fmt.Errorf("the replaced container still runs: %v, %w", now, err)
		}
		return nil
	})
	if left, err := markedProcesses("alone"); err != nil || len(left) > 0 {
		t.Errorf("processes %v of a Pod that is gone, %v", left, err)
	}
	t.Logf("all well %v after the link was mended", time.Since(mended).Round(time.Second))
	s.awaitNodeFor(patience, "near", func(n *corev1.Node) bool { return len(n.Spec.Taints) == 0 })
}
