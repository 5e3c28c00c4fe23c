package stream

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/gorilla/websocket"
	clientforward "k8s.io/client-go/tools/portforward"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
)

// ServePortForward connects the client's streams to ports of the Pod: over
// SPDY, over SPDY tunnelled in a WebSocket, or over the older WebSocket
// protocol whose ports are in the query.
func ServePortForward(w http.ResponseWriter, r *http.Request, b Backend, namespace, pod string) {
	f := forwarder{backend: b, namespace: namespace, pod: pod}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	*r = *r.WithContext(ctx)
	if websocket.IsWebSocketUpgrade(r) && offers(r, portforward.WebsocketsSPDYTunnelingPortForwardV1) {
		serveTunnel(w, r, f)
		return
	}
	var o *portforward.V4Options
	if websocket.IsWebSocketUpgrade(r) {
		var err error
		if o, err = portforward.NewV4Options(r); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	portforward.ServePortForward(w, r, f, pod, "", o, idleTimeout, streamCreation, portforward.SupportedProtocols)
}

// serveTunnel speaks SPDY inside the messages of a WebSocket.
func serveTunnel(w http.ResponseWriter, r *http.Request, f forwarder) {
	upgrader := websocket.Upgrader{
		Subprotocols: []string{portforward.WebsocketsSPDYTunnelingPortForwardV1},
		CheckOrigin:  func(*http.Request) bool { return true }, // the client has shown a certificate
	}
	ws, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // Upgrade has answered
	}
	conn := clientforward.NewTunnelingConnection("node", ws)
	defer conn.Close()
	inner := r.Clone(r.Context())
	inner.Header = http.Header{
		"Connection":                {"Upgrade"},
		"Upgrade":                   {"SPDY/3.1"},
		"X-Stream-Protocol-Version": {strings.TrimPrefix(portforward.WebsocketsSPDYTunnelingPortForwardV1, portforward.WebsocketsSPDYTunnelingPrefix)},
	}
	portforward.ServePortForward(&tunnelWriter{conn: conn, header: http.Header{}}, inner, f, f.pod, "", nil, idleTimeout, streamCreation, portforward.SupportedProtocols)
}

// tunnelWriter lets the SPDY library take over a connection that is upgraded
// already: what it answers goes nowhere.
type tunnelWriter struct {
	conn   net.Conn
	header http.Header
}

func (t *tunnelWriter) Header() http.Header         { return t.header }
func (t *tunnelWriter) Write(p []byte) (int, error) { return len(p), nil }
func (t *tunnelWriter) WriteHeader(int)             {}
func (t *tunnelWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return t.conn, bufio.NewReadWriter(bufio.NewReader(t.conn), bufio.NewWriter(t.conn)), nil
}

// forwarder connects one stream after the other.
type forwarder struct {
	backend        Backend
	namespace, pod string
}

// PortForward implements portforward.PortForwarder.
func (f forwarder) PortForward(ctx context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	defer stream.Close()
	conn, err := f.backend.Dial(ctx, f.namespace, f.pod, int(port))
	if err != nil {
		return fmt.Errorf("failed to connect to localhost:%d inside namespace of pod %s: %w", port, f.pod, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.Copy(conn, stream)
		// The client has said all; the Pod may still answer.
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		} else {
			conn.Close()
		}
	}()
	_, err = io.Copy(stream, conn)
	conn.Close()
	stream.Close()
	// A client that keeps its side open is let go: closing the connection of
	// the whole session ends its copy.
	select {
	case <-sent:
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}
