package service

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/skiff-sh/skiff/internal/nft"
)

func addrPorts(ns ...int) []netip.AddrPort {
	var out []netip.AddrPort
	for _, n := range ns {
		if n == 0 {
			out = append(out, netip.AddrPort{})
			continue
		}
		out = append(out, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 42, byte(n >> 8), byte(n)}), 80))
	}
	return out
}

func TestArrange(t *testing.T) {
	for _, tc := range []struct {
		name        string
		have, want  []int
		slots, gone []int
	}{
		{"first", nil, []int{1, 2}, []int{1, 2}, nil},
		{"nothing changes, whatever the order", []int{2, 1}, []int{1, 2}, []int{2, 1}, nil},
		{"one more", []int{2, 1}, []int{1, 2, 3}, []int{2, 1, 3}, nil},
		{"a hole is filled with the last one", []int{1, 2, 3}, []int{2, 3}, []int{3, 2}, []int{1}},
		{"the last one goes", []int{1, 2, 3}, []int{1, 2}, []int{1, 2}, []int{3}},
		{"a new one takes the place", []int{1, 2, 3}, []int{2, 3, 4}, []int{4, 2, 3}, []int{1}},
		{"more new ones than holes", []int{1, 2}, []int{2, 4, 5}, []int{4, 2, 5}, []int{1}},
		{"many holes", []int{1, 2, 3, 4, 5}, []int{4}, []int{4}, []int{1, 2, 3, 5}},
		{"all go", []int{1, 2}, nil, nil, []int{1, 2}},
		{"holes left by a former process", []int{0, 1, 0, 2}, []int{1, 2}, []int{2, 1}, nil},
	} {
		slots, gone := arrange(addrPorts(tc.have...), addrPorts(tc.want...))
		if !slices.Equal(slots, addrPorts(tc.slots...)) || !slices.Equal(gone, addrPorts(tc.gone...)) {
			t.Errorf("%s: slots %v, gone %v", tc.name, slots, gone)
		}
	}
}

// table is a model of the kernel's: a transaction fails as the kernel's would.
type table struct {
	sets   map[string]map[string]nft.Element
	chains map[string]bool
}

func (tb *table) apply(t *testing.T, c nft.Change) {
	t.Helper()
	for _, s := range c.Sets {
		if tb.sets[s.Name] == nil {
			tb.sets[s.Name] = map[string]nft.Element{}
		}
	}
	for _, k := range c.NewChains {
		tb.chains[k.Name] = true
	}
	for _, e := range c.Delete {
		for _, el := range e.Elements {
			if _, has := tb.sets[e.Set.Name][string(el.Key)]; !has {
				t.Fatalf("delete %x from %s: not there", el.Key, e.Set.Name)
			}
			delete(tb.sets[e.Set.Name], string(el.Key))
		}
	}
	for _, e := range c.Add {
		for _, el := range e.Elements {
			if tb.sets[e.Set.Name] == nil {
				t.Fatalf("add to %s: no such set", e.Set.Name)
			}
			if _, has := tb.sets[e.Set.Name][string(el.Key)]; has {
				t.Fatalf("add %x to %s: there already", el.Key, e.Set.Name)
			}
			if el.Chain != "" && !tb.chains[el.Chain] {
				t.Fatalf("go to chain %s: not there", el.Chain)
			}
			tb.sets[e.Set.Name][string(el.Key)] = el
		}
	}
}

// resolve follows a frontend's packets: the endpoints they may reach.
func (tb *table) resolve(t *testing.T, f Frontend) []netip.AddrPort {
	t.Helper()
	port := !f.Key.Addr.IsValid()
	el, has := tb.sets[layout{nft.IPv4}.svc(port).Name][string(f.Key.Encode())]
	if !has {
		return nil
	}
	if el.Chain != chainOf(f) {
		t.Fatalf("goes to %s, want %s", el.Chain, chainOf(f))
	}
	var out []netip.AddrPort
	for i := range f.Endpoints {
		e, has := tb.sets[layout{nft.IPv4}.ep(port, i).Name][string(f.Key.Encode())]
		if !has {
			t.Fatalf("no endpoint %d of %d", i, len(f.Endpoints))
		}
		ap, err := nft.DecodeEndpoint(e.Value)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, ap)
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return out
}

func (tb *table) elements() (n int) {
	for name, s := range tb.sets {
		if _, isEp := indexOf(name, false); isEp || name == "svc" || name == "none" {
			n += len(s)
		}
	}
	return n
}

func TestRandomChangesLeadWhereTheyShould(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	m := newMirror(nft.IPv4)
	tb := &table{sets: map[string]map[string]nft.Element{"svc": {}, "none": {}}, chains: map[string]bool{"reject": true, "drop": true}}
	want := map[Key]Frontend{}
	for step := range 3000 {
		e := m.edit()
		for range 1 + r.IntN(3) {
			k := Key{Addr: netip.AddrFrom4([4]byte{10, 43, 0, byte(r.IntN(6))}), Proto: 6, Port: uint16(80 + r.IntN(2))}
			if r.IntN(5) == 0 {
				e.remove(k)
				delete(want, k)
				continue
			}
			f := Frontend{Key: k, Masquerade: r.IntN(2) == 0, Drop: r.IntN(2) == 0}
			for _, n := range r.Perm(8)[:r.IntN(8)] {
				f.Endpoints = append(f.Endpoints, addrPorts(n+1)...)
			}
			slices.SortFunc(f.Endpoints, netip.AddrPort.Compare)
			e.put(f)
			want[k] = f
		}
		tb.apply(t, e.done())
		elements := 0
		for _, k := range slices.Collect(maps.Keys(want)) {
			f := want[k]
			if got := tb.resolve(t, f); !slices.Equal(got, f.Endpoints) {
				t.Fatalf("step %d: %v reaches %v, want %v", step, k, got, f.Endpoints)
			}
			elements += 1 + len(f.Endpoints) // svc or none, and the endpoints
		}
		if got := tb.elements(); got != elements {
			t.Fatalf("step %d: %d elements, want %d", step, got, elements)
		}
	}
}

func TestOneEndpointIsOneElement(t *testing.T) {
	m := newMirror(nft.IPv4)
	key := Key{Addr: netip.MustParseAddr("10.43.0.80"), Proto: 6, Port: 80}
	e := m.edit()
	e.put(Frontend{Key: key, Endpoints: addrPorts(1, 2, 3)})
	e.done()
	e = m.edit()
	e.put(Frontend{Key: key, Endpoints: addrPorts(2, 3, 4)})
	c := e.done()
	if got := fmt.Sprint(len(c.Sets), len(c.NewChains), len(c.Delete), len(c.Add)); got != "0 0 1 1" {
		t.Errorf("sets, chains, deletions, additions: %s", got)
	}
	if len(c.Delete[0].Elements) != 1 || len(c.Add[0].Elements) != 1 || c.Add[0].Set.Name != "ep0" {
		t.Errorf("change %+v", c)
	}
	e = m.edit()
	e.put(Frontend{Key: key, Endpoints: addrPorts(2, 3, 4)})
	if c := e.done(); !c.Empty() {
		t.Errorf("nothing changed, yet there is %+v", c)
	}
}
