package api

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/kubernetes"
	restclient "k8s.io/client-go/rest"

	"github.com/skiff-sh/skiff/embed/openapi"
	"github.com/skiff-sh/skiff/internal/admission"
	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/auth"
	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/pki"
	"github.com/skiff-sh/skiff/internal/rest"
	"github.com/skiff-sh/skiff/internal/state"
	"github.com/skiff-sh/skiff/internal/store/bolt"
)

// plane is a whole control plane in this process.
type plane struct {
	t       testing.TB
	ca      pki.Pair
	serving pki.Pair
	address string // host:port, the same after a restart
	nodes   rest.Nodes
	now     func() time.Time // of timestamps and ages; nil is the clock's
	detect  bool             // changes of shared objects: benchmarks go without

	file    string
	engine  *bolt.Engine
	state   *state.State
	tokens  *auth.Tokens
	api     *api.API
	handler *rest.Handler
	server  *http.Server
	served  chan struct{}
}

// clock is the machine's.
var clock = pki.Clock{Now: time.Now}

// start returns a running control plane with the namespace default and its
// service account.
func start(t testing.TB, nodes rest.Nodes) *plane {
	t.Helper()
	return startAt(t, nodes, nil)
}

// startAt is start with a clock for timestamps and ages.
func startAt(t testing.TB, nodes rest.Nodes, now func() time.Time) *plane {
	t.Helper()
	_, test := t.(*testing.T)
	p := &plane{t: t, nodes: nodes, now: now, detect: test, address: "127.0.0.1:0", file: filepath.Join(t.TempDir(), "state.db")}
	var err error
	if p.ca, err = pki.NewAuthority("test", clock); err != nil {
		t.Fatal(err)
	}
	p.serving, err = p.ca.Issue(pki.Subject{CommonName: "server", Server: true, Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}, clock)
	if err != nil {
		t.Fatal(err)
	}
	p.open()
	t.Cleanup(p.close)
	p.furnish()
	return p
}

// open starts everything over the plane's file.
func (p *plane) open() {
	p.t.Helper()
	log := zaptest.NewLogger(p.t, zaptest.Level(zap.ErrorLevel))
	var err error
	if p.engine, err = bolt.Open(p.file, bolt.Options{}); err != nil {
		p.t.Fatal(err)
	}
	if p.state, err = state.Open(context.Background(), p.engine, kind.All, state.Options{DetectMutation: p.detect}); err != nil {
		p.t.Fatal(err)
	}
	p.tokens = must(auth.NewTokens(auth.TokensConfig{Key: p.ca.Key, State: p.state}))(p.t)
	p.api = api.New(api.Config{
		State: p.state, Admission: admission.New(p.state), Log: log, Tokens: p.tokens, Now: p.now,
		ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.43.0.0/16")},
		NodePorts:    config.PortRange{First: 30000, Last: 32767},
	})
	settings := rest.Config{
		API: p.api, Kinds: kind.All, Log: log,
		Authenticator: auth.Union{auth.NewCertificates(p.ca.Pool(), time.Now), p.tokens},
		Authorizer:    auth.NewAuthorizer(p.state),
		Now:           p.now, Tokens: p.tokens.Review, JWKS: p.tokens.JWKS,
		OpenIDConfiguration: func() ([]byte, error) { return p.tokens.OpenIDConfiguration(p.address) },
		Version:             version.Info{Major: "1", Minor: "36", GitVersion: "v1.36.3+skiff1", Platform: "linux/amd64"},
		OpenAPI:             openapi.New(), Nodes: p.nodes,
		Checks: []rest.Check{{Name: "store", Live: true, Ask: func(context.Context) error { return nil }}},
		Panicked: func(value any, stack []byte) {
			p.t.Errorf("a request panicked: %v\n%s", value, stack)
		},
	}
	if way, ok := p.nodes.(rest.Tunnels); ok {
		settings.Inside, settings.Tunnel = way.Inside, way.Hub.Serve
	}
	p.handler = rest.New(settings)
	p.listen()
}

// listen serves the handler on the plane's address.
func (p *plane) listen() {
	p.t.Helper()
	listener, err := net.Listen("tcp", p.address)
	if err != nil {
		p.t.Fatal(err)
	}
	p.address = listener.Addr().String()
	p.server = &http.Server{
		Handler: p.handler,
		TLSConfig: &tls.Config{
			Certificates: []tls.Certificate{p.serving.TLS()},
			ClientAuth:   tls.RequestClientCert,
		},
	}
	served := make(chan struct{})
	p.served = served
	server := p.server
	go func() {
		defer close(served)
		if err := server.ServeTLS(rest.Listener(listener), "", ""); !errors.Is(err, http.ErrServerClosed) {
			p.t.Errorf("serve: %v", err)
		}
	}()
}

// hangUp ends all connections and waits for the server's end.
func (p *plane) hangUp() {
	_ = p.server.Close()
	<-p.served
	p.handler.Close()
}

// close ends the plane in order.
func (p *plane) close() {
	p.hangUp()
	if err := p.state.Close(); err != nil {
		p.t.Errorf("close state: %v", err)
	}
	if err := p.engine.Close(); err != nil {
		p.t.Errorf("close store: %v", err)
	}
}

// crash goes on with what the disk has at this moment, as after a power cut:
// what was only in memory is lost.
func (p *plane) crash() {
	p.t.Helper()
	data, err := os.ReadFile(p.file)
	if err != nil {
		p.t.Fatal(err)
	}
	p.close()
	p.file = filepath.Join(p.t.TempDir(), "state.db")
	if err := os.WriteFile(p.file, data, 0o600); err != nil {
		p.t.Fatal(err)
	}
	p.open()
}

// restart closes the plane in order and starts it again.
func (p *plane) restart() {
	p.t.Helper()
	p.close()
	p.open()
}

// furnish makes what controllers would have made.
func (p *plane) furnish() {
	p.t.Helper()
	client := p.client()
	for _, name := range []string{"default", "kube-system"} {
		must(client.CoreV1().Namespaces().Create(p.t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}))(p.t)
		must(client.CoreV1().ServiceAccounts(name).Create(p.t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{}))(p.t)
	}
}

// admin returns the configuration of a client that may do all.
func (p *plane) admin() *restclient.Config { return p.as("admin", auth.GroupMasters) }

// as returns the configuration of a client with a certificate.
func (p *plane) as(name string, groups ...string) *restclient.Config {
	p.t.Helper()
	pair, err := p.ca.Issue(pki.Subject{CommonName: name, Organizations: groups, Client: true}, clock)
	if err != nil {
		p.t.Fatal(err)
	}
	key, err := pair.KeyPEM()
	if err != nil {
		p.t.Fatal(err)
	}
	return &restclient.Config{
		Host: "https://" + p.address, QPS: -1,
		TLSClientConfig: restclient.TLSClientConfig{CAData: p.ca.CertificatePEM(), CertData: pair.CertificatePEM(), KeyData: key},
	}
}

// client returns a client that may do all.
func (p *plane) client() *kubernetes.Clientset {
	p.t.Helper()
	return must(kubernetes.NewForConfig(p.admin()))(p.t)
}

// must returns a value, or fails the test.
func must[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// httpClient returns a plain client that may do all.
func httpClient(p *plane) (*http.Client, error) { return restclient.HTTPClientFor(p.admin()) }
