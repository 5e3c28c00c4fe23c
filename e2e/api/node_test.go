package api

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
	remoteserver "k8s.io/cri-streaming/pkg/streaming/remotecommand"

	"github.com/skiff-sh/skiff/internal/pki"
	"github.com/skiff-sh/skiff/internal/rest"
)

// node stands in for another machine: the HTTPS API of a node, as a kubelet
// has it, whose containers answer with what they were asked.
type node struct {
	server *httptest.Server
	asked  chan string // path and query of each request
}

func startNode(t testing.TB) *node {
	t.Helper()
	n := &node{asked: make(chan string, 10)}
	mux := http.NewServeMux()
	mux.HandleFunc("/containerLogs/", n.logs)
	mux.HandleFunc("/exec/", n.exec)
	mux.HandleFunc("/stats/summary", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "summary") })
	n.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.asked <- r.URL.Path + "?" + r.URL.Query().Encode()
		mux.ServeHTTP(w, r)
	}))
	n.server.StartTLS()
	t.Cleanup(n.server.Close)
	return n
}

// Dial makes the node rest's way to all nodes.
func (n *node) Dial(ctx context.Context, _ *corev1.Node) (net.Conn, error) {
	transport := n.server.Client().Transport.(*http.Transport)
	config := transport.TLSClientConfig.Clone()
	config.ServerName = "example.com"
	dialer := tls.Dialer{Config: config}
	return dialer.DialContext(ctx, "tcp", n.server.Listener.Addr().String())
}

func (n *node) logs(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/waiting") {
		http.Error(w, `container "waiting" in pod "p" is waiting to start: ContainerCreating`, http.StatusBadRequest)
		return
	}
	_, _ = io.WriteString(w, "line 1\n")
	w.(http.Flusher).Flush()
	if r.URL.Query().Get("follow") != "" {
		<-r.Context().Done() // what follows never ends by itself
	}
}

// exec echoes its input behind the command.
func (n *node) exec(w http.ResponseWriter, r *http.Request) {
	options, err := remoteserver.NewOptions(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	command := r.URL.Query()["command"]
	remoteserver.ServeExec(w, r, echo{}, "p", "uid", "c", command, options, time.Minute, time.Minute, remoteserver.SupportedStreamingProtocols)
}

type echo struct{}

func (echo) ExecInContainer(_ context.Context, _ string, _ string, _ string, cmd []string, in io.Reader, out, _ io.WriteCloser, _ bool, _ <-chan remoteserver.TerminalSize, _ time.Duration) error {
	fmt.Fprintf(out, "%q ", cmd)
	if in == nil {
		return nil
	}
	_, err := io.Copy(out, in)
	return err
}

// runningPod makes a node and a Pod that is bound to it.
func runningPod(t testing.TB, p *plane, containers ...string) {
	t.Helper()
	client := p.client()
	must(client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}, metav1.CreateOptions{}))(t)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}}
	for _, name := range containers {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: name, Image: "i"})
	}
	must(client.CoreV1().Pods("default").Create(t.Context(), pod, metav1.CreateOptions{}))(t)
}

func bind(t testing.TB, p *plane) {
	t.Helper()
	binding := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Target: corev1.ObjectReference{Kind: "Node", Name: "n"}}
	if err := p.client().CoreV1().Pods("default").Bind(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestLogs(t *testing.T) {
	n := startNode(t)
	p := start(t, n)
	runningPod(t, p, "c", "waiting")
	pods := p.client().CoreV1().Pods("default")
	read := func(o *corev1.PodLogOptions) string {
		t.Helper()
		stream, err := pods.GetLogs("p", o).Stream(t.Context())
		if err != nil {
			return err.Error()
		}
		defer func() { _ = stream.Close() }()
		return string(must(io.ReadAll(stream))(t))
	}
	if got := read(&corev1.PodLogOptions{Container: "c"}); got != "" {
		t.Errorf("log of a Pod without a node: %q", got)
	}
	bind(t, p)
	three := int64(3)
	if got := read(&corev1.PodLogOptions{Container: "c", TailLines: &three, Previous: true}); got != "line 1\n" {
		t.Errorf("log: %q", got)
	}
	if got, want := <-n.asked, "/containerLogs/default/p/c?previous=true&tailLines=3"; got != want {
		t.Errorf("the node was asked for %s, want %s", got, want)
	}
	if got, want := read(&corev1.PodLogOptions{}), "a container name must be specified for pod p, choose one of: [c waiting]"; got != want {
		t.Errorf("without a container: %s", got)
	}
	if got, want := read(&corev1.PodLogOptions{Container: "waiting"}), `container "waiting" in pod "p" is waiting to start: ContainerCreating`; strings.TrimSpace(got) != want {
		t.Errorf("a waiting container: %s", got)
	}
	stream := must(pods.GetLogs("p", &corev1.PodLogOptions{Container: "c", Follow: true}).Stream(t.Context()))(t)
	defer func() { _ = stream.Close() }()
	lines := bufio.NewReader(stream)
	if line := must(lines.ReadString('\n'))(t); line != "line 1\n" {
		t.Errorf("first line %q", line)
	}
	go p.handler.Close() // a server that stops does not wait for logs
	if _, err := lines.ReadByte(); err == nil {
		t.Error("the log goes on")
	}
}

// exec goes through with both protocols that clients speak. (WebSocket's
// version 4 cannot say that the input has ended, so there is none.)
func TestExec(t *testing.T) {
	n := startNode(t)
	p := start(t, n)
	runningPod(t, p, "c")
	bind(t, p)
	long := strings.Repeat("0123456789", 20_000)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for protocol, input := range map[string]string{"SPDY": long, "WebSocket": ""} {
		options := &corev1.PodExecOptions{Command: []string{"cat", "-"}, Stdin: input != "", Stdout: true}
		location := p.client().CoreV1().RESTClient().Post().Resource("pods").Namespace("default").Name("p").SubResource("exec").
			VersionedParams(options, scheme.ParameterCodec).URL()
		var out bytes.Buffer
		streams := remotecommand.StreamOptions{Stdout: &out}
		var executor remotecommand.Executor
		var err error
		want := "/exec/default/p/c?command=cat&command=-&output=1"
		if protocol == "SPDY" {
			streams.Stdin, want = strings.NewReader(input), "/exec/default/p/c?command=cat&command=-&input=1&output=1"
			executor, err = remotecommand.NewSPDYExecutor(p.admin(), "POST", location)
		} else {
			executor, err = remotecommand.NewWebSocketExecutorForProtocols(p.admin(), "GET", location.String(), "v4.channel.k8s.io")
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := executor.StreamWithContext(ctx, streams); err != nil {
			t.Errorf("%s: %v", protocol, err)
		}
		if got := out.String(); got != `["cat" "-"] `+input {
			t.Errorf("%s: %d bytes came back: %.60q", protocol, len(got), got)
		}
		if got := <-n.asked; got != want {
			t.Errorf("%s: the node was asked for %s, want %s", protocol, got, want)
		}
	}
}

func TestNodeProxy(t *testing.T) {
	n := startNode(t)
	p := start(t, n)
	runningPod(t, p, "c")
	if code, body, _ := call(t, p.admin(), "GET", "/api/v1/nodes/n/proxy/stats/summary", "", nil); code != 200 || body != "summary" {
		t.Errorf("nodes/proxy: %d %s", code, body)
	}
	if code, body, _ := call(t, p.admin(), "GET", "/api/v1/namespaces/default/pods/p/proxy/", "", nil); code != 400 || !strings.Contains(body, "address not allowed") {
		t.Errorf("pods/proxy to no address: %d %s", code, body)
	}
}

// ownAddress returns an address of this machine that is not the loopback's,
// which the API does not let anybody be proxied to.
func ownAddress(t *testing.T) string {
	t.Helper()
	for _, a := range must(net.InterfaceAddrs())(t) {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	t.Skip("this machine has no address but the loopback's")
	return ""
}

// Pods and Services are reached through the API.
func TestPodAndServiceProxy(t *testing.T) {
	address := ownAddress(t)
	listener := must(net.Listen("tcp", net.JoinHostPort(address, "0")))(t)
	back := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s?%s %q", r.Method, r.URL.Path, r.URL.RawQuery, r.Header["Authorization"])
	})}}
	back.Start()
	t.Cleanup(back.Close)
	port := int32(listener.Addr().(*net.TCPAddr).Port)

	p := start(t, nil)
	client := p.client().CoreV1()
	runningPod(t, p, "c")
	pod := must(client.Pods("default").Get(t.Context(), "p", metav1.GetOptions{}))(t)
	pod.Status.PodIP, pod.Status.PodIPs = address, []corev1.PodIP{{IP: address}}
	must(client.Pods("default").UpdateStatus(t.Context(), pod, metav1.UpdateOptions{}))(t)
	must(client.Services("default").Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "s"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "web", Port: 80}}}}, metav1.CreateOptions{}))(t)
	must(client.Endpoints("default").Create(t.Context(), &corev1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{Name: "s"},
		Subsets: []corev1.EndpointSubset{{
			Addresses: []corev1.EndpointAddress{{IP: address}}, Ports: []corev1.EndpointPort{{Name: "web", Port: port}}}},
	}, metav1.CreateOptions{}))(t)

	base := "/api/v1/namespaces/default/"
	for path, want := range map[string]string{
		fmt.Sprintf("pods/p:%d/proxy/a/b?c=d", port): `POST /a/b?c=d []`,
		"services/s:80/proxy/":                       `POST /? []`,
		"services/http:s:web/proxy/x":                `POST /x? []`,
		"services/s:81/proxy/":                       `no service port 81 found for service "s"`,
		"services/s:other/proxy/":                    `no endpoints available for service "s"`,
	} {
		_, body, _ := call(t, p.admin(), "POST", base+path, "{}", nil)
		if !strings.Contains(strings.ReplaceAll(body, `\"`, `"`), want) {
			t.Errorf("%s: %s, want %s", path, body, want)
		}
	}
}

// Direct, the way to nodes of a real server, checks who answers.
func TestDirectDial(t *testing.T) {
	p := start(t, nil)
	stranger := must(pki.NewAuthority("stranger", clock))(t)
	host, port, err := net.SplitHostPort(p.address)
	if err != nil {
		t.Fatal(err)
	}
	at := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: host}} // what the certificate is for
	at.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: host}}
	_, _ = fmt.Sscan(port, &at.Status.DaemonEndpoints.KubeletEndpoint.Port)
	connection, err := rest.Direct{TLS: &tls.Config{RootCAs: p.ca.Pool()}}.Dial(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	_ = connection.Close()
	if _, err := (rest.Direct{TLS: &tls.Config{RootCAs: stranger.Pool()}}).Dial(t.Context(), at); err == nil {
		t.Error("a node with a certificate of another authority was believed")
	}
}
