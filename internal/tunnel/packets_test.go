package tunnel

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

// packet returns one from an address to another, of some length.
func packet(from, to string, length int) []byte {
	source, destination := netip.MustParseAddr(from), netip.MustParseAddr(to)
	p := make([]byte, length)
	if source.Is4() {
		p[0] = 0x45
		binary.BigEndian.PutUint16(p[2:], uint16(length))
		copy(p[12:], source.AsSlice())
		copy(p[16:], destination.AsSlice())
		return p
	}
	p[0] = 0x60
	copy(p[8:], source.AsSlice())
	copy(p[24:], destination.AsSlice())
	return p
}

// member is a node that carries packets.
type member struct {
	*Packets
	got         chan []byte
	open        chan bool
	connections *int
}

// carrier runs a node's agent, with its way for packets, as node number i with
// the Pods of 10.42.i.0/24 and fd00:42:0:i::/64.
func (w *world) carrier(i int, alter func(net.Conn) net.Conn) *member {
	w.t.Helper()
	name := fmt.Sprintf("n%d", i)
	m := &member{got: make(chan []byte, 10_000), open: make(chan bool, 10), connections: new(int)}
	m.Packets = NewPackets(func(ctx context.Context) (net.Conn, error) {
		conn, err := w.connect(name)(ctx)
		if err == nil && alter != nil {
			conn = alter(conn)
		}
		*m.connections++
		return conn, err
	}, zap.NewNop())
	m.Connect(func(p []byte) { m.got <- bytes.Clone(p) }, func(open bool) { m.open <- open })
	w.agent(name, &Agent{Dial: direct, Packets: m.Packets})
	w.work.Go(func() { _ = m.Run(w.ctx) })
	w.hub.SetPodCIDRs(name, podCIDRs(i))
	return m
}

func podCIDRs(i int) []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix(fmt.Sprintf("10.42.%d.0/24", i)),
		netip.MustParsePrefix(fmt.Sprintf("fd00:42:0:%x::/64", i)),
	}
}

// Packets get to the node that owns where they go, in both families and all
// sizes, over connections that open by themselves on both sides.
func TestPackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := onPipes(t)
		one, two := w.carrier(1, nil), w.carrier(2, nil)
		synctest.Wait()
		if first, then := <-one.open, <-one.open; first || !then {
			t.Errorf("the way was said to be open: %t, then %t", first, then)
		}
		if *one.connections+*two.connections != 0 {
			t.Error("there are connections for packets, and no packets")
		}
		for _, length := range []int{20, 1450, 40_000, maxPacket} {
			sent := packet("10.42.1.5", "10.42.2.5", length)
			sent[length-1] = 7
			one.Send(sent)
			if got := <-two.got; !bytes.Equal(got, sent) {
				t.Errorf("%d bytes: %d arrived", length, len(got))
			}
		}
		six := packet("fd00:42:0:2::9", "fd00:42:0:1::9", 40)
		two.Send(six)
		if got := <-one.got; !bytes.Equal(got, six) {
			t.Errorf("IPv6: %x", got)
		}
		// Idle connections end, and are opened again from the far end.
		time.Sleep(time.Hour)
		for _, p := range []*Port{w.hub.relay.ports["n1"], w.hub.relay.ports["n2"]} {
			if p.used() {
				t.Errorf("%s has kept its connection for an hour for nothing", p.node)
			}
		}
		one.Send(packet("10.42.1.5", "10.42.2.5", 100))
		<-two.got
		if *one.connections != 2 || *two.connections != 2 {
			t.Errorf("%d and %d connections, want 2 each", *one.connections, *two.connections)
		}
		w.end()
	})
}

// Nobody sends under another's address, nor to where nobody is.
func TestSpoofedPackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := onPipes(t)
		one, two := w.carrier(1, nil), w.carrier(2, nil)
		w.hub.SetPodCIDRs("n3", podCIDRs(3))
		w.hub.SetPodCIDRs("thief", []netip.Prefix{netip.MustParsePrefix("10.42.2.128/25"), netip.MustParsePrefix("10.42.0.0/16")})
		synctest.Wait()
		for _, p := range [][]byte{
			packet("10.42.3.5", "10.42.2.5", 100),           // another's
			packet("10.42.2.6", "10.42.2.5", 100),           // its own
			packet("192.0.2.1", "10.42.2.5", 100),           // nobody's
			packet("127.0.0.1", "10.42.2.5", 100),           // the machine's
			packet("fd00:42:0:3::5", "fd00:42:0:2::5", 100), // another's
			packet("10.42.1.5", "10.42.1.6", 100),           // to itself
			packet("10.42.1.5", "10.42.3.5", 100),           // to who is away
			packet("10.42.1.5", "192.0.2.1", 100),           // out
			packet("10.42.1.5", "255.255.255.255", 100),
			packet("fd00:42:0:1::5", "ff02::1", 100),
			{}, {0x45}, make([]byte, 100), bytes.Repeat([]byte{0xff}, 100), packet("10.42.1.5", "10.42.2.5", 20)[:19],
		} {
			one.Send(p)
		}
		last := packet("10.42.1.5", "10.42.2.200", 100)
		one.Send(last)
		if got := <-two.got; !bytes.Equal(got, last) {
			t.Errorf("%x came through", got)
		}
		synctest.Wait()
		if len(two.got)+len(one.got) > 0 {
			t.Error("more came through")
		}
		// One more goes to who is away.
		if got, want := w.hub.RelayStats(), (RelayStats{Spoofed: 5, Dropped: 1}); got != want {
			t.Errorf("counted: %+v, want %+v", got, want)
		}
		// A node that is gone owns nothing any more, and who comes after it does.
		w.hub.SetPodCIDRs("n2", nil)
		one.Send(last)
		synctest.Wait()
		if len(two.got) > 0 {
			t.Error("a node that is gone was sent a packet")
		}
		w.end()
	})
}

// stuck is a connection whose far end takes nothing any more.
type stuck struct {
	net.Conn
	closed chan struct{}
	once   sync.Once
}

func (s *stuck) Read([]byte) (int, error) {
	<-s.closed
	return 0, net.ErrClosed
}

func (s *stuck) Close() error {
	s.once.Do(func() { close(s.closed) })
	return s.Conn.Close()
}

// A node that takes nothing loses its packets and holds up nobody.
func TestSlowReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := onPipes(t)
		upgraded := 0
		slow := func(conn net.Conn) net.Conn {
			upgraded++
			return &late{Conn: conn, after: 1, then: &stuck{Conn: conn, closed: make(chan struct{})}}
		}
		one, two, three := w.carrier(1, nil), w.carrier(2, nil), w.carrier(3, slow)
		synctest.Wait()
		const packets, length = 1000, 1400
		for range packets {
			one.Send(packet("10.42.1.5", "10.42.3.5", length))
			synctest.Wait() // as fast as the slowest but one takes them
			one.Send(packet("10.42.1.5", "10.42.2.5", length))
			synctest.Wait()
		}
		if len(two.got) != packets {
			t.Errorf("%d of %d packets reached the node that takes them", len(two.got), packets)
		}
		if len(three.got) != 0 || upgraded == 0 {
			t.Fatalf("the slow node took %d packets over %d connections", len(three.got), upgraded)
		}
		port := w.hub.relay.ports["n3"]
		queued := (packets - int(port.queue.dropped.Load())) * (length + headerLen)
		if queued > 3*queueBytes {
			t.Errorf("%d bytes wait for the slow node", queued)
		}
		w.end()
	})
}

// late is a connection that becomes another after some reads.
type late struct {
	net.Conn
	after int
	then  *stuck
}

func (l *late) Read(p []byte) (int, error) {
	if l.after--; l.after < 0 {
		return l.then.Read(p)
	}
	return l.Conn.Read(p)
}

func (l *late) Close() error { return l.then.Close() }

// The server's own node needs no connection.
func TestOwnPort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := onPipes(t)
		one := w.carrier(1, nil)
		w.hub.SetPodCIDRs("own", podCIDRs(9))
		own := w.hub.Attach("own")
		got := make(chan []byte, 1)
		var open []bool
		disconnect := own.Connect(func(p []byte) { got <- bytes.Clone(p) }, func(o bool) { open = append(open, o) })
		synctest.Wait()
		there, back := packet("10.42.9.5", "10.42.1.5", 100), packet("10.42.1.5", "10.42.9.5", 100)
		own.Send(there)
		if p := <-one.got; !bytes.Equal(p, there) {
			t.Errorf("there: %x", p)
		}
		one.Send(back)
		if p := <-got; !bytes.Equal(p, back) {
			t.Errorf("back: %x", p)
		}
		if len(open) != 1 || !open[0] {
			t.Errorf("the way was said to be open: %v", open)
		}
		disconnect()
		one.Send(back)
		synctest.Wait()
		if len(got) > 0 {
			t.Error("a packet came after the end")
		}
		w.end()
	})
}

// The way closes with the tunnel, and a connection that says nothing is given up.
func TestPacketsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := onPipes(t)
		off := make(chan struct{})
		one := w.carrier(1, func(conn net.Conn) net.Conn { return &blackHole{conn, off} })
		two := w.carrier(2, nil)
		synctest.Wait()
		two.Send(packet("10.42.2.5", "10.42.1.5", 100))
		<-one.got
		close(off)
		time.Sleep(silence + time.Second)
		if w.hub.relay.ports["n1"].used() {
			t.Error("the relay holds a connection that nothing comes from")
		}
		for range len(one.open) {
			<-one.open
		}
		w.link("n1").close()
		if <-one.open {
			t.Error("the way is open without a tunnel")
		}
		if !<-one.open {
			t.Error("the way did not open again with the tunnel")
		}
		w.end()
	})
}
