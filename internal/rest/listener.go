package rest

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

// Door is the listener of a handler's clients. Guard gives it to a server: from then
// on it bounds what connections cost, those first of which nobody knows whose they
// are. Nobody is turned away for that who has something to ask: where there are too
// many, the oldest stranger goes, or who has been idle for longest.
type Door struct {
	net.Listener
	limits doorLimits
	// long are the places of those whose next request is long before it has begun:
	// a header of many short lines takes 25 times its size.
	long  *semaphore.Weighted
	shake *semaphore.Weighted // places for handshakes

	mu        sync.Mutex // guards all below, and place and at of the connections
	guarded   bool
	all       int
	strangers list.List // *clientConn, the oldest first
	idle      list.List // *clientConn of known clients, the longest idle first
}

// doorLimits are of connections.
type doorLimits struct{ strangers, all int }

// Listener makes a listener a handler's door. Once a write to a connection was not
// taken in time, none is tried any more: TLS would else wait five seconds to say
// goodbye to a client that does not read, and a stopping server with it.
func Listener(l net.Listener) *Door {
	return &Door{Listener: l, limits: connectionLimits(memoryLimit()), long: semaphore.NewWeighted(longRequests), shake: semaphore.NewWeighted(handshakes())}
}

// connectionLimits are about a quarter of the memory for those that are known, and
// a fifth of that for strangers: each costs some 40 KB with its buffers and stack.
func connectionLimits(memory int64) doorLimits {
	return doorLimits{strangers: int(min(max(memory>>20, 256), 4096)), all: int(min(max(memory/(128<<10), 1024), 16384))}
}

// The limits of a server's connections. Where nothing else is said they are those of
// upstream's server. headerBytes and streamsOfOne are less where memory is: each stream
// can hold a header.
const (
	headerTimeout = 32 * time.Second
	idleTimeout   = 90 * time.Second
	headerBytes   = 1 << 20
	streamsOfOne  = 100
	// What HTTP/2 takes of bodies that nobody reads yet, of a stream and of all
	// streams of a connection: upstream takes 25 MB of those.
	streamBytes     = 256 << 10
	connectionBytes = 512 << 10

	// A request whose beginning is longer than shortHeader needs one of the places
	// of longRequests, and may wait for it, and then have it, for longPatience.
	shortHeader  = 8 << 10
	longRequests = 2
	longPatience = 5 * time.Second

	// After so many bytes a connection's goroutines let the others run: as they wake
	// each other, Go's scheduler would give them 10 ms at a time as long as there is
	// something to read, and whoever asks little waits for all who send much.
	turn = 4 << 10
)

// handshakes is how many connections may compute what their handshakes ask for at the
// same time: half of the cores, so that many that come at once, each of which costs as
// much as several requests, stand in line behind each other and not before everyone.
func handshakes() int64 { return max(1, int64(runtime.GOMAXPROCS(0))/2) }

// Guard has a server, which is to serve this door and has not begun, keep to the
// limits. A ConnState that it has is called first.
func (d *Door) Guard(web *http.Server) {
	d.mu.Lock()
	d.guarded = true
	d.mu.Unlock()
	memory := memoryLimit()
	web.ReadHeaderTimeout, web.IdleTimeout = headerTimeout, idleTimeout
	web.MaxHeaderBytes = int(min(max(memory>>12, 64<<10), headerBytes))
	web.HTTP2 = &http.HTTP2Config{
		MaxConcurrentStreams: int(min(max(memory>>22, 16), streamsOfOne)), MaxReadFrameSize: streamBytes,
		MaxReceiveBufferPerStream: streamBytes, MaxReceiveBufferPerConnection: connectionBytes,
	}
	note := web.ConnState
	web.ConnState = func(conn net.Conn, state http.ConnState) {
		if note != nil {
			note(conn, state)
		}
		if c := clientConnOf(conn); c != nil {
			c.note(state)
		}
	}
	web.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, clientConnOf(conn))
	}
}

type connKey struct{}

// introduce tells the door that a request was made by somebody it knows.
func introduce(r *http.Request) {
	if c, _ := r.Context().Value(connKey{}).(*clientConn); c != nil && !c.known.Load() {
		c.introduced()
	}
}

func clientConnOf(conn net.Conn) *clientConn {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	c, _ := conn.(*clientConn)
	return c
}

// Accept implements net.Listener.
func (d *Door) Accept() (net.Conn, error) {
	conn, err := d.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &clientConn{Conn: conn, door: d}
	if out := d.let(c); out != nil {
		_ = out.Conn.Close() // whose goroutine finds out and closes the rest
	}
	return c, nil
}

// let takes a connection in and returns the one that has to go for it.
func (d *Door) let(c *clientConn) (out *clientConn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.guarded {
		return nil
	}
	d.all++
	c.at, c.place = &d.strangers, d.strangers.PushBack(c)
	switch {
	case d.strangers.Len() > d.limits.strangers:
		out = d.strangers.Front().Value.(*clientConn)
	case d.all <= d.limits.all:
		return nil
	case d.idle.Len() > 0:
		out = d.idle.Front().Value.(*clientConn)
	default:
		out = d.strangers.Front().Value.(*clientConn) // at the worst the one that came
	}
	out.leave()
	return out
}

// clientConn is one client's connection.
type clientConn struct {
	net.Conn
	door      *Door
	stuck     atomic.Bool
	known     atomic.Bool
	running   atomic.Int64 // requests by HTTP/2 that do not last
	withdrawn atomic.Int64 // requests by HTTP/2 that were reset before they were looked at
	asked     atomic.Bool  // a request is under way
	begun     atomic.Int64 // bytes since the last request ended
	long      atomic.Bool  // it has one of the places for long beginnings
	hurry     *time.Timer  // until when; set before long is
	taken     int          // bytes of this turn; the reader's
	met       atomic.Bool  // its handshake is over: it has asked for something, or is closed
	shaking   atomic.Bool  // it has one of the places for handshakes

	at    *list.List    // strangers, idle or nil; guarded by the door's mu
	place *list.Element // in it
	gone  bool          // not counted any more
}

// leave ends that the connection counts. The caller holds the door's mu.
func (c *clientConn) leave() {
	c.move(nil)
	if !c.gone {
		c.gone = true
		c.door.all--
	}
}

// move puts the connection at the end of another list, or of none. The caller holds
// the door's mu.
func (c *clientConn) move(to *list.List) {
	if c.at != nil {
		c.at.Remove(c.place)
	}
	c.at, c.place = to, nil
	if to != nil && !c.gone {
		c.place = to.PushBack(c)
	} else {
		c.at = nil
	}
}

// introduced notes that the connection is somebody's.
func (c *clientConn) introduced() {
	c.known.Store(true)
	c.door.mu.Lock()
	defer c.door.mu.Unlock()
	c.move(nil)
}

// note follows what http.Server does with the connection.
func (c *clientConn) note(state http.ConnState) {
	if state != http.StateNew {
		c.met.Store(true)
		c.giveShake()
	}
	c.asked.Store(state == http.StateActive || state == http.StateHijacked)
	switch state {
	case http.StateIdle:
		c.begun.Store(0)
		c.giveLong()
		if c.known.Load() {
			c.door.mu.Lock()
			c.move(&c.door.idle)
			c.door.mu.Unlock()
		}
	case http.StateActive, http.StateHijacked:
		c.giveLong()
		if c.known.Load() {
			c.door.mu.Lock()
			c.move(nil)
			c.door.mu.Unlock()
		}
	}
}

func (c *clientConn) giveLong() {
	if c.long.CompareAndSwap(true, false) {
		c.hurry.Stop()
		c.door.long.Release(1)
	}
}

// takeShake waits for a place for what a handshake's message makes necessary. It has
// the place until the connection is read or written again, which is never long: nothing
// else happens meanwhile but computing.
func (c *clientConn) takeShake() {
	if c.met.Load() || !c.door.guards() {
		return
	}
	_ = c.door.shake.Acquire(context.Background(), 1) // fails with the context alone
	c.shaking.Store(true)
	if c.met.Load() { // meanwhile, by another goroutine
		c.giveShake()
	}
}

func (c *clientConn) giveShake() {
	if c.shaking.CompareAndSwap(true, false) {
		c.door.shake.Release(1)
	}
}

// Read implements net.Conn.
func (c *clientConn) Read(p []byte) (int, error) {
	c.giveShake()
	if c.begun.Load() > shortHeader && !c.asked.Load() && !c.long.Load() && c.door.guards() {
		ctx, cancel := context.WithTimeout(context.Background(), longPatience)
		defer cancel()
		if c.door.long.Acquire(ctx, 1) != nil {
			return 0, os.ErrDeadlineExceeded
		}
		c.hurry = time.AfterFunc(longPatience, func() { _ = c.Conn.Close() })
		c.long.Store(true)
	}
	if c.taken >= turn {
		c.taken = 0
		runtime.Gosched()
	}
	n, err := c.Conn.Read(p)
	c.taken += n
	if err == nil {
		c.takeShake()
	}
	if !c.asked.Load() {
		c.begun.Add(int64(n))
	}
	return n, err
}

func (d *Door) guards() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.guarded
}

// Write implements net.Conn.
func (c *clientConn) Write(p []byte) (int, error) {
	c.giveShake()
	if c.stuck.Load() {
		return 0, os.ErrDeadlineExceeded
	}
	n, err := c.Conn.Write(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.stuck.Store(true)
	}
	return n, err
}

// Close implements net.Conn.
func (c *clientConn) Close() error {
	c.door.mu.Lock()
	if c.door.guarded {
		c.leave()
	}
	c.door.mu.Unlock()
	c.giveLong()
	c.met.Store(true)
	c.giveShake()
	return c.Conn.Close()
}

// NetConn returns the connection below, as tls.Conn's does.
func (c *clientConn) NetConn() net.Conn { return c.Conn }
