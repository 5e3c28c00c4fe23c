package pod

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/netns/netnstest"
)

func TestMain(m *testing.M) { os.Exit(netnstest.Main(m)) }

func prefixes(ss ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range ss {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func testConfig(t *testing.T) Config {
	return Config{
		Host:     config.NewHost(t.TempDir()),
		PodCIDRs: prefixes("10.42.0.0/24"), ClusterCIDRs: prefixes("10.42.0.0/16"), ServiceCIDRs: prefixes("10.43.0.0/16"),
		Log: zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel)),
	}
}

func newNetwork(t *testing.T, cfg Config) *Network {
	t.Helper()
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Cleanup(cfg.Host); err != nil {
			t.Error(err)
		}
	})
	return n
}

func attach(t *testing.T, n *Network, uid, ns string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), netnstest.Timeout)
	defer cancel()
	addrs, err := n.Attach(ctx, uid, ns, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(addrs) != 1 {
		t.Fatalf("addresses %v", addrs)
	}
	return addrs[0].String()
}

func ask(t *testing.T, from, network, addr string) (name, sees string) {
	t.Helper()
	name, sees, err := netnstest.Ask(from, network, addr)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", network, addr, err, netnstest.NFT(t, "list", "ruleset"))
	}
	return name, sees
}

func TestPodsHostAndOutsideReachEachOther(t *testing.T) {
	outside := netnstest.Outside(t)
	n := newNetwork(t, testConfig(t))
	a, b := netnstest.Namespace(t), netnstest.Namespace(t)
	ipA, ipB := attach(t, n, "uid-a", a), attach(t, n, "uid-b", b)
	if ipA != "10.42.0.2" || ipB != "10.42.0.3" {
		t.Errorf("addresses %s, %s", ipA, ipB)
	}
	netnstest.Echo(t, b, "b", 80)
	netnstest.Echo(t, outside, "outside", 80)
	netnstest.Echo(t, "", "host", 80)

	for _, tc := range []struct{ what, from, to, name, sees string }{
		{"pod to pod", a, ipB, "b", ipA},
		{"pod to itself", b, ipB, "b", ipB},
		{"host to pod", "", ipB, "b", "192.0.2.1"},
		{"pod to host", a, "192.0.2.1", "host", ipA},
		{"pod to the node's address in the range", a, "10.42.0.1", "host", ipA},
		{"pod to outside", a, "192.0.2.2", "outside", "192.0.2.1"},
		{"host to outside", "", "192.0.2.2", "outside", "192.0.2.1"},
	} {
		for _, network := range []string{"tcp", "udp"} {
			if network == "udp" && tc.to == "10.42.0.1" {
				continue // a server on all addresses cannot know which one was asked
			}
			name, sees := ask(t, tc.from, network, net.JoinHostPort(tc.to, "80"))
			if name != tc.name || sees != tc.sees {
				t.Errorf("%s by %s: %s saw %s, want %s to see %s", tc.what, network, name, sees, tc.name, tc.sees)
			}
		}
	}
}

func TestAttachedPodAnswersAtOnce(t *testing.T) {
	n := newNetwork(t, testConfig(t))
	for i := range 10 {
		ns := netnstest.Namespace(t)
		ip := attach(t, n, fmt.Sprint("uid-", i), ns)
		netnstest.Echo(t, ns, "pod", 80)
		began := time.Now()
		ask(t, "", "tcp", ip+":80")
		if d := time.Since(began); d > 800*time.Millisecond { // a lost packet is sent again after a second
			t.Errorf("Pod %d answered after %v", i, d)
		}
	}
}

func TestRangesNeverLeaveByTheDefaultRoute(t *testing.T) {
	outside := netnstest.Outside(t, "10.42.7.7/32", "10.43.7.7/32")
	netnstest.Echo(t, outside, "outside", 80)
	n := newNetwork(t, testConfig(t))
	a := netnstest.Namespace(t)
	attach(t, n, "uid-a", a)
	for _, from := range []string{"", a} {
		if name, _, err := netnstest.Ask(from, "tcp", "10.42.7.7:80"); err == nil {
			t.Errorf("what is meant for a Pod reached %s", name)
		} else if !strings.Contains(err.Error(), "no route to host") {
			t.Errorf("from %q: %v, want no route to host at once", from, err)
		}
	}
	out, err := exec.Command("ip", "route").CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"unreachable 10.42.0.0/16", "unreachable 10.43.0.0/16", "10.43.0.0/16 dev lo"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no route %q in\n%s", want, out)
		}
	}
}

func TestAddressesSurviveRestart(t *testing.T) {
	cfg := testConfig(t)
	n := newNetwork(t, cfg)
	a, b := netnstest.Namespace(t), netnstest.Namespace(t)
	ipA := attach(t, n, "uid-a", a)
	before, err := netlink.LinkByName(linkName(cfg.Host, "uid-a"))
	if err != nil {
		t.Fatal(err)
	}

	n, err = New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if got := attach(t, n, "uid-a", a); got != ipA {
		t.Errorf("after a restart the Pod has %s, had %s", got, ipA)
	}
	after, err := netlink.LinkByName(linkName(cfg.Host, "uid-a"))
	if err != nil {
		t.Fatal(err)
	}
	if before.Attrs().Index != after.Attrs().Index {
		t.Error("the link was made anew: connections would have broken")
	}
	if got := attach(t, n, "uid-b", b); got == ipA {
		t.Errorf("two Pods have %s", got)
	}
	if err := netlink.LinkSetDown(after); err != nil { // takes the routes with it
		t.Fatal(err)
	}
	if got := attach(t, n, "uid-a", a); got != ipA {
		t.Errorf("the repaired Pod has %s, had %s", got, ipA)
	}
	netnstest.Echo(t, a, "a", 80)
	ask(t, "", "tcp", ipA+":80")
}

func TestDetachRetainCleanup(t *testing.T) {
	cfg := testConfig(t)
	n := newNetwork(t, cfg)
	ctx := context.Background()
	for _, uid := range []string{"uid-a", "uid-b", "uid-c"} {
		attach(t, n, uid, netnstest.Namespace(t))
	}
	for range 2 {
		if err := n.Detach(ctx, "uid-a"); err != nil {
			t.Fatal(err)
		}
	}
	if got := attach(t, n, "uid-d", netnstest.Namespace(t)); got != "10.42.0.5" {
		t.Errorf("the next Pod has %s; an address just freed must wait", got)
	}
	n = newNetwork(t, cfg) // the next process
	// It is not in the list: it came after the list was made.
	attach(t, n, "uid-e", netnstest.Namespace(t))
	if err := n.Retain(ctx, []string{"uid-c"}); err != nil {
		t.Fatal(err)
	}
	left, err := attached(cfg.Host)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 2 || len(left["uid-c"]) != 1 || len(left["uid-e"]) != 1 {
		t.Errorf("attached after Retain: %v", left)
	}
	if err := Cleanup(cfg.Host); err != nil {
		t.Fatal(err)
	}
	assertClean(t, cfg.Host)
}

// A Pod that may send raw packets must not become the machine's router.
func TestPodsAreNoRouters(t *testing.T) {
	n := newNetwork(t, testConfig(t))
	attach(t, n, "uid-a", netnstest.Namespace(t))
	for _, name := range []string{"ipv6/conf/%s/accept_ra", "ipv6/conf/%s/accept_redirects", "ipv4/conf/%s/accept_redirects", "ipv4/conf/%s/send_redirects"} {
		path := "/proc/sys/net/" + fmt.Sprintf(name, n.linkName("uid-a"))
		if b, err := os.ReadFile(path); err != nil || strings.TrimSpace(string(b)) != "0" {
			t.Errorf("%s is %q, %v", path, b, err)
		}
	}
}

func assertClean(t *testing.T, h config.Host) {
	t.Helper()
	out := ""
	for _, args := range [][]string{{"-br", "link"}, {"-4", "route", "show", "table", "all"}, {"-4", "-br", "addr"}} {
		b, err := exec.Command("ip", args...).CombinedOutput()
		if err != nil {
			t.Fatal(err)
		}
		out += string(b)
	}
	out += netnstest.NFT(t, "list", "tables")
	for _, bad := range []string{h.LinkPrefix, "10.42.", "10.43.", h.Table} {
		if strings.Contains(out, bad) {
			t.Errorf("%q is left:\n%s", bad, out)
		}
	}
}

func TestAttachWaitsForThePodCIDR(t *testing.T) {
	cfg := testConfig(t)
	cfg.PodCIDRs = nil
	n := newNetwork(t, cfg)
	ns := netnstest.Namespace(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if _, err := n.Attach(ctx, "uid-a", ns, nil); err == nil || !strings.Contains(err.Error(), "no Pod CIDR yet") {
		t.Errorf("error %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- n.SetPodCIDRs(prefixes("10.42.5.0/24")) }()
	if got := attach(t, n, "uid-a", ns); got != "10.42.5.2" {
		t.Errorf("address %s", got)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestChangedPodCIDRMovesTheNodesAddress(t *testing.T) {
	n := newNetwork(t, testConfig(t))
	if err := n.SetPodCIDRs(prefixes("10.42.9.0/24")); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("ip", "-4", "-br", "addr", "show", "lo").CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	if s := string(out); !strings.Contains(s, "10.42.9.1/32") || strings.Contains(s, "10.42.0.1/32") {
		t.Errorf("loopback has %s", s)
	}
	routes, err := exec.Command("ip", "route").CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	if s := string(routes); !strings.Contains(s, "10.43.0.0/16 dev lo proto 83 scope link src 10.42.9.1") {
		t.Errorf("routes are\n%s", s)
	}
}

func TestWithoutAnyNetwork(t *testing.T) {
	n := newNetwork(t, testConfig(t))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	a := netnstest.Namespace(t)
	ip := attach(t, n, "uid-a", a)
	netnstest.Echo(t, a, "a", 80)
	if _, sees := ask(t, "", "tcp", ip+":80"); sees != "10.42.0.1" {
		t.Errorf("without an uplink the Pod sees %s", sees)
	}
	// An uplink comes, and goes again.
	up := func(t *testing.T) {
		netnstest.Outside(t)
		waitSource(t, ip, "192.0.2.1")
	}
	t.Run("uplink", up)
	waitSource(t, ip, "10.42.0.1")
}

// Packets of every Pod fit into VXLAN's on the uplink, also when its MTU changes.
func TestMTULeavesRoomForVXLAN(t *testing.T) {
	netnstest.Outside(t)
	setMTU := func(mtu string) { run(t, "ip", "link", "set", "up0", "mtu", mtu) }
	setMTU("1400")
	n := newNetwork(t, testConfig(t))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	mtuOf := func(uid string) (mtu int) {
		ns := netnstest.Namespace(t)
		attach(t, n, uid, ns)
		netnstest.In(t, ns, func() error {
			eth, err := netlink.LinkByName("eth0")
			mtu = eth.Attrs().MTU
			return err
		})
		return mtu
	}
	if got := mtuOf("uid-a"); got != 1350 {
		t.Errorf("Pod's MTU is %d", got)
	}
	for _, tc := range []struct{ uplink, services string }{{"1400", "mtu 1350"}, {"1300", "mtu 1250"}} {
		setMTU(tc.uplink)
		var got string
		for deadline := time.Now().Add(netnstest.Timeout); time.Now().Before(deadline); {
			if got = run(t, "ip", "route", "show", "10.43.0.0/16", "dev", "lo"); strings.Contains(got, tc.services) {
				break
			}
		}
		if !strings.Contains(got, tc.services) {
			t.Errorf("uplink %s: the route to Services is %s", tc.uplink, got)
		}
	}
	if got := mtuOf("uid-b"); got != 1250 {
		t.Errorf("a later Pod's MTU is %d", got)
	}
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// waitSource waits until the Pod sees the host with the address.
func waitSource(t *testing.T, ip, want string) {
	t.Helper()
	var sees string
	for deadline := time.Now().Add(netnstest.Timeout); time.Now().Before(deadline); {
		c, err := net.DialTimeout("tcp", ip+":80", 200*time.Millisecond)
		if err != nil {
			continue
		}
		_, sees, _ = netnstest.Talk(c)
		c.Close()
		if sees == want {
			return
		}
	}
	t.Errorf("the Pod sees the host as %q, want %s", sees, want)
}

func TestSpoofedSourceIsDropped(t *testing.T) {
	n := newNetwork(t, testConfig(t))
	a, b := netnstest.Namespace(t), netnstest.Namespace(t)
	attach(t, n, "uid-a", a)
	ipB := attach(t, n, "uid-b", b)
	b0, err := os.ReadFile("/proc/sys/net/ipv4/conf/" + linkName(n.cfg.Host, "uid-a") + "/rp_filter")
	if err != nil || strings.TrimSpace(string(b0)) != "1" {
		t.Fatalf("rp_filter %q, %v", b0, err)
	}
	netnstest.Echo(t, b, "b", 80)
	netnstest.In(t, a, func() error {
		eth, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		spoof, err := netlink.ParseAddr("10.42.0.77/32")
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(eth, spoof); err != nil {
			return err
		}
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: spoof.IP}, Timeout: 300 * time.Millisecond}
		if c, err := d.Dial("tcp", ipB+":80"); err == nil {
			c.Close()
			t.Error("a Pod spoke with another's address")
		}
		return nil
	})
}

func TestRules(t *testing.T) {
	cfg := testConfig(t)
	newNetwork(t, cfg)
	got := netnstest.NFT(t, "list", "table", "ip", cfg.Host.Table)
	want := `table ip TABLE {
	map hostport {
		type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
	}

	map port-hostport {
		type inet_proto . inet_service : ipv4_addr . inet_service
	}

	chain hostports-in {
		type nat hook prerouting priority dstnat - 1; policy accept;
		jump hostports
	}

	chain hostports-out {
		type nat hook output priority -101; policy accept;
		jump hostports
	}

	chain hostports {
		dnat ip to ip daddr . meta l4proto . th dport map @hostport
		fib daddr type local dnat ip to meta l4proto . th dport map @port-hostport
	}

	chain loopback {
		type filter hook prerouting priority raw; policy accept;
		iifname "LINKS*" ip daddr 127.0.0.0/8 drop
	}

	chain masquerade {
		meta mark set meta mark & 0xffffbfff
		ip daddr 10.42.0.0/16 snat to 10.42.0.1 fully-random
		masquerade fully-random
	}

	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		meta mark & 0x00004000 != 0x00000000 goto masquerade
		ip saddr 10.42.0.0/24 ip daddr != 10.42.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random
		ip saddr 127.0.0.0/8 ip daddr 10.42.0.0/16 snat to 10.42.0.1 fully-random
		ip saddr != 10.42.0.0/16 ip daddr 10.42.0.0/16 ip daddr != 10.42.0.0/24 snat to 10.42.0.1 fully-random
	}
}
`
	if got = strings.NewReplacer(cfg.Host.Table, "TABLE", `"`+cfg.Host.LinkPrefix, `"LINKS`).Replace(got); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestConflicts(t *testing.T) {
	n := newNetwork(t, testConfig(t))
	t.Cleanup(func() { netnstest.NFT(t, "delete table ip filter; delete table inet strict") })
	netnstest.NFT(t, "add table ip filter; add chain ip filter DOCKER-USER; "+
		"add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }")
	netnstest.NFT(t, "add table inet strict")
	netnstest.NFT(t, "add chain inet strict f { type filter hook forward priority 0; policy drop; }")
	netnstest.NFT(t, "add chain inet strict i { type filter hook input priority 0; policy accept; }")
	got, err := n.Conflicts()
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 {
		t.Fatalf("%d conflicts: %q", len(got), got)
	}
	for i, want := range []string{"iptables -I DOCKER-USER -s 10.42.0.0/16 -j ACCEPT", "accept source and destination 10.42.0.0/16"} {
		if !strings.Contains(got[i], want) {
			t.Errorf("%q lacks %q", got[i], want)
		}
	}
}

func TestRemedyByOwner(t *testing.T) {
	table := func(name string) *nftables.Table { return &nftables.Table{Name: name} }
	for _, tc := range []struct{ table, sibling, want string }{
		{"filter", "ufw-user-forward", "ufw route allow"},
		{"firewalld", "", "firewall-cmd"},
		{"mine", "", "accept source"},
	} {
		c := &nftables.Chain{Name: "FORWARD", Table: table(tc.table)}
		all := []*nftables.Chain{c, {Name: tc.sibling, Table: table(tc.table)}}
		if got := remedy(all, c, prefixes("10.42.0.0/16")); !strings.Contains(got, tc.want) {
			t.Errorf("%s: %q lacks %q", tc.table, got, tc.want)
		}
	}
}
