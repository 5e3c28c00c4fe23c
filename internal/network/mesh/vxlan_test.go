package mesh

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/netns/netnstest"
)

func TestVXLANLink(t *testing.T) {
	ns, h, own := netnstest.Namespace(t), config.NewHost(t.TempDir()), netip.MustParsePrefix("10.42.7.0/24")
	ensure := func(own netip.Prefix, mtu int) (index int) {
		t.Helper()
		netnstest.In(t, ns, func() (err error) { index, err = ensureVXLAN(h, own, mtu); return err })
		return index
	}
	show := func() string { return sh(t, ns, "ip -d link show "+vxlanName(h)+"; ip addr show "+vxlanName(h)) }
	first := ensure(own, 1450)
	for _, want := range []string{"vxlan id 1 ", "dstport 8472", "nolearning", "noudpcsum", "mtu 1450", "0a:53:0a:2a:07:01", "10.42.7.1/32 scope host", "10.42.7.0/32 scope host", "UP"} {
		if got := show(); !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if again := ensure(own, 1450); again != first {
		t.Error("the link was made anew")
	}
	if again := ensure(netip.MustParsePrefix("10.42.9.0/24"), 1350); again != first {
		t.Error("the link was made anew for another share")
	}
	if got := show(); !strings.Contains(got, "mtu 1350") || !strings.Contains(got, "0a:53:0a:2a:09:01") || strings.Contains(got, "10.42.7.") {
		t.Errorf("with another share and MTU it is\n%s", got)
	}
	sh(t, ns, "ip link del "+vxlanName(h)+"; ip link add "+vxlanName(h)+" type vxlan id 1 dstport 8472 nolearning udpcsum")
	if ensure(own, 1450); !strings.Contains(show(), "noudpcsum") {
		t.Errorf("a link of another kind was taken up:\n%s", show())
	}
	netnstest.In(t, ns, func() error { return sumInSoftware(vxlanName(h)) })
}

// Someone else's VXLAN, as flannel's, keeps ours from being made: the other
// paths are used.
func TestAnothersVXLAN(t *testing.T) {
	l := newLab(t, "a", "c")
	l.settled()
	a := l.byName["a"]
	a.stop(t)
	sh(t, a.ns, "ip link del "+vxlanName(config.NewHost(a.dir))+"; ip link add flannel.1 type vxlan id 1 dstport 8472 nolearning; ip link set flannel.1 up")
	a.start(t)
	l.paths("ac relay")
	if err := transfer(l.pod["a"], l.ip["c"], 1<<20); err != nil {
		t.Error(err)
	}
	sh(t, a.ns, "ip link del flannel.1")
	l.paths("ac vxlan")
}

// What others do to the mesh's links and routes is mended.
func TestMends(t *testing.T) {
	l := newLab(t, "a", "b", "c")
	l.settled()
	a := l.byName["a"]
	for _, harm := range []string{
		"ip link del " + vxlanName(config.NewHost(a.dir)),
		"ip route flush proto 84",
		"ip link set eth0 down; ip link set eth0 up; ip route replace default via 192.0.2.254",
	} {
		sh(t, a.ns, harm)
		for _, to := range []string{"b", "c"} {
			l.reaches("a", to)
		}
		l.settled()
	}
}
