package join_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/skiff-sh/skiff/internal/auth"
	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/join"
	"github.com/skiff-sh/skiff/internal/pki"
	"github.com/skiff-sh/skiff/internal/server"
)

var nodeAddress = netip.MustParseAddr("192.0.2.7")

// plane is a control plane in this process, without a node.
type plane struct {
	settings config.Server
	url      string
	client   *kubernetes.Clientset
	stop     func()
}

// startPlane runs a control plane on a data directory until the test ends or it
// is stopped.
func startPlane(t *testing.T, dataDir string) *plane {
	t.Helper()
	s := config.DefaultServer()
	s.DataDir, s.NodeName, s.DisableAgent = dataDir, "box", true
	s.NodeIPs = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	s.BindAddress = netip.MustParseAddr("127.0.0.1")
	s.HTTPSListenPort = freePort(t)
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	started := make(chan struct{})
	log := zap.NewNop().WithOptions(zap.WrapCore(func(zapcore.Core) zapcore.Core {
		return follower{zapcore.InfoLevel, func(e zapcore.Entry, _ string) {
			if e.Message == "server started" {
				close(started)
			}
		}}
	}))
	go func() { ended <- server.Run(ctx, s, log) }()
	p := &plane{settings: s, url: fmt.Sprintf("https://127.0.0.1:%d", s.HTTPSListenPort)}
	p.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the server ended: %v", err)
		}
	})
	t.Cleanup(p.stop)
	select {
	case <-started:
	case err := <-ended:
		ended <- err
		t.Fatal(err)
	}
	c, err := clientcmd.BuildConfigFromFlags("", s.WriteKubeconfig)
	if err == nil {
		p.client, err = kubernetes.NewForConfig(c)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

func (p *plane) authority(t *testing.T) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(p.settings.DataDir, "server", "tls", "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// ownToken is the server's own.
func (p *plane) ownToken(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(p.settings.DataDir, "server", "token"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// bootstrapToken makes a token as change would have it.
func (p *plane) bootstrapToken(t *testing.T, change func(*auth.BootstrapToken)) string {
	t.Helper()
	token := pki.NewBootstrapToken(p.authority(t))
	object := auth.BootstrapToken{ID: token.ID, Secret: token.Secret, Usages: []string{"authentication"}}
	if change != nil {
		change(&object)
	}
	secret := object.Object()
	if _, err := p.client.CoreV1().Secrets(secret.Namespace).Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return token.Text()
}

// requests are the names of the certificate requests there are, by their signers.
func (p *plane) requests(t *testing.T) map[string]int {
	t.Helper()
	list, err := p.client.CertificatesV1().CertificateSigningRequests().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, r := range list.Items {
		count[strings.TrimPrefix(r.Spec.SignerName, "kubernetes.io/")]++
	}
	return count
}

// machine returns what a machine joins with that has nothing but a token.
func machine(t *testing.T, servers []string, token string) join.Config {
	t.Helper()
	return join.Config{
		Host: config.NewHost(t.TempDir()), NodeName: "n1", Addresses: []netip.Addr{nodeAddress},
		Servers: servers, Token: token, Clock: pki.Clock{Now: time.Now}, Log: zap.NewNop(),
	}
}

// joins is Join for machines that must succeed.
func joins(t *testing.T, c join.Config) *join.Membership {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c.Log = zap.New(follower{zapcore.WarnLevel, func(e zapcore.Entry, err string) { t.Logf("%s: %s", e.Message, err) }})
	m, err := join.Join(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// verdict returns the error with which a machine's attempt ends, or what it says
// it waits for: then it begins with "waits: ".
func verdict(t *testing.T, c join.Config) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	said := ""
	c.Log = zap.New(follower{zapcore.WarnLevel, func(_ zapcore.Entry, err string) {
		said = err
		cancel()
	}})
	_, err := join.Join(ctx, c)
	switch {
	case err == nil:
		return "joined"
	case errors.Is(err, context.Canceled) && said != "":
		return "waits: " + said
	}
	return err.Error()
}

// follower is a log that tells each entry with its error.
type follower struct {
	zapcore.LevelEnabler
	tell func(e zapcore.Entry, err string)
}

func (f follower) With([]zapcore.Field) zapcore.Core { return f }

func (f follower) Check(e zapcore.Entry, c *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if f.Enabled(e.Level) {
		return c.AddCore(e, f)
	}
	return c
}

func (f follower) Write(e zapcore.Entry, fields []zapcore.Field) error {
	for _, field := range fields {
		if err, ok := field.Interface.(error); ok {
			f.tell(e, err.Error())
			return nil
		}
	}
	f.tell(e, "")
	return nil
}

func (f follower) Sync() error { return nil }

// impostor is a server with an authority of its own. It answers at /cacerts with
// authority and remembers every secret that it is given.
type impostor struct {
	url     string
	own     pki.Pair
	answer  atomic.Pointer[http.HandlerFunc]
	mu      sync.Mutex
	secrets []string
}

func startImpostor(t *testing.T, names []string, answer http.HandlerFunc) *impostor {
	t.Helper()
	clock := pki.Clock{Now: time.Now}
	own, err := pki.NewAuthority("impostor", clock)
	if err != nil {
		t.Fatal(err)
	}
	i := &impostor{own: own}
	i.serve(answer)
	i.url = serveTLS(t, own, names, func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		for _, header := range []string{"Authorization", "Cookie"} {
			if value := r.Header.Get(header); value != "" {
				i.secrets = append(i.secrets, value)
			}
		}
		if len(r.TLS.PeerCertificates) > 0 {
			i.secrets = append(i.secrets, "certificate of "+r.TLS.PeerCertificates[0].Subject.CommonName)
		}
		i.mu.Unlock()
		(*i.answer.Load())(w, r)
	})
	return i
}

// serve replaces the answer.
func (i *impostor) serve(answer http.HandlerFunc) { i.answer.Store(&answer) }

func (i *impostor) check(t *testing.T) {
	t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.secrets) > 0 {
		t.Errorf("it was given %q", i.secrets)
	}
}

// serveTLS serves on loopback with a certificate of the authority.
func serveTLS(t *testing.T, authority pki.Pair, names []string, handler http.HandlerFunc) (url string) {
	t.Helper()
	leaf, err := authority.Issue(pki.Subject{
		CommonName: "skiff-server", Names: names, Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Server: true,
	}, pki.Clock{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{leaf.TLS()}, ClientAuth: tls.RequestClientCert})
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{Handler: handler, ErrorLog: zap.NewStdLog(zap.NewNop())}
	var running sync.WaitGroup
	running.Go(func() { _ = web.Serve(listener) })
	t.Cleanup(func() {
		web.Close()
		running.Wait()
	})
	return "https://" + listener.Addr().String()
}

func answerWith(body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }
}

// closedURL is of a server that does not run.
func closedURL(t *testing.T) string { return fmt.Sprintf("https://127.0.0.1:%d", freePort(t)) }

// serveHTTP is a server that does not speak TLS.
func serveHTTP(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{Handler: http.NotFoundHandler()}
	var running sync.WaitGroup
	running.Go(func() { _ = web.Serve(listener) })
	t.Cleanup(func() {
		web.Close()
		running.Wait()
	})
	return "https://" + listener.Addr().String()
}

func hostOf(p *plane) config.Host { return config.NewHost(p.settings.DataDir) }

// free makes a node's name nobody's.
func free(t *testing.T, p *plane, name string) {
	t.Helper()
	err := p.client.CoreV1().Secrets("kube-system").Delete(t.Context(), name+".node-key.skiff", metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
}

var (
	someTime  = regexp.MustCompile(`on 20\d\d-\d\d-\d\dT[0-9:]+Z`)
	someDay   = regexp.MustCompile(`on 20\d\d-\d\d-\d\d\b`)
	someToken = regexp.MustCompile(`bootstrap token [a-z0-9]{6}\b`)
)

// anonymous replaces what is another each time.
func anonymous(text string, c join.Config) string {
	for i, server := range c.Servers {
		mark := "SERVER"
		if i > 0 {
			mark = "SECOND"
		}
		text = strings.ReplaceAll(text, server, mark)
		text = strings.ReplaceAll(text, strings.TrimPrefix(server, "https://"), "HOST")
	}
	text = someToken.ReplaceAllString(text, "bootstrap token TOKEN")
	text = someTime.ReplaceAllString(text, "on TIME")
	text = someDay.ReplaceAllString(text, "on DAY")
	return strings.ReplaceAll(text, c.Host.DataDir, "DIR")
}

type zapEntry = zapcore.Entry

// run runs a part until the test ends or it is stopped.
func run(t *testing.T, part func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- part(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// registerNode makes or updates a machine's Node, as its agent would.
func registerNode(t *testing.T, m *join.Membership, address netip.Addr) {
	t.Helper()
	nodes := m.API().CoreV1().Nodes()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address.String()}}
	_, err := nodes.Create(t.Context(), node, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		patch := fmt.Sprintf(`{"status":{"addresses":[{"type":"InternalIP","address":%q}]}}`, address)
		_, err = nodes.Patch(t.Context(), "n1", types.MergePatchType, []byte(patch), metav1.PatchOptions{}, "status")
	}
	if err != nil {
		t.Fatal(err)
	}
}
