package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/skiff-sh/skiff/internal/pki"
	"github.com/skiff-sh/skiff/internal/tunnel"
	"github.com/skiff-sh/skiff/internal/uplink"
)

// far is a node that the server cannot dial, only its tunnel.
type far struct {
	name    string
	pods    netip.Prefix
	packets *tunnel.Packets
	got     chan []byte
}

// farNode makes a Node and runs its end of the tunnel. Its API says its name.
func farNode(t *testing.T, r *running, name string) *far {
	t.Helper()
	clock := pki.Clock{Now: time.Now}
	files, err := pki.Open(filepath.Join(r.settings.DataDir, "server", "tls"), clock)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := files.Authority("ca", "skiff-ca")
	if err != nil {
		t.Fatal(err)
	}
	issue := func(s pki.Subject) pki.Pair {
		s.CommonName, s.Organizations = "system:node:"+name, []string{"system:nodes"}
		pair, err := ca.Issue(s, clock)
		if err != nil {
			t.Fatal(err)
		}
		return pair
	}
	own := issue(pki.Subject{Names: []string{name}, Server: true}).TLS()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{own}})
	if err != nil {
		t.Fatal(err)
	}
	api := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) })}
	up, err := uplink.New(uplink.Config{
		Servers: []string{r.client.RESTClient().Get().URL().Scheme + "://" + r.client.RESTClient().Get().URL().Host}, Authority: ca.Pool(),
		Identity: pki.NewIdentity(issue(pki.Subject{Client: true})), Clock: clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	n := &far{name: name, got: make(chan []byte, 100), packets: tunnel.NewPackets(up.Dial, zap.NewNop())}
	n.packets.Connect(func(p []byte) { n.got <- bytes.Clone(p) }, func(bool) {})
	agent := tunnel.Agent{Connect: up.Dial, Packets: n.packets, Log: zap.NewNop(),
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, listener.Addr().String())
		}}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, part := range []func(){
		func() { _ = api.Serve(listener) }, func() { _ = agent.Run(ctx) }, func() { _ = n.packets.Run(ctx) },
	} {
		running.Go(part)
	}
	t.Cleanup(func() {
		cancel()
		_ = api.Close()
		running.Wait()
	})
	n.join(t, r)
	return n
}

// join makes the Node and waits for its share of the Pod range.
func (n *far) join(t *testing.T, r *running) {
	t.Helper()
	nodes := r.client.CoreV1().Nodes()
	made, err := nodes.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.name}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	watch, err := nodes.Watch(t.Context(), metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("metadata.name", n.name).String(), ResourceVersion: made.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	for e := range watch.ResultChan() {
		if node, ok := e.Object.(*corev1.Node); ok && node.Spec.PodCIDR != "" {
			n.pods = netip.MustParsePrefix(node.Spec.PodCIDR)
			return
		}
	}
	t.Fatalf("node %s got no Pod addresses", n.name)
}

// A server without a node reaches nodes through their tunnels, and hands packets
// from one to the other by the ranges that the Nodes have.
func TestTunnels(t *testing.T) {
	r := start(t, settings(t, t.TempDir()))
	one, two := farNode(t, r, "one"), farNode(t, r, "two")
	for _, n := range []*far{one, two} {
		got, err := r.client.CoreV1().RESTClient().Get().AbsPath("/api/v1/nodes/" + n.name + "/proxy/").DoRaw(t.Context())
		if err != nil || string(got) != n.name {
			t.Errorf("node %s says %q, %v", n.name, got, err)
		}
	}
	packet := make([]byte, 100)
	packet[0] = 0x45
	binary.BigEndian.PutUint16(packet[2:], uint16(len(packet)))
	copy(packet[12:], one.pods.Addr().Next().AsSlice())
	copy(packet[16:], two.pods.Addr().Next().AsSlice())
	// Like every network this one may lose packets, before it knows the ranges.
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for sent, deadline := one.packets.Send, time.After(20*time.Second); ; {
		sent(packet)
		select {
		case got := <-two.got:
			if !bytes.Equal(got, packet) {
				t.Errorf("packet %x arrived as %x", packet, got)
			}
		case <-again.C:
			continue
		case <-deadline:
			t.Fatal("no packet arrived")
		}
		break
	}
	metrics, err := r.client.CoreV1().RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	if err != nil || !strings.Contains(string(metrics), "\nskiff_tunnels 2\n") {
		t.Errorf("the tunnels are not counted: %v", err)
	}
}
