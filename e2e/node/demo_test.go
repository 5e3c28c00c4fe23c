package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/e2e/box"
	"github.com/skiff-sh/skiff/internal/netns"
)

// What make demo and make demo-stop do, on a machine of its own.
func TestDemoScript(t *testing.T) {
	m := ownMachine(t)
	env := []string{
		"SKIFF_BIN=" + skiff, "SKIFF_DEMO_DIR=" + m.host.DataDir, "bash", "../../scripts/demo.sh",
	}
	out, err := m.run(nil, "env", append(env, "start")...)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{
		`deployment "hello" successfully rolled out`, "control-plane", "Hello from Pod hello-",
		"From nothing to an answer from a Pod:", "make demo-stop",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the demo does not say %q:\n%s", want, out)
		}
	}
	if out, err := m.run(nil, "env", append(env, "stop")...); err != nil || !strings.Contains(out, "The demo is gone.") {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := os.Stat(m.host.DataDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the demo's data are left: %v", err)
	}
}

// The whole path: from a manifest to an answer from a container.
func TestDemo(t *testing.T) {
	c := shared(t)
	manifest, err := c.run(nil, skiff, "hello")
	if err != nil {
		t.Fatal(manifest)
	}
	c.apply(manifest)
	c.mustContain(c.kubectl("rollout", "status", "deployment/hello", "--timeout=60s"), "successfully rolled out")
	service := c.service("hello")
	url := "http://" + service.Spec.ClusterIP
	c.mustContain(c.awaitPage(url), "hello-")

	t.Log("from a Pod, by name")
	_, answer := c.finish(once("client", "box get http://hello"))
	c.mustContain(answer, "hello-")

	t.Log("through a node port, from the machine and from its neighbour")
	c.kubectl("patch", "service", "hello", "-p", `{"spec":{"type":"NodePort"}}`)
	port := c.service("hello").Spec.Ports[0].NodePort
	url = fmt.Sprintf("http://%s:%d", nodeAddress, port)
	c.mustContain(c.awaitPage(url), "hello-")
	answer, err = page(outsideClient(), url)
	if err != nil {
		t.Fatal(err)
	}
	c.mustContain(answer, "hello-")
}

// The classic first walk.
func TestCreateDeploymentExposeCurl(t *testing.T) {
	c := shared(t)
	c.kubectl("create", "deployment", "web", "--image="+box.Image, "--replicas=2", "--port=8080")
	c.kubectl("expose", "deployment", "web", "--port=80", "--target-port=8080")
	c.kubectl("wait", "--for=condition=Available", "deployment/web", "--timeout=60s")
	url := "http://" + c.service("web").Spec.ClusterIP
	seen := map[string]bool{}
	c.retry(func() error { // both replicas answer
		body, err := page(c.httpClient(), url)
		if err != nil {
			return err
		}
		name, _, _ := strings.Cut(body, " ")
		seen[name] = true
		if len(seen) < 2 {
			return fmt.Errorf("only %v answered", seen)
		}
		return nil
	})
	for name := range seen {
		if !strings.HasPrefix(name, "web-") {
			t.Errorf("answer from %q", name)
		}
	}
}

func (c *cluster) service(name string) *corev1.Service {
	c.t.Helper()
	s, err := c.client.CoreV1().Services(c.namespace).Get(c.ctx, name, metav1.GetOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

// outsideClient connects from the shared machine's neighbour.
func outsideClient() *http.Client {
	return &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return netns.DialIn(ctx, outside(), network, address)
		},
	}}
}
