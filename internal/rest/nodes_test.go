package rest

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/pki"
	"github.com/skiff-sh/skiff/internal/tunnel"
)

var wall = pki.Clock{Now: time.Now}

// nodeAPI listens for TLS with a certificate for a name, and returns a Node of
// another name that is said to be there.
func nodeAPI(t *testing.T, ca pki.Pair, certified, name string) *corev1.Node {
	t.Helper()
	pair, err := ca.Issue(pki.Subject{CommonName: "system:node:" + certified, Names: []string{certified}, Server: true,
		Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}, wall)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair.TLS()}})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.NotFoundHandler(), ErrorLog: zap.NewStdLog(zap.NewNop())}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(l)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "127.0.0.1"}}
	node.Status.DaemonEndpoints.KubeletEndpoint.Port = int32(l.Addr().(*net.TCPAddr).Port)
	return node
}

// A node is believed by its name: at its address too, which another may have by
// now. One without a tunnel is found at its address.
func TestNodesByName(t *testing.T) {
	ca, err := pki.NewAuthority("test", wall)
	if err != nil {
		t.Fatal(err)
	}
	hub, err := tunnel.NewHub(zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer hub.Close()
	direct := Direct{TLS: &tls.Config{RootCAs: ca.Pool()}}
	for name, nodes := range map[string]Nodes{
		"direct": direct, "own": Tunnels{Hub: hub, Direct: direct, Own: "b"}, "without a tunnel": Tunnels{Hub: hub, Direct: direct},
	} {
		conn, err := nodes.Dial(t.Context(), nodeAPI(t, ca, "b", "b"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		_ = conn.Close()
	}
	if _, err := direct.Dial(t.Context(), nodeAPI(t, ca, "a", "b")); err == nil || !strings.Contains(err.Error(), "certificate is valid for a, not b") {
		t.Errorf("a node with another's certificate: %v", err)
	}
}

// What a client is told of a node that nothing leads to, and when.
func TestNodeAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub, err := tunnel.NewHub(zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		defer hub.Close()
		nodes := Tunnels{Hub: hub, Direct: Direct{TLS: &tls.Config{}}, Own: "own"}
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "b"}}
		for _, c := range []struct {
			what    string
			dial    func(context.Context) (net.Conn, error)
			pause   time.Duration
			most    time.Duration
			message string
		}{
			{"its API, of a new server", func(ctx context.Context) (net.Conn, error) { return nodes.Dial(ctx, node) },
				0, 5 * time.Second, `node "b" has not connected to this server`},
			{"a Pod, later", func(ctx context.Context) (net.Conn, error) { return nodes.Inside(ctx, "b", "tcp", "192.0.2.1:80") },
				time.Minute, 0, `node "b" has not connected to this server`},
			{"its API, later", func(ctx context.Context) (net.Conn, error) { return nodes.Dial(ctx, node) },
				0, 0, `node "b" has not connected to this server`},
			{"this server's own", func(ctx context.Context) (net.Conn, error) {
				return nodes.Dial(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "own"}})
			}, 0, 0, "no preferred addresses found; known addresses: []"},
		} {
			time.Sleep(c.pause)
			began := time.Now()
			_, err := c.dial(t.Context())
			if took := time.Since(began); took > c.most || !strings.Contains(fmt.Sprint(err), c.message) {
				t.Errorf("%s: after %s: %v", c.what, took, err)
			}
		}
	})
}

func TestPublish(t *testing.T) {
	p := published{below: "/api/v1/namespaces/ns/pods/p/proxy"}
	r := &http.Request{URL: &url.URL{Scheme: "http", Host: "10.42.0.5:80"}, Host: "server:6443"}
	for location, want := range map[string]string{
		"/login":                         p.below + "/login",
		"/":                              p.below + "/",
		"/a/b/?c=d#e":                    p.below + "/a/b/?c=d#e",
		"a/b":                            "a/b",
		"?x=y":                           "?x=y",
		"http://10.42.0.5:80/login":      p.below + "/login",
		"https://server:6443/login":      "https://server:6443" + p.below + "/login",
		"https://elsewhere.example/":     "https://elsewhere.example/",
		p.below + "/there":               p.below + "/there",
		"http://10.42.0.5:8080/":         "http://10.42.0.5:8080/",
		"https://server:6443" + p.below:  "https://server:6443" + p.below,
		"http://10.42.0.5:80" + "/x%2Fy": p.below + "/x/y",
	} {
		u, err := url.Parse(location)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.publish(u, r).String(); got != want {
			t.Errorf("%s: %s, want %s", location, got, want)
		}
	}
}

func TestUpgrades(t *testing.T) {
	for _, c := range []struct {
		header []string
		want   bool
	}{{nil, false}, {[]string{"keep-alive"}, false}, {[]string{"Upgrade"}, true}, {[]string{"keep-alive, upgrade"}, true}, {[]string{"keep-alive", "Upgrade"}, true}} {
		if got := upgrades(&http.Request{Header: http.Header{"Connection": c.header}}); got != c.want {
			t.Errorf("%q: %t", c.header, got)
		}
	}
}
