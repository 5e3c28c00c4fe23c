package tunnel

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
)

// world is a hub behind an HTTP server, and what agents need to connect to it.
type world struct {
	t    testing.TB
	hub  *Hub
	dial func(context.Context) (net.Conn, error)
	stop context.CancelFunc
	ctx  context.Context
	work sync.WaitGroup
}

// newWorld serves a hub on a listener. Who connects is told by the connection's
// order: node says it.
func newWorld(t testing.TB, listener net.Listener, dial func(context.Context) (net.Conn, error)) *world {
	t.Helper()
	hub, err := NewHub(zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, hub: hub, dial: dial}
	w.ctx, w.stop = context.WithCancel(context.Background())
	server := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		hub.Serve(rw, r, r.UserAgent())
	})}
	w.work.Go(func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(func() {
		w.stop()
		_ = server.Close()
		hub.Close()
		w.work.Wait()
	})
	return w
}

// onTCP is a world on the loopback.
func onTCP(t testing.TB) *world {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	return newWorld(t, listener, func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	})
}

// onPipes is a world whose connections are pipes, for synctest.
func onPipes(t testing.TB) *world {
	t.Helper()
	l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	return newWorld(t, l, l.dial)
}

// pipes listens for connections in memory.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipes) dial(ctx context.Context) (net.Conn, error) {
	mine, theirs := net.Pipe()
	select {
	case l.conns <- theirs:
		return mine, nil
	case <-l.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipes) Addr() net.Addr { return address{"pipe", "here"} }

// as names the node that a connection's request comes from, for the test's
// server: it puts the name where the agent has its own.
type as struct {
	net.Conn
	node string
	once sync.Once
}

func (a *as) Write(p []byte) (int, error) {
	n := len(p)
	a.once.Do(func() { p = replace(p, "User-Agent: skiff-agent", "User-Agent: "+a.node) })
	if _, err := a.Conn.Write(p); err != nil {
		return 0, err
	}
	return n, nil
}

func (a *as) NetConn() net.Conn { return a.Conn }

// agent runs a node's end until the world ends or the function is called.
func (w *world) agent(node string, a *Agent) (stop func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.ctx)
	if a.Log == nil {
		a.Log = zap.NewNop()
	}
	if a.Connect == nil {
		a.Connect = w.connect(node)
	}
	ended := make(chan struct{})
	w.work.Go(func() {
		defer close(ended)
		if err := a.Run(ctx); err != nil {
			w.t.Errorf("agent of %s: %v", node, err)
		}
	})
	return func() {
		cancel()
		<-ended
	}
}

// connect returns how a node connects to the hub.
func (w *world) connect(node string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		conn, err := w.dial(ctx)
		if err != nil {
			return nil, err
		}
		return &as{Conn: conn, node: node}, nil
	}
}

// link returns a node's link, which is there or comes.
func (w *world) link(node string) *Link {
	w.t.Helper()
	l, err := w.hub.Await(w.t.Context(), node)
	if err != nil {
		w.t.Fatal(err)
	}
	return l
}

// direct dials whatever is asked for.
func direct(ctx context.Context, network, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, address)
}

// listen returns a listener on the loopback.
func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// through connects to a listener through a node's tunnel and returns both ends.
func (w *world) through(node string, l net.Listener) (near, far net.Conn) {
	w.t.Helper()
	accepted := make(chan net.Conn, 1)
	w.work.Go(func() {
		conn, err := l.Accept()
		if err != nil {
			w.t.Errorf("accept: %v", err)
		}
		accepted <- conn
	})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	near, err := w.hub.Dial(ctx, node, "tcp", l.Addr().String())
	if err != nil {
		w.t.Fatal(err)
	}
	return near, <-accepted
}
