package nft

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Place is what AddressPort loads, or Port where Addr is the zero value: where a
// packet goes to.
type Place struct {
	Addr  netip.Addr
	Proto uint8
	Port  uint16
}

// Encode is the place as a table's sets have it: every field fills up to 4 bytes.
func (p Place) Encode() []byte {
	var b []byte
	if p.Addr.IsValid() {
		b = append(b, p.Addr.AsSlice()...)
	}
	b = append(b, p.Proto, 0, 0, 0)
	return append(binary.BigEndian.AppendUint16(b, p.Port), 0, 0)
}

// DecodePlace reads a place with an address, or one that is a port alone.
func DecodePlace(b []byte, port bool) (Place, error) {
	var p Place
	if !port {
		a, ok := netip.AddrFromSlice(b[:max(len(b)-8, 0)])
		if !ok {
			return p, fmt.Errorf("a key of %d bytes", len(b))
		}
		p.Addr, b = a, b[len(b)-8:]
	}
	if len(b) != 8 {
		return p, fmt.Errorf("a key of %d bytes", len(b))
	}
	p.Proto, p.Port = b[0], binary.BigEndian.Uint16(b[4:])
	return p, nil
}

// EncodeEndpoint is an endpoint as the maps of DNAT have it.
func EncodeEndpoint(e netip.AddrPort) []byte {
	return append(binary.BigEndian.AppendUint16(e.Addr().AsSlice(), e.Port()), 0, 0)
}

// DecodeEndpoint is the reverse of EncodeEndpoint.
func DecodeEndpoint(b []byte) (netip.AddrPort, error) {
	a, ok := netip.AddrFromSlice(b[:max(len(b)-4, 0)])
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("an endpoint of %d bytes", len(b))
	}
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(b[len(b)-4:])), nil
}
