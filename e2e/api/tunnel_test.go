package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"

	"github.com/skiff-sh/skiff/internal/pki"
	"github.com/skiff-sh/skiff/internal/rest"
	"github.com/skiff-sh/skiff/internal/tunnel"
)

// inTunnel is a server whose node n is reached through its tunnel alone.
type inTunnel struct {
	*plane
	node *node
	hub  *tunnel.Hub
	pod  string // the address at which the node's Pod is to be had
}

// podAddress is where the Pod is in the node's network, and nowhere else.
const podAddress = "10.42.7.5"

func startInTunnel(t testing.TB) *inTunnel { return startWith(t, "") }

// startWith is startInTunnel with a node that needs no tunnel.
func startWith(t testing.TB, own string) *inTunnel {
	t.Helper()
	hub := must(tunnel.NewHub(zap.NewNop()))(t)
	toNodes := &tls.Config{}
	p := start(t, rest.Tunnels{Hub: hub, Direct: rest.Direct{TLS: toNodes}, Own: own})
	toNodes.RootCAs = p.ca.Pool()
	in := &inTunnel{plane: p, node: startNode(t), hub: hub}
	in.serveNodeAs("n")
	runningPod(t, p, "c")
	bind(t, p)
	t.Cleanup(hub.Close)
	return in
}

// serveNodeAs gives the node's API a certificate for a name.
func (in *inTunnel) serveNodeAs(name string) {
	pair := must(in.ca.Issue(pki.Subject{CommonName: "system:node:" + name, Names: []string{name}, Server: true}, clock))(in.t)
	certificate := pair.TLS()
	in.node.server.TLS.Certificates = nil
	in.node.server.TLS.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &certificate, nil }
}

// connect opens a connection as a node, as its uplink does.
func (in *inTunnel) connect(node string) func(context.Context) (net.Conn, error) {
	pair := must(in.ca.Issue(pki.Subject{CommonName: "system:node:" + node, Organizations: []string{"system:nodes"}, Client: true}, clock))(in.t)
	config := &tls.Config{RootCAs: in.ca.Pool(), Certificates: []tls.Certificate{pair.TLS()}, NextProtos: []string{"http/1.1"}}
	return func(ctx context.Context) (net.Conn, error) {
		return (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", in.address)
	}
}

// open runs the node's end of the tunnel until stop is called or the test ends.
func (in *inTunnel) open() (stop func()) {
	in.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	a := tunnel.Agent{Connect: in.connect("n"), Log: zap.NewNop(), Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		switch address {
		case "127.0.0.1:10250":
			address = in.node.server.Listener.Addr().String()
		case podAddress + ":80":
			address = in.pod
		case podAddress + ":81":
			address = "127.0.0.1:1"
		default:
			return nil, &tunnel.RefusedError{Address: address, Why: "not in this test"}
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
	var running sync.WaitGroup
	running.Go(func() { _ = a.Run(ctx) })
	stop = func() {
		cancel()
		running.Wait()
	}
	in.t.Cleanup(stop)
	must(in.hub.Await(in.t.Context(), "n"))(in.t)
	return stop
}

func (in *inTunnel) log(t *testing.T) string {
	t.Helper()
	code, body, _ := call(t, in.admin(), "GET", "/api/v1/namespaces/default/pods/p/log", "", nil)
	if code == http.StatusOK {
		<-in.node.asked
	}
	return body
}

// What is asked of a node goes through its tunnel, and goes on when that was
// replaced, connections that were kept notwithstanding.
func TestThroughTunnel(t *testing.T) {
	in := startInTunnel(t)
	stop := in.open()
	for range 2 {
		if got := in.log(t); got != "line 1\n" {
			t.Errorf("log: %q", got)
		}
	}
	if code, body, _ := call(t, in.admin(), "GET", "/api/v1/nodes/n/proxy/stats/summary", "", nil); code != 200 || body != "summary" {
		t.Errorf("nodes/proxy: %d %s", code, body)
	}
	<-in.node.asked
	input := strings.Repeat("0123456789", 20_000)
	location := in.client().CoreV1().RESTClient().Post().Resource("pods").Namespace("default").Name("p").SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Command: []string{"cat"}, Stdin: true, Stdout: true}, scheme.ParameterCodec).URL()
	executor := must(remotecommand.NewSPDYExecutor(in.admin(), "POST", location))(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out bytes.Buffer
	if err := executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: strings.NewReader(input), Stdout: &out}); err != nil {
		t.Fatal(err)
	}
	if out.String() != `["cat"] `+input {
		t.Errorf("%d bytes came back: %.60q", out.Len(), out.String())
	}
	<-in.node.asked

	in.open() // in the first one's place
	stop()
	if got := in.log(t); got != "line 1\n" {
		t.Errorf("log through the newer tunnel: %q", got)
	}

	in.serveNodeAs("other")
	in.node.server.CloseClientConnections()
	if got := in.log(t); !strings.Contains(got, "certificate is valid for other, not n") {
		t.Errorf("log of a node that is another: %s", got)
	}
}

// Pods and Services are reached where they are, and are told by what way.
func TestProxyThroughTunnel(t *testing.T) {
	in := startInTunnel(t)
	listener := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	in.pod = listener.Addr().String()
	back := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		if r.URL.Path == "/moved" {
			http.Redirect(w, r, "/there/", http.StatusFound)
			return
		}
		fmt.Fprintf(w, "%s host=%s for=%q uri=%q proto=%q auth=%q", r.URL, r.Host, r.Header.Get("X-Forwarded-For"),
			r.Header.Get("X-Forwarded-Uri"), r.Header.Get("X-Forwarded-Proto"), r.Header["Authorization"])
	})}
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := back.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		_ = back.Close()
		serving.Wait()
	})
	in.open()
	client := in.client().CoreV1()
	pod := must(client.Pods("default").Get(t.Context(), "p", metav1.GetOptions{}))(t)
	pod.Status.PodIP, pod.Status.PodIPs = podAddress, []corev1.PodIP{{IP: podAddress}}
	must(client.Pods("default").UpdateStatus(t.Context(), pod, metav1.UpdateOptions{}))(t)
	name := "n"
	for service, address := range map[string]corev1.EndpointAddress{
		"by-node":   {IP: podAddress, NodeName: &name},
		"by-target": {IP: podAddress, TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: "p", Namespace: "default"}},
	} {
		must(client.Services("default").Create(t.Context(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: service},
			Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}, metav1.CreateOptions{}))(t)
		must(client.Endpoints("default").Create(t.Context(), &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: service},
			Subsets: []corev1.EndpointSubset{{Addresses: []corev1.EndpointAddress{address}, Ports: []corev1.EndpointPort{{Port: 80}}}},
		}, metav1.CreateOptions{}))(t)
	}

	const base = "/api/v1/namespaces/default/"
	header := map[string]string{"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "gopher"}
	told := func(path, below string) string {
		return fmt.Sprintf(`%s host=%s for="203.0.113.9, 127.0.0.1" uri=%q proto="gopher" auth=[]`, path, in.address, below)
	}
	for _, c := range []struct {
		path string
		code int
		want string
	}{
		{base + "pods/p:80/proxy/a/b?c=d", 200, told("/a/b?c=d", base+"pods/p:80/proxy/a/b")},
		{base + "pods/http:p:80/proxy/", 200, told("/", base+"pods/http:p:80/proxy/")},
		{base + "services/by-node/proxy/a/", 200, told("/a/", base+"services/by-node/proxy/a/")},
		{base + "services/by-target/proxy/x", 200, told("/x", base+"services/by-target/proxy/x")},
		{base + "pods/p:80/proxy/moved", 302, base + "pods/p:80/proxy/there/"},
		{base + "pods/p:81/proxy/", 503, "error trying to reach service: dial tcp 127.0.0.1:1: connect: connection refused"},
		{base + "pods/p:82/proxy/", 503, "error trying to reach service: the node does not let the server connect to 10.42.7.5:82: not in this test"},
	} {
		code, body, headers := callOnce(t, in.plane, c.path, header)
		if c.code == http.StatusFound {
			body = strings.Join(headers["Location"], " ")
		} else if c.code != http.StatusOK {
			body = decodeStatus(t, body).Message
		}
		if code != c.code || body != c.want {
			t.Errorf("%s: %d %s\nwant %d %s", c.path, code, body, c.code, c.want)
		}
		if origin := headers["Access-Control-Allow-Origin"]; origin != nil {
			t.Errorf("%s: the Pod says that %s may read its answer", c.path, origin)
		}
	}
}

// callOnce asks without following redirects.
func callOnce(t *testing.T, p *plane, path string, header map[string]string) (int, string, http.Header) {
	t.Helper()
	client := must(httpClient(p))(t)
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	request := must(newRequest(t, "GET", "https://"+p.address+path, ""))(t)
	for k, v := range header {
		request.Header.Set(k, v)
	}
	answer := must(client.Do(request))(t)
	defer func() { _ = answer.Body.Close() }()
	return answer.StatusCode, string(must(io.ReadAll(answer.Body))(t)), answer.Header
}

// A tunnel is for nodes, each for itself.
func TestWhoOpensTunnels(t *testing.T) {
	in := startInTunnel(t)
	for _, c := range []struct {
		name   string
		groups []string
		code   int
		want   string
	}{
		{"system:node:n", nil, 403, `User \"system:node:n\" cannot get path \"/v1-skiff/tunnel\"`},
		{"admin", []string{"system:masters"}, 403, "only nodes open tunnels"},
		{"system:node:", []string{"system:nodes"}, 403, "cannot get path"},
		{"system:node:n", []string{"system:nodes"}, 426, "only nodes' tunnels are served here"},
	} {
		config := in.as(c.name, c.groups...)
		config.NextProtos = []string{"http/1.1"}
		code, body, _ := call(t, config, "GET", tunnel.Path, "", nil)
		if code != c.code || !strings.Contains(body, c.want) {
			t.Errorf("%s in %v: %d %s, want %d %s", c.name, c.groups, code, body, c.code, c.want)
		}
	}
	if in.hub.Count() != 0 {
		t.Errorf("%d tunnels", in.hub.Count())
	}
}

// exec runs a command on the node once.
func exec(b *testing.B, p *plane, n *node) {
	b.Helper()
	location := p.client().CoreV1().RESTClient().Post().Resource("pods").Namespace("default").Name("p").SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Command: []string{"cat"}, Stdout: true}, scheme.ParameterCodec).URL()
	executor := must(remotecommand.NewSPDYExecutor(p.admin(), "POST", location))(b)
	if err := executor.StreamWithContext(b.Context(), remotecommand.StreamOptions{Stdout: io.Discard}); err != nil {
		b.Fatal(err)
	}
	<-n.asked
}

// From the client's request to the end of the command, on a node that is dialed
// and on one behind its tunnel.
func BenchmarkExec(b *testing.B) {
	b.Run("direct", func(b *testing.B) {
		in := startWith(b, "n")
		nodes := in.client().CoreV1().Nodes()
		node := must(nodes.Get(b.Context(), "n", metav1.GetOptions{}))(b)
		node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "127.0.0.1"}}
		node.Status.DaemonEndpoints.KubeletEndpoint.Port = int32(in.node.server.Listener.Addr().(*net.TCPAddr).Port)
		must(nodes.UpdateStatus(b.Context(), node, metav1.UpdateOptions{}))(b)
		for b.Loop() {
			exec(b, in.plane, in.node)
		}
	})
	b.Run("tunnel", func(b *testing.B) {
		in := startInTunnel(b)
		in.open()
		for b.Loop() {
			exec(b, in.plane, in.node)
		}
	})
}
