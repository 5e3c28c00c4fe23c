package uplink

import (
	"context"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/skiff-sh/skiff/internal/pki"
)

// TestLeave: connections from an address that was lost end at once, others do
// not, and what comes next begins at another address.
func TestLeave(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.RemoteAddr+"\n")
		_ = http.NewResponseController(w).Flush()
		if r.URL.Path == "/watch" {
			<-r.Context().Done()
		}
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	from := netip.MustParseAddr("127.0.0.2")
	up, err := New(Config{
		Servers: []string{server.URL}, Authority: pool, Clock: pki.Clock{Now: time.Now},
		Connect: func(ctx context.Context, address string) (net.Conn, error) {
			dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
			return dialer.DialContext(ctx, "tcp", address)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: up}
	watch, err := client.Get(server.URL + "/watch")
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Body.Close()
	taken, err := up.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	up.Leave(netip.MustParseAddr("127.0.0.3"))
	if got := len(up.connections.from(from)); got != 2 {
		t.Fatalf("%d connections, want 2", got)
	}
	up.Leave(from)
	if _, err := io.ReadAll(watch.Body); err == nil {
		t.Error("the watch ended as if all had come")
	}
	if _, err := taken.Read(make([]byte, 1)); err == nil {
		t.Error("the other connection is open")
	}
	from = netip.MustParseAddr("127.0.0.3")
	answer, err := client.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if told, _ := io.ReadAll(answer.Body); netip.MustParseAddrPort(string(told[:len(told)-1])).Addr() != from {
		t.Errorf("the next request comes from %s", told)
	}
	up.Close()
	if got := len(up.connections.all()); got != 0 {
		t.Errorf("%d connections are left", got)
	}
}
