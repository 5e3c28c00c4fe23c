package server

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

// flushTime is how long the last bytes of answers get to leave: HTTP/2 calls a
// connection idle a moment before it flushes.
const flushTime = 10 * time.Millisecond

// drain knows which connections of an HTTP server have requests under way, so
// that the server can end as soon as none has: http.Server.Shutdown leaves an
// HTTP/2 connection a whole second to hang up.
type drain struct {
	mu     sync.Mutex
	busy   map[net.Conn]bool // present: a request is under way
	ending bool
	quiet  chan struct{} // closed when ending and nothing is under way
}

func newDrain() *drain { return &drain{busy: map[net.Conn]bool{}, quiet: make(chan struct{})} }

// note is the server's ConnState.
func (d *drain) note(conn net.Conn, state http.ConnState) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if state == http.StateActive {
		d.busy[conn] = true
	} else {
		delete(d.busy, conn)
	}
	d.look()
}

// look tells whether it is quiet. The caller holds mu.
func (d *drain) look() {
	if !d.ending || len(d.busy) > 0 {
		return
	}
	select {
	case <-d.quiet:
	default:
		close(d.quiet)
	}
}

// end stops the server when no request is under way any more, at the latest
// when the context ends.
func (d *drain) end(ctx context.Context, web *http.Server) error {
	asked, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- web.Shutdown(asked) }() // takes no new connections or requests
	d.mu.Lock()
	d.ending = true
	d.look()
	d.mu.Unlock()
	select {
	case <-d.quiet:
		flushed := time.NewTimer(flushTime)
		defer flushed.Stop()
		select {
		case <-flushed.C:
		case <-ctx.Done():
		}
	case <-ctx.Done():
	}
	stop()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return errors.Join(err, web.Close())
	}
	return web.Close()
}
