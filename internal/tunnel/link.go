package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// What a server lets a node send ahead in one stream, before anybody has read it:
// enough for 80 Mbit/s over 100 ms, and bounded for a client that reads nothing.
const streamWindow = 1 << 20

// maxDrain is how long a stream in a tunnel that was replaced may go on.
const maxDrain = 24 * time.Hour

const (
	networkHeader  = "Skiff-Network"
	maxHeaderBytes = 16 << 10
	maxRefusal     = 4 << 10
)

// newTransport returns the settings that all links share.
func newTransport() (*http2.Transport, error) {
	t, err := http2.ConfigureTransports(&http.Transport{
		MaxResponseHeaderBytes: maxHeaderBytes,
		HTTP2:                  &http.HTTP2Config{MaxReceiveBufferPerStream: streamWindow},
	})
	if err != nil {
		return nil, err
	}
	t.DisableCompression = true
	t.ReadIdleTimeout, t.PingTimeout = pingAfter, pingTime
	return t, nil
}

// Link is a server's end of one tunnel.
type Link struct {
	hub    *Hub
	node   string
	began  time.Time
	conn   *watched
	client *http2.ClientConn

	ended bool // the connection is closed; guarded by hub.mu
}

// newLink begins to speak over a node's connection.
func newLink(h *Hub, node string, conn net.Conn) (*Link, error) {
	keepShort(conn) // so that a key that is pressed does not wait behind a log
	l := &Link{hub: h, node: node, began: time.Now()}
	l.conn = &watched{Conn: conn, closed: func() { h.remove(l) }}
	client, err := h.transport.NewClientConn(l.conn)
	if err != nil {
		l.conn.Close()
		return nil, err
	}
	l.client = client
	return l, nil
}

// watched is a connection that tells when its owner closes it: HTTP/2 does so
// whenever it ends, for whatever reason.
type watched struct {
	net.Conn
	once   sync.Once
	closed func()
}

func (w *watched) Close() error {
	w.once.Do(w.closed)
	return w.Conn.Close()
}

func (l *Link) close() { _ = l.client.Close() }

// drain tells the node that this link is not used any more, and closes it when
// its last stream has ended.
func (l *Link) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), maxDrain)
	defer cancel()
	_ = l.client.Shutdown(ctx) // ends early when the hub closes the link
	l.close()
}

// Dial connects to an address in the node's network. The context bounds the
// attempt, not the connection. A FarError is the node's own answer; an error that
// wraps ErrEnded means that the tunnel broke.
//
// The connection has CloseWrite. What was written before Close is delivered.
func (l *Link) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if !l.hub.begin() {
		return nil, ErrEnded
	}
	s, err := l.dial(ctx, network, address)
	if err != nil {
		l.hub.running.Done()
		return nil, err
	}
	return s, nil
}

// dial returns a stream, which counts as running until nothing comes any more.
func (l *Link) dial(ctx context.Context, network, address string) (*stream, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime+pingTime)
	defer cancel()
	s := newStream(l, network, address)
	asked, abort := context.WithCancel(context.WithoutCancel(ctx))
	s.abort = abort
	giveUp := context.AfterFunc(ctx, abort)
	answer, err := l.client.RoundTrip((&http.Request{
		Method: http.MethodConnect,
		URL:    &url.URL{Host: address},
		Host:   address,
		Header: http.Header{networkHeader: {network}},
		Body:   s.outgoing,
	}).WithContext(httptrace.WithClientTrace(asked, &httptrace.ClientTrace{WroteRequest: s.wrote})))
	if !giveUp() && err == nil {
		_ = answer.Body.Close()
		err = ctx.Err()
	}
	switch {
	case err == nil && answer.StatusCode == http.StatusOK:
		l.hub.running.Go(func() { s.receive(answer.Body) })
		l.hub.running.Done() // receive is what counts now
		return s, nil
	case err == nil:
		err = l.farError(answer)
	case ctx.Err() != nil:
		err = fmt.Errorf("dial %s %s on node %s: %w", network, address, l.node, ctx.Err())
	default:
		err = fmt.Errorf("%w (%s): %w", ErrEnded, l.node, err)
	}
	abort()
	s.discard()
	return nil, err
}

// farError reads why a node opened nothing.
func (l *Link) farError(answer *http.Response) error {
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxRefusal))
	if err != nil {
		return fmt.Errorf("%w (%s): %w", ErrEnded, l.node, err)
	}
	return &FarError{Node: l.node, Text: strings.TrimSpace(string(text)), Refused: answer.StatusCode == http.StatusForbidden}
}

// wake asks the node to open its way for packets.
func (l *Link) wake(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+packetsHost+"/", nil)
	if err != nil {
		return err
	}
	answer, err := l.client.RoundTrip(request)
	if err != nil {
		return err
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusNoContent {
		return errors.New(answer.Status)
	}
	return nil
}

// netConn returns the connection at the bottom, for its options.
func netConn(conn net.Conn) net.Conn {
	for {
		above, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return conn
		}
		conn = above.NetConn()
	}
}
