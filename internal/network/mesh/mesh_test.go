package mesh

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/netns/netnstest"
)

func TestEveryPairOfNodes(t *testing.T) {
	l := newLab(t)
	l.settled()
	for from := range l.byName {
		for to := range l.byName {
			if from == to {
				continue
			}
			for _, network := range []string{"tcp", "udp"} {
				if name, sees := l.ask(l.pod[from], network, l.ip[to]+":80"); name != to || sees != l.ip[from] {
					t.Errorf("%s to %s by %s: %s saw %s, want %s", from, to, network, name, sees, l.ip[from])
				}
			}
			if n := ping(t, l.pod[from], l.ip[from], l.ip[to], 64, 1450); n != 2 {
				t.Errorf("%s to %s: %d of 2 echoes", from, to, n)
			}
			if err := transfer(l.pod[from], l.ip[to], 3<<20); err != nil {
				t.Errorf("%s to %s: 3 MB: %v", from, to, err)
			}
			if err := large(l.pod[from], l.ip[to]); err != nil {
				t.Errorf("%s to %s: %v", from, to, err)
			}
		}
	}
}

// Who sees whom: between Pods nothing is translated; the machine's own packets
// carry an address that answers come back to by the mesh.
func TestSources(t *testing.T) {
	l := newLab(t, "a", "b", "c")
	l.settled()
	netnstest.Echo(t, "", "outside", 80)
	netnstest.Echo(t, l.byName["b"].ns, "host b", 80)
	a := l.byName["a"].ns
	// What service does for a node port: to another node's Pod, marked.
	sh(t, a, fmt.Sprintf(`nft add table ip test; nft 'add chain ip test pre { type nat hook prerouting priority dstnat; }'
		nft 'add rule ip test pre meta l4proto { tcp, udp } th dport 30080 meta mark set 0x4000 dnat to %s:80'
		nft 'add rule ip test pre meta l4proto { tcp, udp } th dport 30081 meta mark set 0x4000 dnat to %s:80'
		nft 'add chain ip test out { type nat hook output priority -100; }'
		nft 'add rule ip test out ip daddr 10.43.0.80 meta l4proto { tcp, udp } dnat to %s'`, l.ip["b"], l.ip["c"], l.ip["c"]))
	for _, tc := range []struct{ what, from, to, name, sees string }{
		{"machine to Pod by a route", a, l.ip["b"] + ":80", "b", "10.42.0.1"},
		{"machine to Pod by VXLAN", a, l.ip["c"] + ":80", "c", "10.42.0.1"},
		{"machine to Pod through a Service", a, "10.43.0.80:80", "c", "10.42.0.1"},
		{"node port, endpoint by a route", "", "192.0.2.1:30080", "b", "10.42.0.1"},
		{"node port, endpoint by VXLAN", "", "192.0.2.1:30081", "c", "10.42.0.1"},
		{"Pod to outside", l.pod["a"], "192.0.2.254:80", "outside", "192.0.2.1"},
		{"Pod to another node", l.pod["a"], "192.0.2.2:80", "host", "192.0.2.1"},
		{"Pod to another node's address in the range", l.pod["a"], "10.42.1.1:80", "host", l.ip["a"]},
		{"Pod behind a router to a node", l.pod["c"], "192.0.2.2:80", "host", "198.51.100.2"},
	} {
		for _, network := range []string{"tcp", "udp"} {
			if network == "udp" && strings.HasPrefix(tc.to, "10.42.1.1:") {
				continue // a server on all addresses cannot know which one was asked
			}
			if name, sees := l.ask(tc.from, network, tc.to); name != tc.name || !strings.HasSuffix(sees, tc.sees) {
				t.Errorf("%s by %s: %s saw %s, want %s to see %s", tc.what, network, name, sees, tc.name, tc.sees)
			}
		}
	}
	// One that chose the machine's address as its source gets its answers, too.
	netnstest.In(t, a, func() error {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}, Timeout: netnstest.Timeout}
		c, err := d.Dial("tcp", l.ip["c"]+":80")
		if err != nil {
			return err
		}
		defer c.Close()
		if name, sees, err := netnstest.Talk(c); name != "c" || sees != "10.42.0.1" || err != nil {
			t.Errorf("%s saw %s, %v", name, sees, err)
		}
		return nil
	})
}

func TestPathDiesAndComesBack(t *testing.T) {
	l := newLab(t, "a", "c")
	l.settled()
	sh(t, "", "nft add rule ip lab forward udp dport 8472 drop")
	l.paths("ac relay", "ca relay")
	if err := transfer(l.pod["a"], l.ip["c"], 1<<20); err != nil {
		t.Errorf("by the relay: %v", err)
	}
	sh(t, "", "nft flush chain ip lab forward")
	l.paths("ac vxlan", "ca vxlan")
	if err := transfer(l.pod["a"], l.ip["c"], 1<<20); err != nil {
		t.Errorf("by VXLAN: %v", err)
	}
}

// A connection goes on while its packets change from one path to another.
func TestConnectionsOutliveTheirPath(t *testing.T) {
	l := newLab(t, "a", "b")
	l.settled()
	c, err := netnstest.Dial(l.pod["a"], "tcp", l.ip["b"]+":7")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	talk := func(what string) {
		t.Helper()
		if _, err := fmt.Fprintln(c, what); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if _, err := io.ReadFull(c, make([]byte, len(what)+1)); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	talk("direct")
	for _, m := range []*machine{l.byName["a"], l.byName["b"]} { // as a cloud does that knows no Pods
		sh(t, m.ns, `nft add table ip cloud; nft 'add chain ip cloud out { type filter hook postrouting priority 500; }'
			nft add rule ip cloud out oif eth0 ip daddr 10.42.0.0/16 drop`)
	}
	l.paths("ab vxlan", "ba vxlan")
	talk("VXLAN")
	for _, m := range []*machine{l.byName["a"], l.byName["b"]} {
		sh(t, m.ns, "nft add rule ip cloud out udp dport 8472 drop")
	}
	l.paths("ab relay", "ba relay")
	talk("relay")
	for _, m := range []*machine{l.byName["a"], l.byName["b"]} {
		sh(t, m.ns, "nft delete table ip cloud")
	}
	l.settled()
	talk("direct again")
}

func TestNATWithoutUDP(t *testing.T) {
	l := newLab(t, "a", "d")
	sh(t, l.nat, "nft add rule ip nat forward meta l4proto udp drop")
	l.paths("ad relay", "da relay")
	for _, pair := range [][2]string{{"a", "d"}, {"d", "a"}} {
		if err := transfer(l.pod[pair[0]], l.ip[pair[1]], 3<<20); err != nil {
			t.Errorf("%v: %v", pair, err)
		}
	}
	no, yes := false, true
	l.byName["d"].tell(t, order{Relay: &no})
	l.paths("da none")
	if _, _, err := netnstest.Ask(l.pod["d"], "tcp", l.ip["a"]+":80"); !errors.Is(err, unix.EHOSTUNREACH) {
		t.Errorf("without any path: %v, want no route to host at once", err)
	}
	l.byName["d"].tell(t, order{Relay: &yes})
	l.paths("da relay")
	l.ask(l.pod["d"], "tcp", l.ip["a"]+":80")
}

// Routes of kernels that look at where packets come from drop what comes by
// another way than it would go: there VXLAN is used.
func TestStrictLink(t *testing.T) {
	l := newLab(t, "a", "b")
	l.settled()
	sh(t, l.byName["a"].ns, "sysctl -qw net.ipv4.conf.eth0.rp_filter=1; ip link set eth0 mtu 1490; ip link set eth0 mtu 1500")
	l.paths("ab vxlan")
	if err := transfer(l.pod["a"], l.ip["b"], 1<<20); err != nil {
		t.Error(err)
	}
}

// A network in between that carries less than the links promise.
func TestPathCarriesLess(t *testing.T) {
	l := newLab(t, "a", "c")
	sh(t, "", "nft add rule ip lab forward ip length '>' 1440 drop; nft 'add rule ip lab forward ip frag-off & 0x3fff != 0 drop'")
	l.settled()
	carries := func(printed string) bool { return strings.Contains(printed, "mtu 1390") }
	l.await("a", "ip route show 10.42.2.0/24", carries)
	l.await("c", "ip route show 10.42.0.0/24", carries)
	for _, pair := range [][2]string{{"a", "c"}, {"c", "a"}} {
		if err := transfer(l.pod[pair[0]], l.ip[pair[1]], 3<<20); err != nil {
			t.Errorf("%v: %v", pair, err)
		}
		if err := large(l.pod[pair[0]], l.ip[pair[1]]); err != nil {
			t.Errorf("%v: %v", pair, err)
		}
	}
}

// Nodes whose links differ in MTU.
func TestUnequalLinks(t *testing.T) {
	l := newLab(t, "a", "c")
	sh(t, "", "ip link set to-c mtu 1400")
	sh(t, l.byName["c"].ns, "ip link set eth0 mtu 1400")
	l.settled()
	for _, pair := range [][2]string{{"a", "c"}, {"c", "a"}} {
		if err := transfer(l.pod[pair[0]], l.ip[pair[1]], 3<<20); err != nil {
			t.Errorf("%v: %v", pair, err)
		}
	}
}

func TestNodeGetsAnotherAddress(t *testing.T) {
	l := newLab(t, "a", "b", "c")
	l.settled()
	for _, name := range []string{"b", "c"} {
		m := l.byName[name]
		was := m.address
		m.address = map[string]string{"b": "192.0.2.77", "c": "198.51.100.77"}[name]
		sh(t, m.ns, fmt.Sprintf("ip addr del %s/24 dev eth0; ip addr add %s/24 dev eth0", was, m.address))
		sh(t, m.ns, "ip route replace default via "+map[string]string{"b": "192.0.2.254", "c": "198.51.100.1"}[name])
		l.tellAll()
	}
	l.settled()
	for _, to := range []string{"b", "c"} {
		if err := transfer(l.pod["a"], l.ip[to], 1<<20); err != nil {
			t.Errorf("to %s: %v", to, err)
		}
	}
}

func TestNodeIsDeleted(t *testing.T) {
	l := newLab(t, "a", "b", "c")
	l.settled()
	l.byName["c"].stop(t)
	delete(l.byName, "c")
	l.tellAll()
	l.await("a", "ip route; ip neigh; bridge fdb show", func(printed string) bool {
		return !strings.Contains(printed, "10.42.2.") && !strings.Contains(printed, "198.51.100.2")
	})
}

// A node that is alone has no links to others until there is one.
func TestLoneNode(t *testing.T) {
	l := newLab(t, "a")
	a, h := l.byName["a"], config.NewHost(l.byName["a"].dir)
	links := func() string { return sh(t, a.ns, "ip -br link") }
	a.tell(t, order{Nodes: l.nodes()})
	if got := links(); strings.Contains(got, vxlanName(h)) || strings.Contains(got, relayName(h)) {
		t.Errorf("alone it has\n%s", got)
	}
	a.tell(t, order{Nodes: append(l.nodes(), node("b", "192.0.2.2", "10.42.1.0/24"))})
	l.await("a", "ip -br link", func(printed string) bool {
		return strings.Contains(printed, vxlanName(h)) && strings.Contains(printed, relayName(h))
	})
}

// A restart, also after a crash, takes up what is there, and no packet is lost.
func TestRestartLosesNothing(t *testing.T) {
	l := newLab(t, "a", "b", "c")
	l.settled()
	a := l.byName["a"]
	for _, end := range []func(testing.TB){a.stop, a.kill} {
		flows := []*flow{newFlow(l, "a", "b"), newFlow(l, "a", "c"), newFlow(l, "c", "a")}
		end(t)
		a.start(t)
		l.paths("ab direct", "ac vxlan")
		for _, f := range flows {
			if lost, sent := f.end(); lost > 0 {
				t.Errorf("%s: %d of %d packets were lost", f.what, lost, sent)
			}
		}
	}
	// What a crash in the middle of a test leaves.
	a.kill(t)
	sh(t, a.ns, "ip route add 10.42.2.0/32 via 192.0.2.2 dev eth0 onlink proto 0x54 src 10.42.0.1; "+
		"ip route add 10.42.9.0/24 via 192.0.2.2 dev eth0 onlink proto 0x54 src 10.42.0.1; "+
		"ip neigh add 10.42.9.1 lladdr 0a:53:0a:2a:09:01 dev "+vxlanName(config.NewHost(a.dir)))
	a.start(t)
	l.settled()
	l.await("a", "ip route; ip neigh", func(printed string) bool {
		return !strings.Contains(printed, "10.42.2.0 via 192") && !strings.Contains(printed, "10.42.9.")
	})
}

func TestCleanup(t *testing.T) {
	l := newLab(t)
	l.settled()
	for _, m := range l.byName {
		m.tell(t, order{Cleanup: true})
		got := sh(t, m.ns, "ip -br link; ip -4 route show table all; ip -4 -br addr; ip neigh show nud permanent; bridge fdb show; nft list tables")
		h := config.NewHost(m.dir)
		for _, bad := range []string{"10.42.", "10.43.", h.LinkPrefix, h.Table} {
			if strings.Contains(got, bad) {
				t.Errorf("node %s: %q is left:\n%s", m.name, bad, got)
			}
		}
	}
}
