package api

import (
	"crypto/tls"
	"fmt"
	"net"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A client that watches and never reads does not keep the server from ending.
func TestClientThatDoesNotRead(t *testing.T) {
	p := start(t, nil)
	maps := p.client().CoreV1().ConfigMaps("default")
	for i := range 20 {
		must(maps.Create(t.Context(), configMap("big"+strconv.Itoa(i), "1"), metav1.CreateOptions{}))(t)
		must(maps.Patch(t.Context(), "big"+strconv.Itoa(i), "application/merge-patch+json",
			[]byte(`{"data":{"x":"`+strings.Repeat("x", 500<<10)+`"}}`), metav1.PatchOptions{}))(t)
	}
	config := p.admin()
	pair := must(tls.X509KeyPair(config.CertData, config.KeyData))(t)
	raw := must(net.Dial("tcp", p.address))(t).(*net.TCPConn)
	must[any](nil, raw.SetReadBuffer(16<<10))(t) // or the kernel would read for us
	connection := tls.Client(raw, &tls.Config{ServerName: "127.0.0.1", RootCAs: p.ca.Pool(), Certificates: []tls.Certificate{pair}})
	defer func() { _ = connection.Close() }()
	must(fmt.Fprintf(connection, "GET /api/v1/configmaps?watch=1 HTTP/1.1\r\nHost: x\r\n\r\n"))(t)
	must(connection.Read(make([]byte, 100)))(t) // the watch has begun
	untilStuck(t)
	begin := time.Now()
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.handler.Close()
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("the server waits for a client that does not read")
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("it took %s", took)
	}
}

// untilStuck waits until a watch cannot write any more.
func untilStuck(t *testing.T) {
	t.Helper()
	stacks := make([]byte, 1<<20)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-time.After(10 * time.Millisecond) {
		for stack := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
			if strings.Contains(stack, "rest.(*watchStream).run") && strings.Contains(stack, "waitWrite") {
				return
			}
		}
	}
	t.Fatal("the watch could write everything: the test needs more objects")
}

// The old form of watches still works.
func TestOldWatchPath(t *testing.T) {
	p := start(t, nil)
	maps := p.client().CoreV1().ConfigMaps("default")
	for _, name := range []string{"a", "b"} {
		must(maps.Create(t.Context(), configMap(name, "1"), metav1.CreateOptions{}))(t)
	}
	for path, want := range map[string]int{
		"/api/v1/watch/namespaces/default/configmaps/a": 1, "/api/v1/watch/namespaces/default/configmaps": 2, "/api/v1/watch/configmaps": 2,
	} {
		code, body, _ := call(t, p.admin(), "GET", path+"?timeoutSeconds=1", "", nil)
		if code != 200 || strings.Count(body, `"ADDED"`) != want {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
}
