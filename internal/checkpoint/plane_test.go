package checkpoint_test

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/skiff-sh/skiff/internal/checkpoint"
	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/pki"
	"github.com/skiff-sh/skiff/internal/server"
	"github.com/skiff-sh/skiff/internal/uplink"
)

// plane is a control plane on loopback, which comes back on another port.
type plane struct {
	*testing.T
	dir      string
	settings config.Server
	stop     func()
}

func (p *plane) start(port int) {
	p.Helper()
	s := config.DefaultServer()
	s.DataDir, s.NodeName, s.DisableAgent = p.dir, "box", true
	s.NodeIPs = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	s.BindAddress, s.HTTPSListenPort = netip.MustParseAddr("127.0.0.1"), port
	if err := s.Validate(); err != nil {
		p.Fatal(err)
	}
	p.settings = s
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx, s, zap.NewNop()) }()
	p.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			p.Error(err)
		}
	}
	p.await("the API", func() bool {
		select {
		case err := <-ended:
			p.Fatalf("the server ended: %v", err)
		default:
		}
		client, err := p.admin()
		if err == nil {
			_, err = client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(context.Background())
		}
		return err == nil
	})
}

func (p *plane) admin() (kubernetes.Interface, error) {
	c, err := clientcmd.BuildConfigFromFlags("", p.settings.WriteKubeconfig)
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(c)
}

// await returns when something is so.
func (p *plane) await(what string, is func() bool) {
	p.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(30 * time.Second); !is(); {
		select {
		case <-deadline:
			p.Fatalf("%s: not within 30 s", what)
		case <-tick.C:
		}
	}
}

func (p *plane) create(name string) {
	p.Helper()
	client, err := p.admin()
	if err == nil {
		_, err = client.CoreV1().ConfigMaps("default").Create(context.Background(),
			&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	}
	if err != nil {
		p.Fatal(err)
	}
}

// follower is what a node knows of the ConfigMaps.
type follower struct {
	store  cache.Store
	synced func() bool
	client kubernetes.Interface
	up     *uplink.Uplink
	stop   func()
}

func (p *plane) follow(path string, ports ...int) follower {
	p.Helper()
	kubeconfig, err := clientcmd.BuildConfigFromFlags("", p.settings.WriteKubeconfig)
	if err != nil {
		p.Fatal(err)
	}
	pair, err := tls.X509KeyPair(kubeconfig.CertData, kubeconfig.KeyData)
	if err != nil {
		p.Fatal(err)
	}
	var servers []string
	for _, port := range ports {
		servers = append(servers, fmt.Sprintf("https://127.0.0.1:%d", port))
	}
	authority := x509.NewCertPool()
	authority.AppendCertsFromPEM(kubeconfig.CAData)
	up, err := uplink.New(uplink.Config{
		Servers: servers, Authority: authority, Clock: pki.Clock{Now: time.Now},
		Identity: pki.NewIdentity(pki.Pair{Certificate: pair.Leaf, Key: pair.PrivateKey.(crypto.Signer)}),
	})
	if err != nil {
		p.Fatal(err)
	}
	memory := checkpoint.Open(checkpoint.Config{Path: path, Cluster: "here", Next: up, Log: zaptest.NewLogger(p.T)})
	client, err := kubernetes.NewForConfig(&rest.Config{Host: up.URL(), Transport: memory, ContentConfig: rest.ContentConfig{
		ContentType: runtime.ContentTypeProtobuf, AcceptContentTypes: runtime.ContentTypeProtobuf,
	}})
	if err != nil {
		p.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- memory.Run(ctx) }()
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace("default"))
	informer := factory.Core().V1().ConfigMaps().Informer()
	factory.StartWithContext(ctx)
	return follower{store: informer.GetStore(), synced: informer.HasSynced, client: client, up: up, stop: func() {
		cancel()
		factory.Shutdown()
		if err := <-ended; err != nil {
			p.Error(err)
		}
		if err := memory.Close(); err != nil {
			p.Error(err)
		}
	}}
}

func (f follower) has(name string) func() bool {
	return func() bool {
		_, has, _ := f.store.GetByKey("default/" + name)
		return has
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// A server that goes and comes back elsewhere, on the same store: a node that
// runs, and one that starts meanwhile, miss nothing, and find it by the addresses
// they were told and have learned.
func TestServerMoves(t *testing.T) {
	first, second, third := freePort(t), freePort(t), freePort(t)
	p := &plane{T: t, dir: t.TempDir()}
	path := filepath.Join(t.TempDir(), "journal")
	p.start(first)
	p.create("a")
	f := p.follow(path, first, second)
	p.await("a", f.has("a"))

	p.stop()
	if _, err := f.client.CoreV1().ConfigMaps("default").Get(t.Context(), "a", metav1.GetOptions{}); err == nil || apierrors.IsNotFound(err) {
		t.Errorf("without a server, a read says %v", err)
	}
	p.start(second)
	p.create("b")
	p.await("b, from the second address", f.has("b"))
	f.up.Learn([]string{fmt.Sprintf("https://127.0.0.1:%d", third)})
	p.stop()
	f.stop()

	f = p.follow(path, first, second)
	p.await("what was known, without a server", func() bool { return f.synced() && f.has("a")() && f.has("b")() })
	f.up.Learn([]string{fmt.Sprintf("https://127.0.0.1:%d", third)})
	p.start(third)
	p.create("c")
	client, err := p.admin()
	if err == nil {
		err = client.CoreV1().ConfigMaps("default").Delete(t.Context(), "a", metav1.DeleteOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	p.await("c, from a learned address", f.has("c"))
	p.await("that a is gone", func() bool { return !f.has("a")() })
	if !f.has("b")() {
		t.Error("b is gone, too")
	}
	f.stop()
	p.stop()
}
