package tunnel

import (
	"context"
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

const (
	// maxPacket is the longest packet there is.
	maxPacket = 1<<16 - 1
	// queueBytes is how much may wait for a connection. TCP above grows its queue
	// until packets are lost, and TCP below loses none: what waits here is delay
	// for everyone, so it is little, and what does not fit is dropped.
	queueBytes = 128 << 10
	// unsentBytes is how much of it may wait in the kernel.
	unsentBytes = 64 << 10

	// A node asks for a sign of life every beat; silence ends a connection.
	beat    = 10 * time.Second
	silence = 3 * beat
	// idleBeats without a packet, and a node closes its connection. It is opened
	// again by the next packet, in either direction.
	idleBeats = 30
)

// queue holds packets on their way into a connection, framed. It has a buffer only
// while there are some.
type queue struct {
	filled  chan struct{} // has one when packets have come since the last take
	dropped atomic.Int64

	mu      sync.Mutex // guards what follows
	pending *[]byte
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, queueBytes); return &b }}

func giveBuffer(b *[]byte) {
	*b = (*b)[:0]
	buffers.Put(b)
}

func newQueue() queue { return queue{filled: make(chan struct{}, 1)} }

// put appends a copy of a packet, or drops it when the queue is full.
func (q *queue) put(packet []byte) {
	q.mu.Lock()
	if q.pending == nil {
		q.pending = buffers.Get().(*[]byte)
	}
	b := *q.pending
	fits := len(packet) <= maxPacket && len(b)+headerLen+len(packet) <= queueBytes
	if fits {
		*q.pending = append(binary.BigEndian.AppendUint16(b, uint16(len(packet))), packet...)
	}
	q.mu.Unlock()
	if !fits {
		q.dropped.Add(1)
	}
	if len(b) == 0 {
		q.poke()
	}
}

func (q *queue) poke() {
	select {
	case q.filled <- struct{}{}:
	default:
	}
}

// take returns all that waits, nil when nothing does. giveBuffer gives it back.
func (q *queue) take() *[]byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	b := q.pending
	q.pending = nil
	return b
}

// clear drops all that waits.
func (q *queue) clear() {
	if b := q.take(); b != nil {
		giveBuffer(b)
	}
}

// flush writes what waits to a connection.
func (q *queue) flush(conn net.Conn) error {
	b := q.take()
	if b == nil {
		return nil
	}
	defer giveBuffer(b)
	_, err := conn.Write(*b)
	return err
}

// readPackets hands over every packet that comes, which is the callee's only
// during the call, until the connection ends or falls silent.
func readPackets(conn net.Conn, take func(packet []byte)) error {
	buffer := make([]byte, 32<<10)
	end := 0
	for {
		if err := conn.SetReadDeadline(time.Now().Add(silence)); err != nil {
			return err
		}
		n, err := conn.Read(buffer[end:])
		end += n
		start := 0
		for end-start >= headerLen {
			next := start + headerLen + int(binary.BigEndian.Uint16(buffer[start:]))
			if next-start > len(buffer) {
				buffer = append(make([]byte, 0, headerLen+maxPacket), buffer...)[:headerLen+maxPacket]
			}
			if next > end {
				break
			}
			take(buffer[start+headerLen : next])
			start = next
		}
		if err != nil {
			return err
		}
		end = copy(buffer, buffer[start:end])
	}
}

// keepShort keeps the kernel from queueing more than a connection can send.
func keepShort(conn net.Conn) {
	tcp, ok := netConn(conn).(*net.TCPConn)
	if !ok {
		return
	}
	if raw, err := tcp.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { // without it, the way is only slower to react
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentBytes)
		})
	}
}

// Packets is a node's way through the servers for packets to nodes that it does
// not reach otherwise. The connection is there while packets are. It is safe for
// concurrent use.
type Packets struct {
	connect func(context.Context) (net.Conn, error)
	log     *zap.Logger
	queue   queue
	woken   chan struct{}
	outlet  outlet
}

// NewPackets returns a way over connections for HTTP/1.1 that connect opens to a
// server, as the node. It counts as open while the node's Agent has a tunnel.
func NewPackets(connect func(context.Context) (net.Conn, error), log *zap.Logger) *Packets {
	return &Packets{connect: connect, log: log, queue: newQueue(), woken: make(chan struct{}, 1)}
}

// Send queues a copy of a packet. Where it cannot go, or others wait already, it
// is dropped: Send never blocks.
func (p *Packets) Send(packet []byte) { p.queue.put(packet) }

// Connect says who takes what other nodes sent here, and who is told whether
// there is a way: once at first, then whenever that changes. Both must return
// soon, and are not called any more once disconnect has returned. The packet is
// the callee's only until it returns.
func (p *Packets) Connect(receive func(packet []byte), open func(bool)) (disconnect func()) {
	return p.outlet.connect(receive, open)
}

// wake opens the connection: a server has packets for this node.
func (p *Packets) wake() {
	select {
	case p.woken <- struct{}{}:
	default:
	}
}

// outlet is where packets leave for the machine's own network.
type outlet struct {
	mu      sync.RWMutex // guards what follows, and that nothing is called once it is nil
	isOpen  bool
	receive func(packet []byte)
	open    func(bool)
}

func (o *outlet) connect(receive func(packet []byte), open func(bool)) (disconnect func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.receive, o.open = receive, open
	open(o.isOpen)
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.receive, o.open = nil, nil
	}
}

// take hands a packet over. It returns false when nobody takes any.
func (o *outlet) take(packet []byte) bool {
	o.mu.RLock()
	defer o.mu.RUnlock()
	if o.receive == nil {
		return false
	}
	o.receive(packet)
	return true
}

// setOpen says whether there is a way.
func (o *outlet) setOpen(open bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.isOpen == open {
		return
	}
	if o.isOpen = open; o.open != nil {
		o.open(open)
	}
}

// Run carries packets until the context ends.
func (p *Packets) Run(ctx context.Context) error {
	var wait backOff
	troubled := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.woken:
		case <-p.queue.filled:
		}
		conn, err := p.open(ctx)
		if err != nil {
			if !troubled && ctx.Err() == nil {
				p.log.Warn("no way for packets through a server; trying on when there are some", zap.Error(err))
			}
			troubled = true
			if !pause(ctx, wait.next()) {
				return nil
			}
			p.queue.clear() // what waited so long is late
			continue
		}
		p.log.Info("way for packets open", zap.Stringer("server", conn.RemoteAddr()))
		troubled = false
		select {
		case <-p.woken: // that was for this connection
		default:
		}
		began := time.Now()
		err = p.carry(ctx, conn)
		p.log.Info("way for packets closed", zap.NamedError("reason", err))
		if wait.lived(time.Since(began)); err != nil && !pause(ctx, wait.next()) {
			return nil
		}
	}
}

func (p *Packets) open(ctx context.Context) (net.Conn, error) {
	conn, err := p.connect(ctx)
	if err != nil {
		return nil, err
	}
	if conn, err = ask(ctx, conn, forPackets); err == nil {
		keepShort(conn)
	}
	return conn, err
}

// carry carries packets over a connection until it ends, without an error when it
// has been idle.
func (p *Packets) carry(ctx context.Context, conn net.Conn) error {
	var used atomic.Bool
	var reading sync.WaitGroup
	ended := make(chan error, 1)
	defer reading.Wait()
	defer conn.Close()
	reading.Go(func() {
		ended <- readPackets(conn, func(packet []byte) {
			if len(packet) > 0 {
				used.Store(true)
				p.outlet.take(packet)
			}
		})
		conn.Close() // a write that is stuck fails
	})
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	p.queue.poke() // for what waited for the connection
	for idle := 0; idle < idleBeats; {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case err = <-ended:
		case <-p.queue.filled:
			idle = 0
			err = p.queue.flush(conn)
		case <-ticker.C:
			if idle++; used.Swap(false) {
				idle = 0
			}
			_, err = conn.Write(make([]byte, headerLen))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
