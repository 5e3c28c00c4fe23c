package mesh

import (
	"testing"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
)

func TestEchoPackets(t *testing.T) {
	mine, theirs := &echoes{nonce: [8]byte{1}}, &echoes{nonce: [8]byte{2}}
	for _, size := range []int{leastSize, 65, 1230, 1450, 8950} {
		request := mine.packet(7, size, true)
		if len(request)+ipHeader != size {
			t.Errorf("packet of %d is %d long", size, len(request)+ipHeader)
		}
		if checksum(request) != 0 {
			t.Errorf("checksum of size %d is wrong", size)
		}
		m, err := icmp.ParseMessage(1, request)
		if err != nil || m.Type != ipv4.ICMPTypeEcho || m.Body.(*icmp.Echo).Seq != 7 {
			t.Fatalf("another implementation reads %+v, %v", m, err)
		}
		if heard, ok := theirs.parse(request); !ok || heard.answer {
			t.Errorf("the peer hears %+v, %v", heard, ok)
		}
		if _, ok := mine.parse(request); ok {
			t.Error("who asks hears itself")
		}
		reply := append([]byte{echoReply}, request[1:]...)
		if heard, ok := mine.parse(reply); !ok || heard != (echo{answer: true, round: 7, size: size}) {
			t.Errorf("who asked hears %+v, %v", heard, ok)
		}
		if _, ok := theirs.parse(reply); ok {
			t.Error("an answer to another counts")
		}
	}
	if _, ok := theirs.parse(mine.packet(7, leastSize, false)); ok {
		t.Error("a check counts as a greeting")
	}
}

func TestForeignEchoes(t *testing.T) {
	e := &echoes{nonce: [8]byte{1}}
	for _, b := range [][]byte{nil, {8}, make([]byte, 8), make([]byte, 64), e.packet(1, 64, true)[:20]} {
		if heard, ok := e.parse(b); ok {
			t.Errorf("%d bytes of no probe: %+v", len(b), heard)
		}
	}
}
