package mesh

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"time"
)

// Packets carries IP packets to other nodes by way of the servers.
type Packets interface {
	// Send passes a packet on, to the node whose share of the Pod range has its
	// destination. It does not block for long and drops what it cannot pass on.
	// The slice is the caller's again when it returns.
	Send(packet []byte)

	// Connect says who takes what other nodes sent here, and who is told
	// whether there is a way: once at first, then whenever that changes. Both
	// return soon, may be called by several at a time, and are not called any
	// more once disconnect has returned. The packet is the callee's only until
	// it returns.
	Connect(receive func(packet []byte), open func(bool)) (disconnect func())
}

// relay is the link whose packets go by way of the servers.
type relay struct {
	link    *os.File
	packets Packets
	own     netip.Prefix
	ranges  []netip.Prefix
}

// maxPacket is as large as an IP packet may be.
const maxPacket = 64 << 10

// run carries packets both ways until the context ends; open is told whether
// there is a way.
func (r *relay) run(ctx context.Context, open func(bool)) error {
	disconnect := r.packets.Connect(r.receive, open)
	defer disconnect()
	return r.send(ctx)
}

// send passes on what the kernel routes into the link.
func (r *relay) send(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = r.link.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	b := make([]byte, maxPacket)
	for {
		n, err := r.link.Read(b)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read packets for other nodes: %w", err)
		}
		if source, destination, ok := ends(b[:n]); ok && r.isOurs(source) && !r.isOurs(destination) {
			r.packets.Send(b[:n])
		}
	}
}

// receive gives the kernel what another node sent. Nobody may speak for this
// node's Pods, nor send anything but what is meant for them.
func (r *relay) receive(packet []byte) {
	source, destination, ok := ends(packet)
	if !ok || r.isOurs(source) || !r.isOurs(destination) || !within(netip.PrefixFrom(source, source.BitLen()), r.ranges) {
		return
	}
	// What the kernel does not take is lost, as on any network.
	_, _ = r.link.Write(packet)
}

func (r *relay) isOurs(a netip.Addr) bool { return r.own.Contains(a) }

// ends reads where an IPv4 packet comes from and where it goes.
func ends(packet []byte) (source, destination netip.Addr, ok bool) {
	const least = 20
	if len(packet) < least || packet[0]>>4 != 4 || int(binary.BigEndian.Uint16(packet[2:])) != len(packet) {
		return source, destination, false
	}
	return netip.AddrFrom4([4]byte(packet[12:16])), netip.AddrFrom4([4]byte(packet[16:20])), true
}
