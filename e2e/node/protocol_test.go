package node

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// connection is one that became a stream, or was to: "exec websocket v5.channel.k8s.io".
type connection struct {
	subresource, upgrade, protocol string
	status                         int
}

func (c connection) String() string {
	return fmt.Sprintf("%s %s %s", c.subresource, c.upgrade, c.protocol)
}

// witness stands between a client and the server and notes what they agree on when
// a connection becomes a stream.
type witness struct {
	mu   sync.Mutex
	seen []connection
}

// note is of the answer to a request that asked for a stream.
func (w *witness) note(r *http.Response) error {
	if r.Request.Header.Get("Upgrade") == "" {
		return nil
	}
	c := connection{subresource: filepath.Base(r.Request.URL.Path), upgrade: strings.ToLower(r.Header.Get("Upgrade")), status: r.StatusCode}
	c.protocol = r.Header.Get("Sec-Websocket-Protocol") + r.Header.Get("X-Stream-Protocol-Version")
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, c)
	return nil
}

// taken are those since the last time.
func (w *witness) taken() []connection {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := w.seen
	w.seen = nil
	return seen
}

// witness puts one before the server for the test's commands.
func (c *cluster) witness() *witness {
	c.t.Helper()
	target, err := url.Parse(c.config.Host)
	if err != nil {
		c.t.Fatal(err)
	}
	trust, err := rest.TLSConfigFor(c.config)
	if err != nil {
		c.t.Fatal(err)
	}
	w := &witness{}
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ModifyResponse: w.note,
		FlushInterval:  -1,
		// HTTP/2 has no such upgrades.
		Transport: &http.Transport{DialContext: c.dial, TLSClientConfig: trust, TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}},
	})
	c.t.Cleanup(proxy.Close)
	file := filepath.Join(c.t.TempDir(), "kubeconfig")
	err = clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"witness": {Server: proxy.URL}},
		Contexts:       map[string]*clientcmdapi.Context{"witness": {Cluster: "witness"}},
		CurrentContext: "witness",
	}, file)
	if err != nil {
		c.t.Fatal(err)
	}
	c.environment = append(c.environment, "KUBECONFIG="+file)
	return w
}

// Streams are of the newest protocol that the client knows, without a second try, and
// of the old one for who asks for that.
func TestStreamProtocols(t *testing.T) {
	for name, want := range map[string]struct {
		environment     []string
		command, tunnel connection
	}{
		"web sockets": {
			command: connection{upgrade: "websocket", protocol: "v5.channel.k8s.io"},
			tunnel:  connection{upgrade: "websocket", protocol: "SPDY/3.1+portforward.k8s.io"},
		},
		"SPDY": {
			environment: []string{"KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false", "KUBECTL_PORT_FORWARD_WEBSOCKETS=false"},
			command:     connection{upgrade: "spdy/3.1", protocol: "v4.channel.k8s.io"},
			tunnel:      connection{upgrade: "spdy/3.1", protocol: "portforward.k8s.io"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := shared(t)
			c.environment = want.environment
			w := c.witness()
			c.startPod(pod("box", ""))
			agreed := func(what string, subresource string, want connection) {
				t.Helper()
				seen := w.taken()
				want.subresource, want.status = subresource, http.StatusSwitchingProtocols
				if len(seen) == 0 || slices.ContainsFunc(seen, func(one connection) bool { return one != want }) {
					t.Errorf("%s: streams %v, want %s alone", what, seen, want)
				}
			}
			c.halfClosedInput("box")
			agreed("much input", "exec", want.command)

			file := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(file, []byte("copied"), 0o600); err != nil {
				t.Fatal(err)
			}
			c.kubectl("cp", file, "box:/data/file")
			agreed("a copy", "exec", want.command)
			c.kubectl("cp", "box:/data/file", file+".back")
			agreed("a copy back", "exec", want.command)
			if back, err := os.ReadFile(file + ".back"); string(back) != "copied" {
				t.Errorf("what came back: %q, %v", back, err)
			}

			listener := once("listener", "while read line; do echo got $line; done")
			listener.Spec.Containers[0].Stdin, listener.Spec.Containers[0].StdinOnce = true, true
			c.startPod(listener)
			out, err := c.tryWith(strings.NewReader("hello\n"), "attach", "-i", "listener")
			if err != nil || !strings.Contains(out, "got hello") {
				t.Errorf("attached: %q, %v", out, err)
			}
			agreed("an attachment", "attach", want.command)

			web := pod("web", "")
			web.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 8080}}
			c.startPod(web)
			c.forwards("pod/web", ":8080")
			agreed("a forwarded port", "portforward", want.tunnel)
		})
	}
}

// halfClosedInput sees that what goes in is all there when its end has come, and that
// what comes out comes after that: the two directions of a stream end by themselves.
func (c *cluster) halfClosedInput(name string) {
	c.t.Helper()
	data := make([]byte, 10<<20)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	out, err := c.tryWith(bytes.NewReader(data), "exec", "-i", name, "--", "sh", "-c", "cat > /tmp/in; sha256sum /tmp/in; wc -c /tmp/in")
	if want := fmt.Sprintf("%x", sha256.Sum256(data)); err != nil || !strings.HasPrefix(out, want) || !strings.Contains(out, strconv.Itoa(len(data))) {
		c.t.Errorf("%q, %v; want %s", out, err, want)
	}
	if back, err := c.try("exec", name, "--", "cat", "/tmp/in"); err != nil || back != string(data) {
		c.t.Errorf("%d bytes come back, %v", len(back), err)
	}
}
