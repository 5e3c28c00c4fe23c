package node

import (
	"context"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"

	"github.com/skiff-sh/skiff/internal/netns/netnstest"
)

// TestMain gives root's tests a network of their own.
func TestMain(m *testing.M) {
	if os.Geteuid() == 0 {
		os.Exit(netnstest.Main(m))
	}
	os.Exit(m.Run())
}

func TestChooseAddress(t *testing.T) {
	list := func(texts ...string) (all []netip.Addr) {
		for _, text := range texts {
			all = append(all, netip.MustParseAddr(text))
		}
		return all
	}
	for _, c := range []struct {
		name    string
		links   [][]netip.Addr
		present string
		want    string
	}{
		{"the best link's first", [][]netip.Addr{list("192.0.2.1", "192.0.2.2"), list("198.51.100.1")}, "", "192.0.2.1"},
		{"the one of before, though another is first", [][]netip.Addr{list("192.0.2.1", "192.0.2.2")}, "192.0.2.2", "192.0.2.2"},
		{"another link has become the best", [][]netip.Addr{list("198.51.100.1"), list("192.0.2.1")}, "192.0.2.1", "198.51.100.1"},
		{"the best has none", [][]netip.Addr{{}, list("169.254.3.4", "127.0.0.1"), list("192.0.2.1")}, "192.0.2.9", "192.0.2.1"},
		{"none at all", [][]netip.Addr{{}, list("169.254.3.4")}, "192.0.2.1", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var present, want netip.Addr
			if c.present != "" {
				present = netip.MustParseAddr(c.present)
			}
			if c.want != "" {
				want = netip.MustParseAddr(c.want)
			}
			if got := choose(c.links, present); got != want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// A machine that gets another address tells; one that loses it keeps it until
// there is another.
func TestMachineMoves(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	netnstest.Outside(t)
	present, err := Addresses()
	if err != nil || present[0] != netip.MustParseAddr("192.0.2.1") {
		t.Fatalf("%v, %v", present, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), netnstest.Timeout)
	defer cancel()
	moved := make(chan netip.Addr)
	ended := make(chan error, 1)
	go func() {
		ended <- mover{linkPrefix: "skf", log: zap.NewNop(), tell: func(_, now []netip.Addr) { moved <- now[0] }}.run(ctx, present)
	}()
	change := func(do func(netlink.Link, *netlink.Addr) error, address string) {
		t.Helper()
		up, err := netlink.LinkByName("up0")
		if err != nil {
			t.Fatal(err)
		}
		ip, ipNet, err := net.ParseCIDR(address)
		if err != nil {
			t.Fatal(err)
		}
		ipNet.IP = ip
		if err := do(up, &netlink.Addr{IPNet: ipNet}); err != nil {
			t.Fatal(err)
		}
	}
	await := func(want string) {
		t.Helper()
		select {
		case got := <-moved:
			if got.String() != want {
				t.Errorf("moved to %s, want %s", got, want)
			}
		case <-ctx.Done():
			t.Fatalf("nobody told of %s", want)
		}
	}
	change(netlink.AddrDel, "192.0.2.1/24") // and with it the default route
	change(netlink.AddrAdd, "198.51.100.9/24")
	await("198.51.100.9")
	change(netlink.AddrAdd, "203.0.113.9/24") // one more is no move
	change(netlink.AddrDel, "198.51.100.9/24")
	await("203.0.113.9")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
