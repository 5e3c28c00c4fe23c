package cluster

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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

// While no server answers, Pods, Services and names go on, also on a node whose
// agent starts anew meanwhile; nothing is restarted when the server is back.
func TestServerGone(t *testing.T) {
	c := ownCluster(t)
	var near, far *lab.Node
	near, err := c.startAgent("near", lab.Near)
	if err == nil {
		far, err = c.startAgent("far", lab.Far)
	}
	if err == nil {
		err = c.settle()
	}
	if err != nil {
		t.Fatal(err)
	}
	s := c.session(t)
	for _, n := range []*lab.Node{near, far} {
		s.create(marked(n.Name, n.Name))
	}
	s.create(marked("mortal", "far"))
	ips := map[string]string{}
	before := map[string]int{}
	for _, name := range []string{"near", "far", "mortal"} {
		ips[name] = s.awaitPod(name, podReady).Status.PodIP
		before[name] = s.markedProcess(name)
	}
	s.apply(webService)
	service, err := s.client.CoreV1().Services(s.namespace).Get(s.ctx, "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	name := "web." + s.namespace + ".svc.cluster.local"
	works := func(n *lab.Node) {
		t.Helper()
		s.retry(func() error {
			if got, err := lookup(n, name); err != nil || got != service.Spec.ClusterIP {
				return fmt.Errorf("%s is %q on %s: %w", name, got, n.Name, err)
			}
			return nil
		})
		missing := map[string]bool{"near": true, "far": true, "mortal": true}
		s.retry(func() error {
			body, err := page(n, "http://"+service.Spec.ClusterIP)
			if err != nil {
				return err
			}
			who, _, _ := strings.Cut(body, " ")
			delete(missing, who)
			if len(missing) > 0 {
				return fmt.Errorf("from %s, no answer of %v", n.Name, missing)
			}
			return nil
		})
	}
	works(near)
	works(far)

	t.Log("the server is gone")
	if err := s.server.Stop(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	works(near)
	works(far)
	t.Log("an agent starts anew")
	if err := far.Stop(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := far.Start("agent", "--server", s.url()); err != nil {
		t.Fatal(err)
	}
	works(far)
	t.Log("what ends is restarted all the same")
	if err := unix.Kill(before["mortal"], unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.retry(func() error {
		now, err := markedProcesses("mortal")
		if err == nil && (len(now) != 1 || now[0] == before["mortal"]) {
			err = fmt.Errorf("processes %v, before %v", now, before["mortal"])
		}
		return err
	})
	works(near)
	works(far)
	if away := slowly(); away > 0 {
		t.Logf("for %v", away)
		<-time.After(away)
		works(near)
		works(far)
	}

	t.Log("the server is back")
	if err := s.server.Start("server"); err != nil {
		t.Fatal(err)
	}
	if err := s.awaitAPI(); err != nil {
		t.Fatal(err)
	}
	p := s.awaitPod("mortal", func(p *corev1.Pod) bool { return podReady(p) && p.Status.ContainerStatuses[0].RestartCount == 1 })
	if p.Status.PodIP != ips["mortal"] {
		t.Errorf("the Pod's address was %s and is %s", ips["mortal"], p.Status.PodIP)
	}
	for _, n := range s.nodes {
		s.awaitNodeFor(patience, n.Name, nodeReady)
	}
	s.create(pod("later", "far"))
	s.awaitPod("later", podReady)
	for _, name := range []string{"near", "far"} {
		now, err := markedProcesses(name)
		if err != nil || !slices.Equal(now, []int{before[name]}) {
			t.Errorf("%s: processes %v, before %v, %v", name, now, before[name], err)
		}
		if p := s.awaitPod(name, podReady); p.Status.ContainerStatuses[0].RestartCount != 0 || p.Status.PodIP != ips[name] {
			t.Errorf("%s: %d restarts, address %s, was %s", name, p.Status.ContainerStatuses[0].RestartCount, p.Status.PodIP, ips[name])
		}
	}
}

// slowVariable makes the tests take the time that they claim: make test-cluster.
const slowVariable = "SKIFF_TEST_SLOW"

// slowly is how long a server stays away beyond what a test needs anyway.
func slowly() time.Duration {
	if os.Getenv(slowVariable) == "" {
		return 0
	}
	return 70 * time.Second
}

// lookup asks the cluster's DNS on the node.
func lookup(n *lab.Node, name string) (string, error) {
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return n.Dial(ctx, "tcp", "10.43.0.10:53")
	}}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	found, err := resolver.LookupHost(ctx, name+".")
	return strings.Join(found, " "), err
}

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
