package pod

import (
	"fmt"
	"net/netip"
	"testing"
)

func TestPoolTurns(t *testing.T) {
	p, err := newPool(netip.MustParsePrefix("10.42.0.0/29"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	give := func(uid string) {
		a, err := p.next(uid)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, a.String())
	}
	for i := range 3 {
		give(fmt.Sprint(i))
	}
	p.release("1") // 10.42.0.3 is free now, but others come first
	give("3")
	give("4")
	give("5")
	want := "[10.42.0.2 10.42.0.3 10.42.0.4 10.42.0.5 10.42.0.6 10.42.0.3]"
	if fmt.Sprint(got) != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if a, err := p.next("6"); err == nil {
		t.Errorf("a full pool gave %v", a)
	}
}

func TestPoolGoesOnAfterRestart(t *testing.T) {
	p, err := newPool(netip.MustParsePrefix("10.42.3.0/24"))
	if err != nil {
		t.Fatal(err)
	}
	p.take(netip.MustParseAddr("10.42.3.9"), "a")
	p.take(netip.MustParseAddr("10.99.0.1"), "b") // of a former share
	a, err := p.next("c")
	if err != nil || a.String() != "10.42.3.10" {
		t.Errorf("got %v, %v", a, err)
	}
}

// A Pod gets the address back that it had, where it can.
func TestPoolGivesFormerAddresses(t *testing.T) {
	p, err := newPool(netip.MustParsePrefix("10.42.3.0/24"))
	if err != nil {
		t.Fatal(err)
	}
	p.take(netip.MustParseAddr("10.42.3.9"), "other")
	for _, tc := range []struct{ former, want string }{
		{"10.42.3.77", "10.42.3.77"},
		{"10.42.3.9", "10.42.3.78"},   // is another's
		{"10.42.4.9", "10.42.3.79"},   // of a former share
		{"10.42.3.0", "10.42.3.80"},   // the network
		{"10.42.3.1", "10.42.3.81"},   // the node's own
		{"10.42.3.255", "10.42.3.82"}, // for all
		{"fd00::9", "10.42.3.83"},
	} {
		a, err := p.again("of "+tc.former, []netip.Addr{netip.MustParseAddr(tc.former)})
		if err != nil || a.String() != tc.want {
			t.Errorf("former %s: got %v, %v; want %s", tc.former, a, err, tc.want)
		}
		if p.taken[a] != "of "+tc.former {
			t.Errorf("%s is noted as %q's", a, p.taken[a])
		}
	}
}

func TestPoolSizes(t *testing.T) {
	for _, tc := range []struct {
		prefix string
		want   int
	}{{"10.42.0.0/30", 1}, {"10.42.0.0/24", 253}, {"fd00::/126", 2}} {
		p, err := newPool(netip.MustParsePrefix(tc.prefix))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for ; n < 300; n++ {
			if _, err := p.next(fmt.Sprint(n)); err != nil {
				break
			}
		}
		if n != tc.want {
			t.Errorf("%s: %d addresses, want %d", tc.prefix, n, tc.want)
		}
	}
	if _, err := newPool(netip.MustParsePrefix("10.42.0.0/31")); err == nil {
		t.Error("a /31 was accepted")
	}
}
