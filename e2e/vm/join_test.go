//go:build vm

package vm

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/skiff-sh/skiff/e2e/await"
	"github.com/skiff-sh/skiff/e2e/box"
	"github.com/skiff-sh/skiff/e2e/cluster/lab"
	"github.com/skiff-sh/skiff/e2e/process"
)

// TestJoinFromThePast is a machine whose clock is two years behind and that
// nobody can call: it becomes a node of a server outside all the same, and says
// that its clock is wrong.
func TestJoinFromThePast(t *testing.T) {
	m := newMachine(t, "disk.img")
	server, client := startServer(t)
	token, err := os.ReadFile(filepath.Join(server.Host.ServerDir(), "token"))
	if err != nil {
		t.Fatal(err)
	}
	m.outside = server
	m.files = map[string]string{"token": string(token), "server": server.Address.String()}
	m.bootUntil(t, "join", 1024, "2024-11-21T12:00:00", "joined", func() {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		t.Run("node", func(t *testing.T) { joined(ctx, t, client) })
		t.Run("pod", func(t *testing.T) { runs(ctx, t, client, server) })
	})
}

// startServer starts a server in a lab that is gone after the test.
func startServer(t *testing.T) (*lab.Node, kubernetes.Interface) {
	t.Helper()
	skiff, err := process.Skiff()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := lab.Config{Dir: dir, Pins: filepath.Join(dir, "net") + "/", Skiff: skiff}
	t.Cleanup(func() {
		if err := lab.Remove(c); err != nil {
			t.Error(err)
		}
	})
	l, err := lab.New(c)
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Add("server", lab.Near)
	if err == nil {
		err = server.Start("server", "--disable-agent")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if log, err := os.ReadFile(server.Log()); t.Failed() {
			t.Logf("the server's log: %v\n%s", err, log)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var client kubernetes.Interface
	err = await.Try(ctx, func() (err error) {
		if client, _, err = server.Client(); err == nil {
			_, err = client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return server, client
}

// joined waits until the guest's node is Ready, and says that its clock is wrong.
func joined(ctx context.Context, t *testing.T, client kubernetes.Interface) {
	holds := map[corev1.NodeConditionType]string{} // its message
	_, err := await.Object(ctx, client.CoreV1().Nodes(), nil, "box", func(n *corev1.Node) bool {
		clear(holds)
		for _, c := range n.Status.Conditions {
			if c.Status == corev1.ConditionTrue {
				holds[c.Type] = c.Message
			}
		}
		return holds[corev1.NodeReady] != "" && holds["ClockSkew"] != ""
	})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(holds["ClockSkew"], "days") || !strings.Contains(holds["ClockSkew"], "behind the server's") {
		t.Errorf("of its clock it says %q", holds["ClockSkew"])
	}
}

// runs starts a Pod in the guest and asks for its log, the way in being the
// agent's own connection.
func runs(ctx context.Context, t *testing.T, client kubernetes.Interface, server *lab.Node) {
	pods := client.CoreV1().Pods(metav1.NamespaceDefault)
	_, err := pods.Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "box"},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "box", Image: box.Image, Command: []string{"sh", "-c", "echo it runs; exec sleep 1000000"},
		}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := await.Object(ctx, pods, nil, "box", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning }); err != nil {
		t.Fatal(err)
	}
	log, err := pods.GetLogs("box", &corev1.PodLogOptions{}).DoRaw(ctx)
	if err != nil || string(log) != "it runs\n" {
		t.Errorf("log %q, %v", log, err)
	}
	out, err := server.Skiff(ctx, "kubectl", "exec", "box", "--", "date", "+%Y").CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "2024" {
		t.Errorf("the year in the Pod: %q, %v", out, err)
	}
}
