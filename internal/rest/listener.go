package rest

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
)

// Listener accepts the connections of a handler's clients. Once a write to one was
// not taken in time, none is tried any more: TLS would else wait five seconds to
// say goodbye to a client that does not read, and a stopping server with it.
func Listener(l net.Listener) net.Listener { return listener{l} }

type listener struct{ net.Listener }

// Accept implements net.Listener.
func (l listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &clientConn{Conn: conn}, nil
}

type clientConn struct {
	net.Conn
	stuck atomic.Bool
}

// Write implements net.Conn.
func (c *clientConn) Write(p []byte) (int, error) {
	if c.stuck.Load() {
		return 0, os.ErrDeadlineExceeded
	}
	n, err := c.Conn.Write(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.stuck.Store(true)
	}
	return n, err
}

// NetConn returns the connection below, as tls.Conn's does.
func (c *clientConn) NetConn() net.Conn { return c.Conn }
