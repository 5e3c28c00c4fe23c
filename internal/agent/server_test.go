package agent

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/config"
)

// authority signs client certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, key}
}

func (a authority) client(t *testing.T, subject pkix.Name) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: subject, NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.key}
}

// nodeAPI serves the node API of an agent with one Pod whose container "c" has
// run twice.
func nodeAPI(t *testing.T, change ...func(*Agent)) (*httptest.Server, authority) {
	t.Helper()
	host := config.NewHost(t.TempDir())
	a := &Agent{Config: Config{Host: host, NodeName: "n1", Client: (&reviewer{}).client(), Runtime: newFakeRuntime(), Kubelet: config.DefaultKubelet()}, durations: newDurations(), log: zaptest.NewLogger(t)}
	for _, fn := range change {
		fn(a)
	}
	pod := webPod()
	dir := filepath.Join(a.logDir("default", "web", string(pod.UID)), "c")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{"0.log": "first", "1.log": "second"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte("2026-01-01T00:00:00Z stdout F "+text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w := &worker{Agent: a, uid: string(pod.UID), pod: pod, exits: map[string]chan struct{}{}, status: newStatusWriter(nil, pod, a.log, a.durations.status)}
	w.reference = corev1.ObjectReference{Namespace: "default", Name: "web"}
	w.records = map[string]*record{"c": {
		Last:    &run{ContainerState: ContainerState{ID: "a", Attempt: 0, Phase: ContainerExited}},
		Current: &run{ContainerState: ContainerState{ID: "b", Attempt: 1, Phase: ContainerExited}},
	}}
	a.pods.workers = map[string]*worker{w.uid: w}
	ca := newAuthority(t)
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	server := httptest.NewUnstartedServer(a.handler())
	server.TLS = &tls.Config{ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server, ca
}

func get(t *testing.T, server *httptest.Server, cert *tls.Certificate, path string) (int, string) {
	t.Helper()
	config := server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	if cert != nil {
		config.Certificates = []tls.Certificate{*cert}
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := client.Get(server.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestNodeAPI(t *testing.T) {
	server, ca := nodeAPI(t)
	api := ca.client(t, pkix.Name{CommonName: apiServerClient, Organization: []string{"system:masters"}})
	node := ca.client(t, pkix.Name{CommonName: "system:node:n2", Organization: []string{"system:nodes"}})
	stranger := newAuthority(t).client(t, pkix.Name{CommonName: apiServerClient})
	for _, test := range []struct {
		name   string
		cert   *tls.Certificate
		path   string
		status int
		body   string
	}{
		{"nobody", nil, "/pods", 401, "Unauthorized\n"},
		{"another node", &node, "/pods", 403, "Forbidden (user=system:node:n2, verb=get, resource=nodes, subresource(s)=[pods proxy])\n"},
		{"health", &api, "/healthz", 200, "ok"},
		{"log", &api, "/containerLogs/default/web/c", 200, "second\n"},
		{"followed to its end", &api, "/containerLogs/default/web/c?follow=true", 200, "second\n"},
		{"previous", &api, "/containerLogs/default/web/c?previous=true&timestamps=true", 200, "2026-01-01T00:00:00Z first\n"},
		{"no such container", &api, "/containerLogs/default/web/x", 400, "container \"x\" in pod \"web\" is not available\n"},
		{"no such pod", &api, "/containerLogs/default/none/c", 400, "pod \"none\" in namespace \"default\" not found\n"},
		{"bad number", &api, "/containerLogs/default/web/c?tailLines=x", 422, "tailLines: \"x\" must be a number of at least 0\n"},
		{"nothing there", &api, "/elsewhere", 404, "404 page not found\n"},
	} {
		if status, body := get(t, server, test.cert, test.path); status != test.status || body != test.body {
			t.Errorf("%s: got %d %q", test.name, status, body)
		}
	}
	if status, body := get(t, server, &api, "/pods"); status != 200 || !strings.Contains(body, `"kind":"PodList"`) || !strings.Contains(body, `"name":"web"`) {
		t.Errorf("pods: %d %q", status, body)
	}
	config := server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	config.Certificates = []tls.Certificate{stranger}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	if resp, err := client.Get(server.URL + "/healthz"); err == nil {
		resp.Body.Close()
		if resp.StatusCode != 401 {
			t.Errorf("a stranger's certificate gets %d", resp.StatusCode)
		}
	}
}
