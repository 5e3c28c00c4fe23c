package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/pki"
)

// running is a control plane without a node, on loopback.
type running struct {
	settings config.Server
	client   *kubernetes.Clientset
	stop     func() error
}

func settings(t *testing.T, dataDir string) config.Server {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	s := config.DefaultServer()
	s.DataDir = dataDir
	s.NodeName = "box"
	s.NodeIPs = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	s.BindAddress = loopback
	s.HTTPSListenPort = listener.Addr().(*net.TCPAddr).Port
	s.DisableAgent = true
	s.TLSSANs = []string{"box.example.org", "192.0.2.9"}
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	return s
}

// start runs a server until stop is called, at the latest when the test ends.
func start(t *testing.T, s config.Server) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, s, zap.NewNop()) }()
	r := &running{settings: s}
	stopped := false
	r.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-ended
	}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	if err := r.await(ended); err != nil {
		t.Fatal(err)
	}
	return r
}

// await returns when the server is ready, or with the reason why it will not be.
func (r *running) await(ended chan error) error {
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := r.connect()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the server does not become ready: %w", err)
		}
		select {
		case err := <-ended:
			ended <- err // for who stops it
			return fmt.Errorf("the server ended: %v", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (r *running) connect() error {
	c, err := clientcmd.BuildConfigFromFlags("", r.settings.WriteKubeconfig)
	if err != nil {
		return err
	}
	if r.client, err = kubernetes.NewForConfig(c); err != nil {
		return err
	}
	answer, err := r.client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(context.Background())
	if err == nil && string(answer) != "ok" {
		err = fmt.Errorf("/readyz says %q", answer)
	}
	return err
}

func TestServerFurnishesTheCluster(t *testing.T) {
	r := start(t, settings(t, t.TempDir()))
	ctx := t.Context()
	for _, c := range []struct {
		what string
		get  func() error
	}{
		{"namespace default", func() error {
			_, err := r.client.CoreV1().Namespaces().Get(ctx, "default", metav1.GetOptions{})
			return err
		}},
		{"namespace kube-system", func() error {
			_, err := r.client.CoreV1().Namespaces().Get(ctx, "kube-system", metav1.GetOptions{})
			return err
		}},
		{"namespace kube-public", func() error {
			_, err := r.client.CoreV1().Namespaces().Get(ctx, "kube-public", metav1.GetOptions{})
			return err
		}},
		{"namespace kube-node-lease", func() error {
			_, err := r.client.CoreV1().Namespaces().Get(ctx, "kube-node-lease", metav1.GetOptions{})
			return err
		}},
		{"endpoints of default/kubernetes", func() error {
			_, err := r.client.CoreV1().Endpoints("default").Get(ctx, "kubernetes", metav1.GetOptions{}) //nolint:staticcheck // clients still look for it
			return err
		}},
		{"slice of default/kubernetes", func() error {
			_, err := r.client.DiscoveryV1().EndpointSlices("default").Get(ctx, "kubernetes", metav1.GetOptions{})
			return err
		}},
		{"extension-apiserver-authentication", func() error {
			_, err := r.client.CoreV1().ConfigMaps("kube-system").Get(ctx, "extension-apiserver-authentication", metav1.GetOptions{})
			return err
		}},
		{"system-node-critical", func() error {
			_, err := r.client.SchedulingV1().PriorityClasses().Get(ctx, "system-node-critical", metav1.GetOptions{})
			return err
		}},
	} {
		if err := c.get(); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	for name, want := range map[string]string{"default/kubernetes": "10.43.0.1", "kube-system/kube-dns": "10.43.0.10"} {
		namespace, service, _ := strings.Cut(name, "/")
		got, err := r.client.CoreV1().Services(namespace).Get(ctx, service, metav1.GetOptions{})
		if err != nil || got.Spec.ClusterIP != want {
			t.Errorf("Service %s has address %v (%v), want %s", name, got.Spec.ClusterIP, err, want)
		}
	}
}

// A Deployment becomes Pods: the controllers run and are joined.
func TestDeploymentBecomesPods(t *testing.T) {
	r := start(t, settings(t, t.TempDir()))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	labels := map[string]string{"app": "web"}
	_, err := r.client.AppsV1().Deployments("default").Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(3)),
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "example.org/web:1"}}},
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := r.client.CoreV1().Pods("default").Watch(ctx, metav1.ListOptions{LabelSelector: "app=web"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	pending := map[string]bool{}
	for e := range w.ResultChan() {
		pod := e.Object.(*corev1.Pod)
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Reason == corev1.PodReasonUnschedulable && c.Message == "no nodes available to schedule pods" {
				pending[pod.Name] = true
			}
		}
		if len(pending) == 3 {
			return
		}
	}
	t.Fatalf("%d of 3 Pods were made and found unschedulable", len(pending))
}

func TestSecondServerIsToldWhoHoldsTheData(t *testing.T) {
	s := settings(t, t.TempDir())
	start(t, s)
	second := settings(t, s.DataDir)
	err := Run(t.Context(), second, zap.NewNop())
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("process %d holds the store", os.Getpid())) {
		t.Errorf("got %v", err)
	}
}

func TestPortInUse(t *testing.T) {
	s := settings(t, t.TempDir())
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", s.HTTPSListenPort))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	err = Run(t.Context(), s, zap.NewNop())
	if err == nil || !strings.Contains(err.Error(), "choose another with --https-listen-port") {
		t.Errorf("got %v", err)
	}
}

// What a server made is there after a restart: objects, authority, kubeconfig.
func TestRestart(t *testing.T) {
	s := settings(t, t.TempDir())
	r := start(t, s)
	_, err := r.client.CoreV1().ConfigMaps("default").Create(t.Context(),
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "kept"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(s.WriteKubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r = start(t, s)
	if _, err := r.client.CoreV1().ConfigMaps("default").Get(t.Context(), "kept", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	after, err := os.ReadFile(s.WriteKubeconfig)
	if err != nil || string(after) != string(before) {
		t.Errorf("the kubeconfig changed (%v)", err)
	}
}

func TestSecretsAreRootsAlone(t *testing.T) {
	s := settings(t, t.TempDir())
	start(t, s)
	err := filepath.WalkDir(filepath.Join(s.DataDir, "server"), func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err == nil && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o", path, info.Mode().Perm())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(s.WriteKubeconfig)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("kubeconfig: %v, %v", info.Mode().Perm(), err)
	}
}

func TestCertificateNames(t *testing.T) {
	s := settings(t, t.TempDir())
	k, err := openKeys(s, s.NodeIPs, pki.Clock{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"kubernetes", "kubernetes.default.svc.cluster.local", "localhost", "box", "box.example.org",
		"127.0.0.1", "::1", "10.43.0.1", "192.0.2.1", "192.0.2.9",
	} {
		if err := k.serving.Pair().Certificate.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
}

// TestMembersDirectory: an agent's keys and name are another cluster's.
func TestMembersDirectory(t *testing.T) {
	s := settings(t, t.TempDir())
	tls := filepath.Join(s.DataDir, "agent", "tls")
	if err := os.MkdirAll(tls, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tls, "server-ca.crt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := Run(t.Context(), s, zap.NewNop())
	if err == nil || !strings.Contains(err.Error(), s.DataDir+" is the data directory of an agent that has joined a cluster: run skiff agent, or ") {
		t.Errorf("it says %v", err)
	}
	if _, err := os.Stat(filepath.Join(s.DataDir, "server")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it has made a server's directory: %v", err)
	}
}
