package service

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/skiff-sh/skiff/internal/nft"
)

// mirror is what the table of one family holds, as far as this package wrote
// it, so that a change touches only the elements that differ. It decides and
// does no I/O: an edit says what to apply. If that fails, the mirror is worth
// nothing any more and another is adopted from the kernel.
type mirror struct {
	layout layout
	there  map[Key]*entry
	made   map[string]bool // chains of spread and endpoint
}

// entry is one frontend in the table.
type entry struct {
	chain string           // goto of svc, "" for none
	none  string           // goto of none, "" for none
	slots []netip.AddrPort // slots[i] is in map epI; a zero value is a hole
}

func newMirror(f nft.Family) *mirror {
	return &mirror{layout: layout{f}, there: map[Key]*entry{}, made: map[string]bool{}}
}

// stale is an endpoint that a frontend no longer has.
type stale struct {
	key      Key
	endpoint netip.AddrPort
}

// move is a change of the endpoint at an index of a frontend whose clients are
// remembered: where the endpoint is now, or -1.
type move struct {
	key      Key
	from, to int
}

// edit collects what frontends shall be, and then the elements of one
// transaction by set. Only the last word on each frontend counts: the kernel
// deletes before it adds, so no element may be changed twice.
type edit struct {
	m      *mirror
	want   map[Key]*Frontend // nil for none
	keys   []Key             // of want, in order
	change nft.Change
	del    map[string]*nft.Entries
	add    map[string]*nft.Entries
	order  []string
	gone   []stale
	moves  []move
}

func (m *mirror) edit() *edit {
	return &edit{m: m, want: map[Key]*Frontend{}, del: map[string]*nft.Entries{}, add: map[string]*nft.Entries{}}
}

// put makes the frontend what it shall be.
func (e *edit) put(f Frontend) { e.set(f.Key, &f) }

// remove takes the frontend away.
func (e *edit) remove(k Key) { e.set(k, nil) }

func (e *edit) set(k Key, f *Frontend) {
	if _, known := e.want[k]; !known {
		e.keys = append(e.keys, k)
	}
	e.want[k] = f
}

// done returns the transaction, and the mirror is what the table will be.
func (e *edit) done() nft.Change {
	for _, k := range e.keys {
		if f := e.want[k]; f != nil {
			e.bring(*f)
		} else {
			e.drop(k)
		}
	}
	for _, name := range e.order {
		if d := e.del[name]; d != nil {
			e.change.Delete = append(e.change.Delete, *d)
		}
		if a := e.add[name]; a != nil {
			e.change.Add = append(e.change.Add, *a)
		}
	}
	return e.change
}

func (e *edit) note(to map[string]*nft.Entries, s nft.Set, el nft.Element) {
	if e.del[s.Name] == nil && e.add[s.Name] == nil {
		e.order = append(e.order, s.Name)
	}
	if to[s.Name] == nil {
		to[s.Name] = &nft.Entries{Set: s}
	}
	to[s.Name].Elements = append(to[s.Name].Elements, el)
}

// bring changes the table's frontend to what it shall be.
func (e *edit) bring(f Frontend) {
	have := e.m.there[f.Key]
	if have == nil {
		have = &entry{}
		e.m.there[f.Key] = have
	}
	e.chains(f)
	slots, gone := arrange(have.slots, f.Endpoints)
	e.moveSlots(f.Key, have.slots, slots)
	e.moveClients(f.Key, have, slots)
	have.slots = slots
	for _, g := range gone {
		e.gone = append(e.gone, stale{f.Key, g})
	}
	port := !f.Key.Addr.IsValid()
	e.verdict(e.m.layout.svc(port), f.Key, &have.chain, chainOf(f))
	e.verdict(e.m.layout.none(port), f.Key, &have.none, noneOf(f))
}

func (e *edit) drop(k Key) {
	have := e.m.there[k]
	if have == nil {
		return
	}
	port := !k.Addr.IsValid()
	e.moveSlots(k, have.slots, nil)
	e.moveClients(k, have, nil)
	e.verdict(e.m.layout.svc(port), k, &have.chain, "")
	e.verdict(e.m.layout.none(port), k, &have.none, "")
	for _, g := range have.slots {
		if g.IsValid() {
			e.gone = append(e.gone, stale{k, g})
		}
	}
	delete(e.m.there, k)
}

func (e *edit) verdict(s nft.Set, k Key, have *string, want string) {
	if *have == want {
		return
	}
	if *have != "" {
		e.note(e.del, s, nft.Element{Key: k.Encode()})
	}
	if want != "" {
		e.note(e.add, s, nft.Element{Key: k.Encode(), Chain: want})
	}
	*have = want
}

func (e *edit) moveSlots(k Key, have, want []netip.AddrPort) {
	port := !k.Addr.IsValid()
	for i := range max(len(have), len(want)) {
		var h, w netip.AddrPort
		if i < len(have) {
			h = have[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if h == w {
			continue
		}
		if h.IsValid() {
			e.note(e.del, e.m.layout.ep(port, i), nft.Element{Key: k.Encode()})
		}
		if w.IsValid() {
			e.note(e.add, e.m.layout.ep(port, i), nft.Element{Key: k.Encode(), Value: nft.EncodeEndpoint(w)})
		}
	}
}

// moveClients notes which indices clients remember that mean another endpoint
// now.
func (e *edit) moveClients(k Key, have *entry, want []netip.AddrPort) {
	if !strings.Contains(have.chain, "-a") {
		return
	}
	for i, h := range have.slots {
		if h.IsValid() && (i >= len(want) || want[i] != h) {
			e.moves = append(e.moves, move{k, i, slices.Index(want, h)})
		}
	}
}

// arrange keeps every wanted endpoint where it is, puts new ones into holes and
// at the end, and fills holes that are left with the last ones.
func arrange(have, want []netip.AddrPort) (slots, gone []netip.AddrPort) {
	wanted := make(map[netip.AddrPort]bool, len(want))
	for _, w := range want {
		wanted[w] = true
	}
	slots = make([]netip.AddrPort, len(have), max(len(have), len(want)))
	for i, h := range have {
		switch {
		case wanted[h]:
			slots[i] = h
			delete(wanted, h)
		case h.IsValid():
			gone = append(gone, h)
		}
	}
	next := 0
	for _, w := range want {
		if !wanted[w] {
			continue
		}
		for next < len(slots) && slots[next].IsValid() {
			next++
		}
		if next == len(slots) {
			slots = append(slots, w)
		} else {
			slots[next] = w
		}
	}
	for i := 0; i < len(slots); i++ {
		for len(slots) > i && !slots[len(slots)-1].IsValid() {
			slots = slots[:len(slots)-1]
		}
		if i < len(slots) && !slots[i].IsValid() {
			slots[i] = slots[len(slots)-1]
			slots = slots[:len(slots)-1]
		}
	}
	return slots, gone
}

// chains makes the chains and maps that the frontend needs and that are not
// there yet. They are shared and stay.
func (e *edit) chains(f Frontend) {
	port := !f.Key.Addr.IsValid()
	k := len(f.Endpoints)
	if k == 0 {
		return
	}
	suffix := affinitySuffix(f.Affinity)
	for i := range k {
		e.once(prefix(port, "e"+strconv.Itoa(i)+suffix), func() nft.Change { return e.m.layout.endpoint(port, i, f.Affinity) })
	}
	e.once(prefix(port, "n"+strconv.Itoa(k)+suffix), func() nft.Change { return e.m.layout.spread(port, k, f.Affinity) })
}

func (e *edit) once(chain string, make func() nft.Change) {
	if e.m.made[chain] {
		return
	}
	e.m.made[chain] = true
	c := make()
	e.change.Sets = append(e.change.Sets, c.Sets...)
	e.change.NewChains = append(e.change.NewChains, c.NewChains...)
	e.change.Add = append(e.change.Add, c.Add...)
}

// source is where a mirror reads what the kernel has.
type source interface {
	SetNames() ([]string, error)
	Elements(...nft.Set) (map[string][]nft.Element, error)
}

// adopt reads what a former process left, to be changed into what shall be.
// Chains are written anew all the same: they are few, and may be of an older
// version.
func adopt(f nft.Family, from source) (*mirror, error) {
	m := newMirror(f)
	names, err := from.SetNames()
	if err != nil {
		return nil, err
	}
	for _, port := range []bool{false, true} {
		sets := []nft.Set{m.layout.svc(port), m.layout.none(port)}
		maps := map[int]nft.Set{}
		for _, name := range names {
			if i, ok := indexOf(name, port); ok {
				maps[i] = m.layout.ep(port, i)
				sets = append(sets, maps[i])
			}
		}
		elements, err := from.Elements(sets...)
		if err != nil {
			return nil, err
		}
		if err := m.adopt(port, maps, elements); err != nil {
			return nil, fmt.Errorf("read nftables: %w", err)
		}
	}
	return m, nil
}

func (m *mirror) adopt(port bool, maps map[int]nft.Set, elements map[string][]nft.Element) error {
	each := func(set string, do func(*entry, nft.Element) error) error {
		for _, el := range elements[set] {
			k, err := nft.DecodePlace(el.Key, port)
			if err != nil {
				return fmt.Errorf("set %s: %w", set, err)
			}
			if m.there[k] == nil {
				m.there[k] = &entry{}
			}
			if err := do(m.there[k], el); err != nil {
				return fmt.Errorf("set %s: %w", set, err)
			}
		}
		return nil
	}
	err := each(m.layout.svc(port).Name, func(e *entry, el nft.Element) error { e.chain = el.Chain; return nil })
	if err != nil {
		return err
	}
	err = each(m.layout.none(port).Name, func(e *entry, el nft.Element) error { e.none = el.Chain; return nil })
	if err != nil {
		return err
	}
	for i, s := range maps {
		err := each(s.Name, func(e *entry, el nft.Element) error {
			ap, err := nft.DecodeEndpoint(el.Value)
			for len(e.slots) <= i {
				e.slots = append(e.slots, netip.AddrPort{})
			}
			e.slots[i] = ap
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
