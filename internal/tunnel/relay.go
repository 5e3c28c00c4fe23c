package tunnel

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// wakePause is how long a node that was asked to open its way for packets is not
// asked again.
const wakePause = 2 * time.Second

// relay hands packets from node to node.
type relay struct {
	log     *zap.Logger
	spoofed atomic.Int64
	gone    atomic.Int64 // what ports dropped that are not there any more

	mu      sync.RWMutex // guards what follows; taken before a port's, and that before the hub's
	closed  bool
	ports   map[string]*Port
	owners  map[netip.Prefix]*Port
	lengths [2][]int // of the prefixes in owners, the longest first: IPv4, IPv6
}

func newRelay(log *zap.Logger) relay {
	return relay{log: log, ports: map[string]*Port{}, owners: map[netip.Prefix]*Port{}}
}

// Port is where a node's packets enter and leave the relay.
type Port struct {
	hub     *Hub
	node    string
	ranges  []netip.Prefix // guarded by relay.mu
	accused atomic.Bool    // of sending under another's address
	queue   queue
	outlet  outlet // of this process's own node

	mu      sync.Mutex // guards what follows
	carrier net.Conn   // nil: none
	woken   time.Time
	awaited bool // the node was told, and will come
}

// SetPodCIDRs says which addresses are a node's Pods', none when it is gone.
// Packets to them go to the node, and only it may send from them. A range that
// overlaps with another node's stays that one's.
func (h *Hub) SetPodCIDRs(node string, ranges []netip.Prefix) {
	r := &h.relay
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.port(h, node)
	for _, old := range p.ranges {
		if r.owners[old] == p {
			delete(r.owners, old)
		}
	}
	p.ranges = nil
	for _, prefix := range ranges {
		if other := r.claimed(prefix); other != nil {
			r.log.Warn("range of Pod addresses overlaps with another node's: no packets are relayed to it",
				zap.String("node", node), zap.Stringer("podCIDR", prefix), zap.String("other", other.node))
			continue
		}
		prefix = prefix.Masked()
		p.ranges = append(p.ranges, prefix)
		r.owners[prefix] = p
	}
	if len(ranges) == 0 && !p.used() {
		r.gone.Add(p.queue.dropped.Load())
		delete(r.ports, node)
	}
	r.lengths = [2][]int{}
	for prefix := range r.owners {
		of := &r.lengths[family(prefix.Addr())]
		if !slices.Contains(*of, prefix.Bits()) {
			*of = append(*of, prefix.Bits())
		}
	}
	for _, of := range r.lengths {
		slices.SortFunc(of, func(a, b int) int { return b - a })
	}
}

// claimed returns the port of a node that has addresses of a range. The caller
// holds mu.
func (r *relay) claimed(prefix netip.Prefix) *Port {
	for owned, p := range r.owners {
		if owned.Overlaps(prefix) {
			return p
		}
	}
	return nil
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// port returns a node's port. The caller holds mu.
func (r *relay) port(h *Hub, node string) *Port {
	p := r.ports[node]
	if p == nil {
		p = &Port{hub: h, node: node, queue: newQueue()}
		r.ports[node] = p
	}
	return p
}

// owner returns the port of the node that an address belongs to, or nil.
func (r *relay) owner(a netip.Addr) *Port {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, bits := range r.lengths[family(a)] {
		prefix, err := a.Prefix(bits)
		if err != nil {
			return nil
		}
		if p := r.owners[prefix]; p != nil {
			return p
		}
	}
	return nil
}

// Attach returns the port of this process's own node, which needs no connection.
func (h *Hub) Attach(node string) *Port {
	h.relay.mu.Lock()
	defer h.relay.mu.Unlock()
	p := h.relay.port(h, node)
	p.outlet.setOpen(true)
	return p
}

// Connect is as Packets.Connect is. receive may be called by several at once.
func (p *Port) Connect(receive func(packet []byte), open func(bool)) (disconnect func()) {
	return p.outlet.connect(receive, open)
}

// Send hands a packet on to the node that owns its destination. It keeps no part
// of it, never blocks, and drops what has no destination or another's source.
func (p *Port) Send(packet []byte) {
	from, to, ok := addresses(packet)
	if !ok {
		return
	}
	r := &p.hub.relay
	if r.owner(from) != p {
		r.spoofed.Add(1)
		if !p.accused.Swap(true) {
			r.log.Warn("packet dropped: a node sends under an address that is not its Pods'",
				zap.String("node", p.node), zap.Stringer("source", from), zap.Stringer("destination", to))
		}
		return
	}
	if far := r.owner(to); far != nil && far != p {
		far.deliver(packet)
	}
}

// RelayStats counts the packets that were not relayed.
type RelayStats struct {
	Dropped int64 // their node took none, or not fast enough
	Spoofed int64 // sent under an address that is not the sender's
}

// RelayStats returns the counts since the hub began.
func (h *Hub) RelayStats() RelayStats {
	h.relay.mu.RLock()
	defer h.relay.mu.RUnlock()
	stats := RelayStats{Dropped: h.relay.gone.Load(), Spoofed: h.relay.spoofed.Load()}
	for _, p := range h.relay.ports {
		stats.Dropped += p.queue.dropped.Load()
	}
	return stats
}

// addresses reads an IP packet's.
func addresses(packet []byte) (from, to netip.Addr, ok bool) {
	switch {
	case len(packet) >= 20 && packet[0]>>4 == 4:
		return netip.AddrFrom4([4]byte(packet[12:16])), netip.AddrFrom4([4]byte(packet[16:20])), true
	case len(packet) >= 40 && packet[0]>>4 == 6:
		return netip.AddrFrom16([16]byte(packet[8:24])), netip.AddrFrom16([16]byte(packet[24:40])), true
	}
	return from, to, false
}

// deliver sends a packet to the port's node.
func (p *Port) deliver(packet []byte) {
	if p.outlet.take(packet) {
		return
	}
	p.mu.Lock()
	ready := p.carrier != nil
	if !ready {
		if now := time.Now(); now.Sub(p.woken) >= wakePause {
			p.woken, p.awaited = now, p.hub.wake(p.node)
		}
		ready = p.awaited
	}
	p.mu.Unlock()
	if ready {
		p.queue.put(packet)
	} else {
		p.queue.dropped.Add(1)
	}
}

// wake asks a node to open its way for packets. It returns false when the node
// cannot be asked.
func (h *Hub) wake(node string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.links[node]
	if l == nil || h.closed {
		return false
	}
	h.running.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), pingTime)
		defer cancel()
		if err := l.wake(ctx); err != nil {
			h.log.Debug("node not woken for packets", zap.String("node", node), zap.Error(err))
		}
	})
	return true
}

// carry relays a node's packets over a connection until that ends.
func (h *Hub) carry(node string, conn net.Conn) {
	keepShort(conn)
	h.relay.mu.Lock()
	p := h.relay.port(h, node)
	h.relay.mu.Unlock()
	if !h.relay.attach(p, conn) {
		conn.Close()
		return
	}
	done := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() { p.write(conn, done) })
	_ = readPackets(conn, func(packet []byte) {
		if len(packet) == 0 {
			p.queue.put(nil) // the node asks for a sign of life
			return
		}
		p.Send(packet)
	})
	p.detach(conn)
	close(done)
	conn.Close()
	writing.Wait()
}

// attach makes a connection the one that the port's packets take. An older one is
// closed. It returns false when the relay is closed.
func (r *relay) attach(p *Port, conn net.Conn) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.closed {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.carrier != nil {
		p.carrier.Close()
	}
	p.carrier = conn
	p.queue.poke() // for what waited for the connection
	return true
}

func (p *Port) detach(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.carrier == conn {
		p.carrier, p.awaited, p.woken = nil, false, time.Time{}
		p.queue.clear()
	}
}

// used says whether the port has anyone behind it.
func (p *Port) used() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.carrier != nil || p.outlet.isOpen
}

// write sends what waits for the port's node.
func (p *Port) write(conn net.Conn, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-p.queue.filled:
		}
		if err := p.queue.flush(conn); err != nil {
			conn.Close() // and the reader ends
			return
		}
	}
}

// close ends all connections.
func (r *relay) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for _, p := range r.ports {
		p.mu.Lock()
		if p.carrier != nil {
			p.carrier.Close()
		}
		p.mu.Unlock()
	}
}
