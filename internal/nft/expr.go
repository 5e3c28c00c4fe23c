package nft

import (
	"net/netip"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Registers as the nft command numbers them, so that it lists our rules as if
// it had written them: a concatenation starts in a 16-byte register and goes
// on in the 4-byte ones that follow what the first field takes.
const (
	reg       = 1
	regAfter4 = 9 // the 4-byte register after an IPv4 address
	reg2      = 2 // the 16-byte register after an IPv6 address
	reg32Base = unix.NFT_REG32_00
)

// Rule joins what a rule is made of.
func Rule(parts ...[]expr.Any) []expr.Any {
	var all []expr.Any
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// header is where an address family keeps its addresses.
type header struct{ src, dst, size uint32 }

func headerOf(f Family) header {
	if f == IPv6 {
		return header{8, 24, 16}
	}
	return header{12, 16, 4}
}

// From matches packets whose source lies in the prefix; ToNot and To match by
// the destination.
func From(p netip.Prefix) []expr.Any { return match(p, headerOf(familyOf(p.Addr())).src, expr.CmpOpEq) }

// FromNot matches packets whose source does not lie in the prefix.
func FromNot(p netip.Prefix) []expr.Any {
	return match(p, headerOf(familyOf(p.Addr())).src, expr.CmpOpNeq)
}

// To matches packets whose destination lies in the prefix.
func To(p netip.Prefix) []expr.Any { return match(p, headerOf(familyOf(p.Addr())).dst, expr.CmpOpEq) }

// ToNot matches packets whose destination does not lie in the prefix.
func ToNot(p netip.Prefix) []expr.Any {
	return match(p, headerOf(familyOf(p.Addr())).dst, expr.CmpOpNeq)
}

// FromLinks matches packets that came in by a link whose name begins so.
func FromLinks(prefix string) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: []byte(prefix)},
	}
}

func familyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

func match(p netip.Prefix, offset uint32, op expr.CmpOp) []expr.Any {
	p = p.Masked()
	size := uint32(p.Addr().BitLen() / 8)
	load := &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size}
	cmp := &expr.Cmp{Op: op, Register: reg, Data: p.Addr().AsSlice()}
	if p.IsSingleIP() {
		return []expr.Any{load, cmp}
	}
	mask := make([]byte, size)
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return []expr.Any{load, &expr.Bitwise{
		SourceRegister: reg, DestRegister: reg, Len: size, Mask: mask, Xor: make([]byte, size),
	}, cmp}
}

// ToLocal matches packets to an address of this machine; ToElsewhere the
// others.
func ToLocal() []expr.Any { return addressType(expr.CmpOpEq) }

// ToElsewhere matches packets to an address that is not this machine's.
func ToElsewhere() []expr.Any { return addressType(expr.CmpOpNeq) }

func addressType(op expr.CmpOp) []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: reg, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: op, Register: reg, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
}

// BackWhereItCameFrom matches, in the forward hook, packets that leave by the
// link by which they came in.
func BackWhereItCameFrom() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: reg, FlagDADDR: true, FlagIIF: true, ResultOIF: true, FlagPRESENT: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: []byte{1}},
	}
}

// DestinationChanged matches packets of connections whose destination was
// translated.
func DestinationChanged() []expr.Any {
	const dnat = 0x20 // IPS_DST_NAT
	return append([]expr.Any{&expr.Ct{Key: expr.CtKeySTATUS, Register: reg}}, bits(dnat)...)
}

// Marked matches packets that have the mark bit.
func Marked(bit uint32) []expr.Any {
	return append([]expr.Any{&expr.Meta{Key: expr.MetaKeyMARK, Register: reg}}, bits(bit)...)
}

func bits(b uint32) []expr.Any {
	return []expr.Any{
		&expr.Bitwise{
			SourceRegister: reg, DestRegister: reg, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(b), Xor: make([]byte, 4),
		},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg, Data: make([]byte, 4)},
	}
}

// Mark sets the mark bit of a packet and keeps its others.
func Mark(bit uint32) []expr.Any { return setMark(^bit, bit) }

// Unmark clears the mark bit of a packet and keeps its others.
func Unmark(bit uint32) []expr.Any { return setMark(^bit, 0) }

func setMark(mask, xor uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: reg},
		&expr.Bitwise{
			SourceRegister: reg, DestRegister: reg, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(mask), Xor: binaryutil.NativeEndian.PutUint32(xor),
		},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: reg},
	}
}

// AddressPort loads destination address, protocol and destination port as the
// key of a set.
func AddressPort(f Family) []expr.Any {
	h := headerOf(f)
	next := uint32(regAfter4)
	after := uint32(regAfter4 + 1)
	if f == IPv6 {
		next, after = reg2, reg32Base+5
	}
	return []expr.Any{
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: h.dst, Len: h.size},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: next},
		&expr.Payload{DestRegister: after, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}
}

// Port loads protocol and destination port as the key of a set.
func Port() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg},
		&expr.Payload{DestRegister: regAfter4, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}
}

// In goes on if the loaded key is in the set.
func In(set string) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: reg, SetName: set}}
}

// Dispatch goes where the verdict map says for the loaded key, or on to the
// next rule if it has no entry.
func Dispatch(verdicts string) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: reg, DestRegister: unix.NFT_REG_VERDICT, IsDestRegSet: true, SetName: verdicts}}
}

// DNAT changes the destination to the address and port that the map holds for
// the loaded key, or goes on to the next rule if it has no entry.
func DNAT(f Family, endpoints string) []expr.Any {
	port := uint32(regAfter4)
	if f == IPv6 {
		port = reg2
	}
	return []expr.Any{
		&expr.Lookup{SourceRegister: reg, DestRegister: reg, IsDestRegSet: true, SetName: endpoints},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(f), RegAddrMin: reg, RegProtoMin: port},
	}
}

// SNAT changes the source to the address.
func SNAT(a netip.Addr) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: reg, Data: a.AsSlice()},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: uint32(familyOf(a)), RegAddrMin: reg, FullyRandom: true},
	}
}

// Masquerade changes the source to the address of the link that the packet
// leaves by.
func Masquerade() []expr.Any { return []expr.Any{&expr.Masq{FullyRandom: true}} }

// Random loads a random number below n as the key of a verdict map.
func Random(n int) []expr.Any {
	return []expr.Any{&expr.Numgen{Register: reg, Modulus: uint32(n), Type: unix.NFT_NG_RANDOM}}
}

// Number is a number as Random loads it.
func Number(n int) []byte { return binaryutil.NativeEndian.PutUint32(uint32(n)) }

// Reject answers with ICMP's port unreachable.
func Reject(f Family) []expr.Any {
	code := uint8(3) // ICMP_PORT_UNREACH
	if f == IPv6 {
		code = 4 // ICMPV6_PORT_UNREACH
	}
	return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: code}}
}

// Drop ends the packet's way.
func Drop() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}} }

// Return goes back to the chain that jumped here, or to the policy.
func Return() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}} }

// Jump goes through another chain and comes back.
func Jump(chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: chain}}
}

// Goto goes on in another chain and does not come back.
func Goto(chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: chain}}
}

// Types of the fields of keys and values.
func addressOf(f Family) nftables.SetDatatype {
	if f == IPv6 {
		return nftables.TypeIP6Addr
	}
	return nftables.TypeIPAddr
}

// AddressPortKey are the types of what AddressPort loads.
func AddressPortKey(f Family) []nftables.SetDatatype {
	return []nftables.SetDatatype{addressOf(f), nftables.TypeInetProto, nftables.TypeInetService}
}

// PortKey are the types of what Port loads.
func PortKey() []nftables.SetDatatype {
	return []nftables.SetDatatype{nftables.TypeInetProto, nftables.TypeInetService}
}

// EndpointValue are the types of what DNAT looks up.
func EndpointValue(f Family) []nftables.SetDatatype {
	return []nftables.SetDatatype{addressOf(f), nftables.TypeInetService}
}

// New matches packets that begin a connection.
func New() []expr.Any { return connection(expr.CtStateBitNEW) }

// Invalid matches packets that belong to no connection and begin none, as
// those outside of a TCP window.
func Invalid() []expr.Any { return connection(expr.CtStateBitINVALID) }

func connection(state uint32) []expr.Any {
	return append([]expr.Any{&expr.Ct{Key: expr.CtKeySTATE, Register: reg}}, bits(state)...)
}

// ClientKey are the types of what Client loads.
func ClientKey(f Family) []nftables.SetDatatype {
	return append([]nftables.SetDatatype{addressOf(f)}, AddressPortKey(f)...)
}

// Client loads source, destination, protocol and destination port as the key
// of a set.
func Client(f Family) []expr.Any {
	h := headerOf(f)
	words := h.size / 4
	dst := uint32(reg32Base) + words
	if f == IPv6 {
		dst = reg2
	}
	return []expr.Any{
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: h.src, Len: h.size},
		&expr.Payload{DestRegister: dst, Base: expr.PayloadBaseNetworkHeader, Offset: h.dst, Len: h.size},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg32Base + 2*words},
		&expr.Payload{DestRegister: reg32Base + 2*words + 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}
}

// Remember puts the loaded key into the set for the time given, anew if it is
// there.
func Remember(set string, keep time.Duration) []expr.Any {
	return []expr.Any{&expr.Dynset{SrcRegKey: reg, SetName: set, Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: keep}}
}

// TCP matches packets of that protocol.
func TCP() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: []byte{unix.IPPROTO_TCP}},
	}
}

// Reset answers a TCP packet by ending its connection.
func Reset() []expr.Any { return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}} }
