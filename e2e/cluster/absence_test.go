package cluster

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/e2e/cluster/lab"
)

// outage is a cluster whose server goes away, with a Pod on each of two nodes and
// one more on far, all behind a Service.
type outage struct {
	*session
	near, far *lab.Node
	service   string // its address

	// Of each Pod, by name.
	addresses map[string]string
	processes map[string]int
}

func newOutage(t *testing.T) *outage {
	t.Helper()
	c := ownCluster(t)
	near, err := c.startAgent("near", lab.Near)
	if err != nil {
		t.Fatal(err)
	}
	far, err := c.startAgent("far", lab.Far)
	if err == nil {
		err = c.settle()
	}
	if err != nil {
		t.Fatal(err)
	}
	o := &outage{
		session: c.session(t), near: near, far: far,
		addresses: map[string]string{}, processes: map[string]int{},
	}
	for name, node := range map[string]string{"near": "near", "far": "far", "mortal": "far"} {
		o.create(marked(name, node))
		o.addresses[name] = o.awaitPod(name, podReady).Status.PodIP
		o.processes[name] = o.markedProcess(name)
	}
	o.apply(webService)
	service, err := o.client.CoreV1().Services(o.namespace).Get(o.ctx, "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	o.service = service.Spec.ClusterIP
	return o
}

// works sees that the Service has its name on the nodes, and all its endpoints.
func (o *outage) works(nodes ...*lab.Node) {
	o.t.Helper()
	name := "web." + o.namespace + ".svc.cluster.local"
	for _, n := range nodes {
		o.retry(func() error {
			if got, err := lookup(n, name); err != nil || got != o.service {
				return fmt.Errorf("%s is %q on %s: %w", name, got, n.Name, err)
			}
			return nil
		})
		missing := map[string]bool{"near": true, "far": true, "mortal": true}
		o.retry(func() error {
			body, err := page(n, "http://"+o.service)
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
}

// untouched sees that a Pod and its process are what they were.
func (o *outage) untouched(name string) {
	o.t.Helper()
	now, err := markedProcesses(name)
	if err != nil || !slices.Equal(now, []int{o.processes[name]}) {
		o.t.Errorf("%s: processes %v, before %d, %v", name, now, o.processes[name], err)
	}
	p := o.awaitPod(name, podReady)
	if restarts := p.Status.ContainerStatuses[0].RestartCount; restarts != 0 || p.Status.PodIP != o.addresses[name] {
		o.t.Errorf("%s: %d restarts, address %s, was %s", name, restarts, p.Status.PodIP, o.addresses[name])
	}
}

// While no server answers, Pods, Services and names go on, also on a node whose
// agent starts anew meanwhile; nothing is restarted when the server is back.
func TestServerGone(t *testing.T) {
	o := newOutage(t)
	o.works(o.near, o.far)

	t.Log("the server is gone")
	if err := o.server.Stop(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	o.works(o.near, o.far)
	t.Log("an agent starts anew")
	if err := o.far.Stop(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := o.far.Start("agent", "--server", o.url()); err != nil {
		t.Fatal(err)
	}
	o.works(o.far)
	t.Log("what ends is restarted all the same")
	if err := unix.Kill(o.processes["mortal"], unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	o.retry(func() error {
		now, err := markedProcesses("mortal")
		if err == nil && (len(now) != 1 || now[0] == o.processes["mortal"]) {
			err = fmt.Errorf("processes %v, before %d", now, o.processes["mortal"])
		}
		return err
	})
	o.works(o.near, o.far)
	if away := slowly(); away > 0 {
		t.Logf("for %v", away)
		<-time.After(away)
		o.works(o.near, o.far)
	}

	t.Log("the server is back")
	if err := o.server.Start("server"); err != nil {
		t.Fatal(err)
	}
	if err := o.awaitAPI(); err != nil {
		t.Fatal(err)
	}
	p := o.awaitPod("mortal", func(p *corev1.Pod) bool { return podReady(p) && p.Status.ContainerStatuses[0].RestartCount == 1 })
	if p.Status.PodIP != o.addresses["mortal"] {
		t.Errorf("the Pod's address was %s and is %s", o.addresses["mortal"], p.Status.PodIP)
	}
	for _, n := range o.nodes {
		o.awaitNodeFor(patience, n.Name, nodeReady)
	}
	o.create(pod("later", "far"))
	o.awaitPod("later", podReady)
	o.untouched("near")
	o.untouched("far")
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
