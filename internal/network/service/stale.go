package service

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/internal/nft"
)

// forgetClients makes those who remember an index remember where their
// endpoint is now, or nothing if it is gone.
func forgetClients(p *plane, moves []move) error {
	if len(moves) == 0 {
		return nil
	}
	byIndex := map[int]map[Key]int{}
	for _, m := range moves {
		if byIndex[m.from] == nil {
			byIndex[m.from] = map[Key]int{}
		}
		byIndex[m.from][m.key] = m.to
	}
	// Read all before the first change: an endpoint may move to an index that
	// another one leaves.
	var sets []nft.Set
	for i := range byIndex {
		sets = append(sets, p.m.layout.clients(i))
	}
	found, err := p.conn.Elements(sets...)
	if err != nil {
		return err
	}
	var leave, come []nft.Entries
	for i, moved := range byIndex {
		from := p.m.layout.clients(i)
		for _, el := range found[from.Name] {
			to, is := movedTo(el.Key, moved, p.scope.IPv6)
			if !is {
				continue
			}
			leave = append(leave, nft.Entries{Set: from, Elements: []nft.Element{{Key: el.Key}}})
			if to >= 0 {
				come = append(come, nft.Entries{Set: p.m.layout.clients(to), Elements: []nft.Element{el}})
			}
		}
	}
	var errs []error
	for _, one := range leave {
		// One by one: it may have timed out since, and then the whole
		// transaction fails.
		if err := p.conn.Apply(nft.Change{Delete: []nft.Entries{one}}); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, p.conn.Apply(nft.Change{Add: come}))...)
}

// movedTo says to which index the client of the encoded key moves.
func movedTo(key []byte, moved map[Key]int, v6 bool) (to int, is bool) {
	source := 4
	if v6 {
		source = 16
	}
	k, err := nft.DecodePlace(key[min(source, len(key)):], false)
	if err != nil {
		return 0, false
	}
	if to, is = moved[k]; is {
		return to, true
	}
	k.Addr = netip.Addr{} // a node port's client was asked for at some address
	to, is = moved[k]
	return to, is
}

// udpTo matches the conntrack entries of UDP that lead to endpoints that are
// gone.
type udpTo map[stale]bool

// MatchConntrackFlow is called for each entry.
func (u udpTo) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	if f.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	dst, ok := netip.AddrFromSlice(f.Forward.DstIP)
	src, ok2 := netip.AddrFromSlice(f.Reverse.SrcIP)
	if !ok || !ok2 {
		return false
	}
	k := Key{Addr: dst.Unmap(), Proto: unix.IPPROTO_UDP, Port: f.Forward.DstPort}
	to := netip.AddrPortFrom(src.Unmap(), f.Reverse.SrcPort)
	if u[stale{k, to}] {
		return true
	}
	k.Addr = netip.Addr{}
	return u[stale{k, to}]
}

// forgetUDP deletes the conntrack entries of UDP that lead to endpoints that
// are gone: a busy client keeps one alive for ever. TCP connections end by
// themselves.
func forgetUDP(p *plane, gone []stale) error {
	dead := udpTo{}
	for _, g := range gone {
		if g.key.Proto == unix.IPPROTO_UDP {
			dead[g] = true
		}
	}
	if len(dead) == 0 {
		return nil
	}
	family := netlink.InetFamily(netlink.FAMILY_V4)
	if p.scope.IPv6 {
		family = netlink.FAMILY_V6
	}
	if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, dead); err != nil {
		return fmt.Errorf("delete UDP connections: %w", err)
	}
	return nil
}
