package node

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/e2e/box"
)

// A Pod that lies as a file in the node's directory runs, is shown by a mirror that comes
// back, and goes with its file.
func TestStaticPod(t *testing.T) {
	t.Parallel()
	c := ownCluster(t)
	nodes, err := c.client.CoreV1().Nodes().List(c.ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	name := "edge-" + nodes.Items[0].Name
	dir := filepath.Join(c.host.DataDir, "agent", "pod-manifests")
	write := func(word string) {
		t.Helper()
		text := fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: edge, namespace: %s}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: main, image: %q, command: [sh, -c, "echo %s; exec sleep 1000"]}]
`, c.namespace, box.Image, word)
		if err := os.WriteFile(dir+"/.new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(dir+"/.new", dir+"/edge.yaml"); err != nil {
			t.Fatal(err)
		}
	}
	write("first")
	p := c.awaitPod(name, podReady)
	c.awaitLog(name, "first\n")
	c.mustContain(c.exec(name, "hostname"), name)
	before := c.bystander(name)

	// Its mirror comes back, and the container does not notice; nor does it when skiff is
	// killed, and it runs while no server does.
	c.kubectl("delete", "pod", name, "--wait=false")
	c.awaitPod(name, func(now *corev1.Pod) bool { return now.UID != p.UID && podReady(now) })
	if _, err := c.signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := c.start(); err != nil {
		t.Fatal(err)
	}
	if after := c.bystander(name); after != before {
		t.Errorf("the process was %+v and is %+v", before, after)
	}

	// A file that says nothing harms nothing; another content is another Pod.
	if err := os.WriteFile(dir+"/broken.yaml", []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	write("second")
	c.awaitPod(name, func(now *corev1.Pod) bool {
		return podReady(now) && now.Annotations["kubernetes.io/config.hash"] != p.Annotations["kubernetes.io/config.hash"]
	})
	c.awaitLog(name, "second\n")
	if err := os.Remove(dir + "/edge.yaml"); err != nil {
		t.Fatal(err)
	}
	c.awaitPod(name, nil)
}
