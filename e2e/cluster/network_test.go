package cluster

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/e2e/cluster/lab"
)

// Every Pod reaches every other, on each pair of places: streams of several
// megabytes, datagrams that fit and datagrams that go in pieces; and sees its
// address as it is.
func TestPodsAcrossAllPairs(t *testing.T) {
	s := shared(t)
	pods := s.onEachNode()
	var all []string
	for _, n := range s.nodes {
		all = append(all, pods[n.Name].Status.PodIP)
	}
	for _, n := range s.nodes {
		out, err := s.try("exec", n.Name, "--", "box", "reach", all[0], all[1], all[2], all[3])
		t.Logf("from %s:\n%s", n.Name, out)
		if err != nil {
			t.Errorf("from %s: %v", n.Name, err)
		}
		for _, other := range s.nodes {
			if other == n {
				continue
			}
			seen := s.exec(n.Name, "box get http://"+pods[other.Name].Status.PodIP+":8080")
			if want := other.Name + " " + pods[n.Name].Status.PodIP; seen != want {
				t.Errorf("%s answers %q to %s, want %q", other.Name, seen, n.Name, want)
			}
		}
	}
	t.Log("a node reaches every Pod too")
	for _, n := range s.nodes {
		for _, other := range s.nodes {
			if got, err := page(n, "http://"+pods[other.Name].Status.PodIP+":8080"); err != nil || !strings.HasPrefix(got, other.Name+" ") {
				t.Errorf("from node %s to the Pod on %s: %q %v", n.Name, other.Name, got, err)
			}
		}
	}
}

// A link that carries less than others is no trouble, on either side of it.
func TestNarrowLink(t *testing.T) {
	c := ownCluster(t)
	far, err := c.Add("far", lab.Far)
	if err == nil {
		err = far.Narrow(1400)
	}
	if err == nil {
		err = c.startAgentOn(far)
	}
	if err == nil {
		_, err = c.startAgent("hidden", lab.Hidden)
	}
	if err == nil {
		err = c.settle()
	}
	if err != nil {
		t.Fatal(err)
	}
	s := c.session(t)
	s.reaches(s.onEachNode())
}

const webService = `
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: ask, port: 81, targetPort: 8081, protocol: UDP}`

// Services and names are the same on every node, and lead to every node.
func TestServicesOverAllNodes(t *testing.T) {
	s := shared(t)
	pods := s.onEachNode()
	s.apply(webService)
	service, err := s.client.CoreV1().Services(s.namespace).Get(s.ctx, "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ip, port, udpPort := service.Spec.ClusterIP, service.Spec.Ports[0].NodePort, service.Spec.Ports[1].NodePort
	for _, n := range s.nodes {
		t.Run(n.Name, func(t *testing.T) {
			t.Log("every endpoint answers in turn")
			missing := map[string]bool{}
			for name := range pods {
				missing[name] = true
			}
			s.retry(func() error {
				body, err := page(n, "http://"+ip)
				if err != nil {
					return err
				}
				name, _, _ := strings.Cut(body, " ")
				delete(missing, name)
				if len(missing) > 0 {
					return fmt.Errorf("no answer from %v yet", missing)
				}
				return nil
			})
			for name, want := range map[string]string{
				"web": ip, "web." + s.namespace + ".svc.cluster.local": ip, "kubernetes.default": "10.43.0.1",
			} {
				if got := strings.TrimSpace(s.exec(n.Name, "box lookup "+name)); got != want {
					t.Errorf("%s is %q, want %s", name, got, want)
				}
			}
			if out := s.exec(n.Name, "box udp web:81 hello; box get http://web"); !strings.Contains(out, " hello\n") {
				t.Errorf("by name: %s", out)
			}
			for _, at := range s.nodes {
				if at.Name == "hidden" && n != at {
					continue // nobody reaches its address
				}
				script := fmt.Sprintf("box get http://%[1]s:%[2]d && box udp %[1]s:%[3]d hello", at.Address, port, udpPort)
				if out, err := s.try("exec", n.Name, "--", "sh", "-c", script); err != nil || !strings.Contains(out, " hello") {
					t.Errorf("node port at %s: %v %s", at.Name, err, out)
				}
			}
		})
	}

	t.Log("the API, as Pods know it")
	for _, n := range s.nodes {
		if got := s.exec(n.Name, "box api GET /version"); !strings.Contains(got, "200") {
			t.Errorf("the API answers %s with %s", n.Name, got)
		}
	}

	t.Log("a Pod that goes is gone from every node's Services")
	if err := s.pods().Delete(s.ctx, "far", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	s.awaitPod("far", nil)
	for _, n := range s.nodes {
		if n.Name == "far" {
			continue
		}
		s.retry(func() error { return noneAnswers(n, "http://"+ip, "far") })
	}
}

// noneAnswers asks a Service often enough for every endpoint to have its turn.
func noneAnswers(from *lab.Node, url, name string) error {
	for range 20 {
		body, err := page(from, url)
		if err != nil {
			return err
		}
		if strings.HasPrefix(body, name+" ") {
			return fmt.Errorf("%s still answers %s", name, from.Name)
		}
	}
	return nil
}
