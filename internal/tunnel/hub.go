package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/http2"
)

// Waiting for a node that is not connected.
const (
	// A node that was there a moment ago, or that a server which has just begun
	// has not seen yet, comes back by itself: that is worth patience.
	recently = 30 * time.Second
	patience = 5 * time.Second
	// After forgotten nobody wants to know when a node was lost.
	forgotten = 24 * time.Hour
)

// Hub is a server's end of all tunnels. It is safe for concurrent use.
type Hub struct {
	log       *zap.Logger
	transport *http2.Transport
	began     time.Time
	relay     relay
	running   sync.WaitGroup

	mu     sync.Mutex // guards what follows
	closed bool
	links  map[string]*Link     // by node: the one that new streams take
	open   map[*Link]bool       // those, and older ones that still have streams
	lost   map[string]time.Time // when nodes without a link lost it
	joined chan struct{}        // closed when links has a new one
}

// NewHub returns a hub without nodes. It must be closed.
func NewHub(log *zap.Logger) (*Hub, error) {
	transport, err := newTransport()
	if err != nil {
		return nil, err
	}
	return &Hub{
		log: log, transport: transport, began: time.Now(), relay: newRelay(log),
		links: map[string]*Link{}, open: map[*Link]bool{}, lost: map[string]time.Time{}, joined: make(chan struct{}),
	}, nil
}

// Serve takes a tunnel that a node asks for. Who the node is has been proven.
func (h *Hub) Serve(w http.ResponseWriter, r *http.Request, node string) {
	if !h.begin() {
		http.Error(w, "the server is stopping", http.StatusServiceUnavailable)
		return
	}
	defer h.running.Done()
	conn, protocol := accept(w, r)
	switch protocol {
	case forStreams:
		h.add(node, conn)
	case forPackets:
		h.carry(node, conn)
	}
}

// begin counts something that Close has to wait for, unless it is too late.
func (h *Hub) begin() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.running.Add(1)
	return true
}

// add makes a connection the tunnel of a node, in place of one it had.
func (h *Hub) add(node string, conn net.Conn) {
	l, err := newLink(h, node, conn)
	if err != nil {
		h.log.Info("tunnel broke while it was opened", zap.String("node", node), zap.Error(err))
		return
	}
	h.mu.Lock()
	old := h.links[node]
	switch {
	case h.closed:
		h.mu.Unlock()
		l.close()
		return
	case l.ended: // it did not even live until here
		h.mu.Unlock()
		return
	}
	h.links[node] = l
	h.open[l] = true
	delete(h.lost, node)
	close(h.joined)
	h.joined = make(chan struct{})
	if old != nil {
		h.running.Go(old.drain)
	}
	h.mu.Unlock()
	from := zap.Stringer("from", conn.RemoteAddr())
	if old != nil {
		h.log.Info("tunnel replaced by a newer one", zap.String("node", node), from, zap.Stringer("before", old.conn.RemoteAddr()))
		return
	}
	h.log.Info("tunnel open", zap.String("node", node), from)
}

// remove forgets a link whose connection is closed.
func (h *Hub) remove(l *Link) {
	h.mu.Lock()
	current := h.links[l.node] == l
	l.ended = true
	delete(h.open, l)
	if current {
		delete(h.links, l.node)
		now := time.Now()
		for node, at := range h.lost {
			if now.Sub(at) > forgotten {
				delete(h.lost, node)
			}
		}
		h.lost[l.node] = now
	}
	closed := h.closed
	h.mu.Unlock()
	if current && !closed {
		h.log.Info("tunnel lost", zap.String("node", l.node), zap.Duration("after", time.Since(l.began)))
	}
}

// Connected says whether a node has a tunnel.
func (h *Hub) Connected(node string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.links[node] != nil
}

// Count returns how many nodes have a tunnel.
func (h *Hub) Count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.links)
}

// Await returns a node's link. It waits for one, a few seconds at most, where
// that is likely to help, and returns a DisconnectedError where it does not.
func (h *Hub) Await(ctx context.Context, node string) (*Link, error) {
	var tired <-chan time.Time
	for {
		h.mu.Lock()
		l, joined := h.links[node], h.joined
		at, known := h.lost[node]
		h.mu.Unlock()
		if l != nil {
			return l, nil
		}
		gone := &DisconnectedError{Node: node, Lost: -1}
		since := time.Since(h.began)
		if known {
			gone.Lost = time.Since(at)
			since = gone.Lost
		}
		if tired == nil {
			if since > recently {
				return nil, gone
			}
			timer := time.NewTimer(patience)
			defer timer.Stop()
			tired = timer.C
		}
		select {
		case <-joined:
		case <-tired:
			return nil, gone
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", gone, ctx.Err())
		}
	}
}

// Dial connects to an address in a node's network, as Await and Link.Dial do.
func (h *Hub) Dial(ctx context.Context, node, network, address string) (net.Conn, error) {
	for again := false; ; again = true {
		l, err := h.Await(ctx, node)
		if err != nil {
			return nil, err
		}
		conn, err := l.Dial(ctx, network, address)
		if again || !errors.Is(err, ErrEnded) || ctx.Err() != nil {
			return conn, err
		}
		// It ended under our hands; the node may be back at once.
	}
}

// Close ends all tunnels and what goes on in them, and waits for that.
func (h *Hub) Close() {
	h.mu.Lock()
	h.closed = true
	var open []*Link
	for l := range h.open {
		open = append(open, l)
	}
	h.mu.Unlock()
	for _, l := range open {
		l.close()
	}
	h.relay.close()
	h.running.Wait()
}
