package mesh

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// echoes asks peers whether they are there, by ICMP echo, which a peer's kernel
// answers by itself, and hears what peers ask.
//
// A probe carries who sent it, of which round it is and how large it was, so
// that no answer is taken for another's and none can be made up by who has not
// seen the question.
type echoes struct {
	conn  *net.IPConn
	nonce [8]byte // of this process
}

// echo is what was heard of a peer.
type echo struct {
	from   netip.Addr // its beacon
	answer bool       // to a probe of ours; else the peer tests a path to us
	round  uint64     // of our probe
	size   int        // of our probe
}

const (
	echoReply, echoRequest = 0, 8

	icmpHeader = 8
	ipHeader   = 20
	probeSize  = 8 + 8 + 8 + 2 + 1 // magic, nonce, round, size, asks
	echoBuffer = 4 << 20           // room for the answers of a thousand peers
)

// probeMagic begins every probe: other nodes know by it that a path is tested.
const probeMagic = 0x736b_6966_666d_6573

// openEchoes listens on this node's address in the Pod range.
func openEchoes(gateway netip.Addr) (*echoes, error) {
	conn, err := net.ListenIP("ip4:icmp", &net.IPAddr{IP: gateway.AsSlice()})
	if err != nil {
		return nil, fmt.Errorf("open a socket for probes: %w", err)
	}
	e := &echoes{conn: conn}
	if _, err := rand.Read(e.nonce[:]); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if err := setEchoOptions(conn); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare the socket for probes: %w", err), conn.Close())
	}
	return e, nil
}

func setEchoOptions(conn *net.IPConn) error {
	control, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	pass := uint32(1<<echoReply | 1<<echoRequest)
	var discover, filter error
	err = control.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, echoBuffer)
		// Not to be fragmented, whatever is known of the path: that is the question.
		discover = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
		filter = unix.SetsockoptInt(int(fd), unix.SOL_RAW, unix.ICMP_FILTER, int(int32(^pass)))
	})
	return errors.Join(err, discover, filter)
}

// send asks the peer for each of the sizes. What cannot be sent is not answered
// either, so that errors tell nothing.
func (e *echoes) send(to netip.Addr, p *probe) {
	for _, size := range p.sizes {
		_, _ = e.conn.WriteToIP(e.packet(p.round, size, p.asks), &net.IPAddr{IP: to.AsSlice()})
	}
}

// packet is an echo request of the size, IP header included.
func (e *echoes) packet(round uint64, size int, asks bool) []byte {
	b := make([]byte, max(size-ipHeader, icmpHeader+probeSize))
	b[0] = echoRequest
	copy(b[4:], e.nonce[:2]) // identifier
	binary.BigEndian.PutUint16(b[6:], uint16(round))
	body := b[icmpHeader:]
	binary.BigEndian.PutUint64(body, probeMagic)
	copy(body[8:], e.nonce[:])
	binary.BigEndian.PutUint64(body[16:], round)
	binary.BigEndian.PutUint16(body[24:], uint16(size))
	if asks {
		body[26] = 1
	}
	binary.BigEndian.PutUint16(b[2:], checksum(b))
	return b
}

// parse reads what came; not ok for what concerns nobody here.
func (e *echoes) parse(b []byte) (heard echo, ok bool) {
	if len(b) < icmpHeader+probeSize {
		return echo{}, false
	}
	body := b[icmpHeader:]
	if binary.BigEndian.Uint64(body) != probeMagic {
		return echo{}, false
	}
	own := [8]byte(body[8:16]) == e.nonce
	switch {
	case b[0] == echoReply && own:
		size := int(binary.BigEndian.Uint16(body[24:]))
		return echo{answer: true, round: binary.BigEndian.Uint64(body[16:]), size: size}, true
	case b[0] == echoRequest && !own:
		return echo{}, body[26] == 1
	}
	return echo{}, false
}

// receive hands on what is heard until the context ends.
func (e *echoes) receive(ctx context.Context, heard chan<- echo) error {
	stop := context.AfterFunc(ctx, func() { _ = e.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	b := make([]byte, 64<<10)
	for {
		n, from, err := e.conn.ReadFromIP(b)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("listen for answers to probes: %w", err)
		}
		what, ok := e.parse(b[:n])
		if !ok {
			continue
		}
		if what.from, ok = netip.AddrFromSlice(from.IP); !ok {
			continue
		}
		if what.from = what.from.Unmap(); !what.answer { // asked from its gateway
			what.from = what.from.Prev()
		}
		select {
		case heard <- what:
		case <-ctx.Done():
			return nil
		}
	}
}

// checksum is the Internet checksum (RFC 1071).
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
