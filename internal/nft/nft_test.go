package nft

import (
	"context"
	"encoding/binary"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/skiff-sh/skiff/internal/netns/netnstest"
)

func TestMain(m *testing.M) { os.Exit(netnstest.Main(m)) }

const testTable = "skiff-test"

func open(t *testing.T, f Family) *Conn {
	t.Helper()
	c, err := Open(f, testTable)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		if err := Remove(testTable); err != nil {
			t.Error(err)
		}
	})
	return c
}

func portSet(name string) Set {
	return Set{Name: name, Key: PortKey(), Data: []nftables.SetDatatype{nftables.TypeVerdict}}
}

func portKey(port int) []byte {
	return append([]byte{6, 0, 0, 0}, append(binary.BigEndian.AppendUint16(nil, uint16(port)), 0, 0)...)
}

func TestManyElementsInOneTransaction(t *testing.T) {
	c := open(t, IPv4)
	set := portSet("ports")
	const n = 3*chunk + 7
	var all []Element
	for i := range n {
		all = append(all, Element{Key: portKey(i + 1), Chain: "target"})
	}
	ch := Change{
		Sets: []Set{set}, NewChains: []Chain{{Name: "target", Rules: [][]expr.Any{Drop()}}},
		Add: []Entries{{set, all}},
	}
	for range 2 { // the second time nothing is new
		if err := c.Apply(ch); err != nil {
			t.Fatal(err)
		}
		got, err := c.Elements(set, portSet("missing"))
		if err != nil {
			t.Fatal(err)
		}
		if len(got["ports"]) != n || got["ports"][0].Chain != "target" {
			t.Errorf("%d elements, the first %+v", len(got["ports"]), got["ports"][0])
		}
		if _, has := got["missing"]; has {
			t.Error("a set that does not exist has elements")
		}
	}
	if s := netnstest.NFT(t, "list", "chain", "ip", testTable, "target"); strings.Count(s, "drop") != 1 {
		t.Errorf("rules were added twice:\n%s", s)
	}
}

func TestAllOrNothing(t *testing.T) {
	c := open(t, IPv4)
	set := portSet("ports")
	chain := Chain{Name: "target", Rules: [][]expr.Any{Drop()}}
	one := []Element{{Key: portKey(1), Chain: "target"}}
	if err := c.Apply(Change{Sets: []Set{set}, NewChains: []Chain{chain}, Add: []Entries{{set, one}}}); err != nil {
		t.Fatal(err)
	}
	err := c.Apply(Change{
		Delete: []Entries{{set, []Element{{Key: portKey(99)}}}}, // is not there
		Add:    []Entries{{set, []Element{{Key: portKey(2), Chain: "target"}}}},
	})
	if err == nil {
		t.Fatal("deleting what is not there succeeded")
	}
	got, err := c.Elements(set) // and the connection goes on
	if err != nil {
		t.Fatal(err)
	}
	if len(got["ports"]) != 1 {
		t.Errorf("%d elements after a failed transaction", len(got["ports"]))
	}
}

func TestNoTable(t *testing.T) {
	c := open(t, IPv4)
	if got, err := c.Elements(portSet("ports")); err != nil || len(got) != 0 {
		t.Errorf("elements %v, %v", got, err)
	}
	if got, err := c.SetNames(); err != nil || len(got) != 0 {
		t.Errorf("sets %v, %v", got, err)
	}
	if got, err := c.Chains(); err != nil || len(got) != 0 {
		t.Errorf("chains %v, %v", got, err)
	}
	if err := c.Apply(Change{}); err != nil {
		t.Error(err)
	}
	if err := Remove(testTable); err != nil {
		t.Error(err)
	}
}

func TestDeleteChainsAndSets(t *testing.T) {
	c := open(t, IPv4)
	set := portSet("ports")
	err := c.Apply(Change{
		Sets: []Set{set},
		NewChains: []Chain{
			{Name: "a", Rules: [][]expr.Any{Goto("b")}}, {Name: "b", Rules: [][]expr.Any{Rule(Port(), Dispatch("ports"))}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Apply(Change{DelChains: []string{"b", "a"}, DelSets: []string{"ports"}}); err != nil {
		t.Fatal(err)
	}
	chains, err := c.Chains()
	sets, err2 := c.SetNames()
	if err != nil || err2 != nil || len(chains)+len(sets) != 0 {
		t.Errorf("chains %v, sets %v, %v, %v", chains, sets, err, err2)
	}
}

// Every expression, in both families, as the nft command reads it.
func TestExpressions(t *testing.T) {
	for _, tc := range []struct {
		family       Family
		name, prefix string
		want         []string
	}{
		{IPv4, "ip", "10.42.0.0/16", []string{
			"ip saddr 10.42.0.0/16 drop", "ip daddr 10.42.0.0/16 drop", "ip daddr != 10.42.0.0/16 drop",
			"fib daddr type local return", "fib daddr type != local return",
			"ct state new ct status dnat fib daddr . iif oif exists",
			"meta mark set meta mark | 0x00004000", "meta mark set meta mark & 0xffffbfff", "meta mark & 0x00004000 != 0x00000000 jump target",
			"ip daddr . meta l4proto . th dport vmap @svc", "dnat ip to ip daddr . meta l4proto . th dport map @ep",
			"update @clients { ip saddr . ip daddr . meta l4proto . th dport timeout 1m }",
			"ip saddr . ip daddr . meta l4proto . th dport @clients return",
			"snat to 10.42.0.0 fully-random", "masquerade fully-random", "numgen random mod 3 vmap @draw",
		}},
		{IPv6, "ip6", "fd42::/48", []string{
			"ip6 saddr fd42::/48 drop", "ip6 daddr fd42::/48 drop", "ip6 daddr != fd42::/48 drop",
			"ip6 daddr . meta l4proto . th dport vmap @svc", "dnat ip6 to ip6 daddr . meta l4proto . th dport map @ep",
			"update @clients { ip6 saddr . ip6 daddr . meta l4proto . th dport timeout 1m }",
			"ip6 saddr . ip6 daddr . meta l4proto . th dport @clients return", "snat to fd42:: fully-random",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := open(t, tc.family)
			if err := c.Apply(everyExpression(tc.family, netip.MustParsePrefix(tc.prefix))); err != nil {
				t.Fatal(err)
			}
			got := netnstest.NFT(t, "list", "table", tc.name, testTable)
			for _, want := range tc.want {
				if !strings.Contains(got, want) {
					t.Errorf("no %q in\n%s", want, got)
				}
			}
		})
	}
}

func everyExpression(f Family, p netip.Prefix) Change {
	verdict := []nftables.SetDatatype{nftables.TypeVerdict}
	hook := func(typ nftables.ChainType, h *nftables.ChainHook) *Hook {
		return &Hook{typ, h, nftables.ChainPriorityNATSource}
	}
	return Change{
		Sets: []Set{
			{Name: "svc", Key: AddressPortKey(f), Data: verdict}, {Name: "ep", Key: AddressPortKey(f), Data: EndpointValue(f)},
			{Name: "clients", Key: ClientKey(f), Timeout: true}, {Name: "draw", Key: []nftables.SetDatatype{nftables.TypeMark}, Data: verdict},
		},
		NewChains: []Chain{
			{Name: "target"},
			{Name: "forward", Hook: hook(nftables.ChainTypeFilter, nftables.ChainHookForward), Rules: [][]expr.Any{
				Rule(From(p), Drop()), Rule(To(p), Drop()), Rule(ToNot(p), Drop()),
				Rule(ToLocal(), Return()), Rule(ToElsewhere(), Return()),
				Rule(New(), DestinationChanged(), BackWhereItCameFrom(), Mark(0x4000)),
				Unmark(0x4000), Rule(Marked(0x4000), Jump("target")),
				Rule(AddressPort(f), Dispatch("svc")), Rule(Client(f), Remember("clients", time.Minute)),
				Rule(Client(f), In("clients"), Return()), Rule(Random(3), Dispatch("draw")),
				Rule(TCP(), Reset()), Reject(f),
			}},
			{Name: "pre", Hook: hook(nftables.ChainTypeNAT, nftables.ChainHookPrerouting), Rules: [][]expr.Any{
				Rule(AddressPort(f), DNAT(f, "ep")),
			}},
			{Name: "post", Hook: hook(nftables.ChainTypeNAT, nftables.ChainHookPostrouting), Rules: [][]expr.Any{
				SNAT(p.Addr()), Masquerade(),
			}},
		},
	}
}

func TestWatch(t *testing.T) {
	c := open(t, IPv4)
	ctx, cancel := context.WithCancel(context.Background())
	lost := make(chan struct{}, 16)
	done := make(chan error, 1)
	go func() { done <- Watch(ctx, testTable, func() { lost <- struct{}{} }) }()
	// Until the watch is up, deletions go by unseen: delete until one is seen.
	for deadline := time.After(netnstest.Timeout); ; {
		if err := c.Apply(Change{NewChains: []Chain{{Name: "a"}}}); err != nil {
			t.Fatal(err)
		}
		netnstest.NFT(t, "flush", "ruleset")
		select {
		case <-lost:
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			return
		case <-deadline:
			t.Fatal("nobody noticed that the table is gone")
		default:
		}
	}
}
