package mesh

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/netns"
	"github.com/skiff-sh/skiff/internal/netns/netnstest"
)

// patience is how long a path may take to change at the tests' pace.
const patience = 10 * time.Second

// lab is four nodes:
//
//	a 192.0.2.1 ── bridge ── b 192.0.2.2       the test's namespace is the router,
//	                │                          192.0.2.254
//	              router ── c 198.51.100.2
//	                │
//	           203.0.113.2 nat 192.168.7.1 ── d 192.168.7.2
//
// each with a Pod that echoes.
type lab struct {
	testing.TB
	byName map[string]*machine
	pod    map[string]string // namespaces
	ip     map[string]string // addresses
	nat    string
	sw     *packetSwitch
}

func (l *lab) sh(ns, command string) string {
	l.Helper()
	return sh(l, ns, command)
}

func sh(t testing.TB, ns, command string) string {
	t.Helper()
	var out bytes.Buffer
	run := func() error {
		cmd := exec.Command("sh", "-ec", command)
		cmd.Stdout, cmd.Stderr = &out, &out
		return cmd.Run()
	}
	err := error(nil)
	if ns == "" {
		err = run()
	} else {
		err = netns.Do(ns, run)
	}
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, &out)
	}
	return out.String()
}

// plug links the namespace's eth0 to a link of this one. What goes over it is
// cut into packets as on a wire, where the kernel would hand on whole buffers.
func plug(t testing.TB, ns, link, address, gateway string) {
	t.Helper()
	sh(t, "", fmt.Sprintf("ip link add %s type veth peer name eth0 netns /proc/self/fd/3 3<%s && ip link set %s up", link, ns, link))
	sh(t, "", "ip link set "+link+" gso_max_segs 1")
	sh(t, ns, "ip addr add "+address+" dev eth0 && ip link set eth0 gso_max_segs 1 up")
	if gateway != "" {
		sh(t, ns, "ip route add default via "+gateway)
	}
}

func newLab(t testing.TB, names ...string) *lab {
	l := &lab{TB: t, byName: map[string]*machine{}, pod: map[string]string{}, ip: map[string]string{}}
	l.underlay(t)
	l.sw = newSwitch(t)
	for _, m := range []*machine{
		{name: "a", address: "192.0.2.1", podCIDR: "10.42.0.0/24"}, {name: "b", address: "192.0.2.2", podCIDR: "10.42.1.0/24"},
		{name: "c", address: "198.51.100.2", podCIDR: "10.42.2.0/24"}, {name: "d", address: "192.168.7.2", podCIDR: "10.42.3.0/24"},
	} {
		if len(names) > 0 && !strings.Contains(strings.Join(names, ""), m.name) {
			continue
		}
		m.ns, m.dir, m.switchPath = netnstest.Namespace(t), t.TempDir(), l.sw.path
		l.byName[m.name] = m
	}
	l.wire()
	for _, m := range l.byName {
		m.nodes = l.nodes()
	}
	for name, m := range l.byName {
		m.start(t)
		t.Cleanup(func() { m.stop(t) })
		l.pod[name] = netnstest.Namespace(t)
		l.ip[name] = m.tell(t, order{Attach: l.pod[name]}).Address
		netnstest.Echo(t, l.pod[name], name, 80)
		echoAll(t, l.pod[name])
	}
	return l
}

// underlay makes the router and the NAT.
func (l *lab) underlay(t testing.TB) {
	sh(t, "", `
		ip link add br0 type bridge; ip addr add 192.0.2.254/24 dev br0; ip link set br0 up
		sysctl -qw net.ipv4.ip_forward=1
		nft add table ip lab; nft 'add chain ip lab forward { type filter hook forward priority 0; }'`)
	t.Cleanup(func() { sh(t, "", "ip link del br0; nft delete table ip lab") })
	l.nat = netnstest.Namespace(t)
	plug(t, l.nat, "nat0", "203.0.113.2/24", "203.0.113.1")
	t.Cleanup(func() { sh(t, "", "ip link del nat0") })
	sh(t, "", "ip addr add 203.0.113.1/24 dev nat0")
	sh(t, l.nat, `
		sysctl -qw net.ipv4.ip_forward=1
		nft add table ip nat; nft 'add chain ip nat post { type nat hook postrouting priority srcnat; }'
		nft add rule ip nat post oif eth0 masquerade
		nft 'add chain ip nat forward { type filter hook forward priority 0; }'`)
}

// wire links the nodes.
func (l *lab) wire() {
	for name, m := range l.byName {
		switch name {
		case "a", "b":
			plug(l, m.ns, "to-"+name, m.address+"/24", "192.0.2.254")
			sh(l, "", "ip link set to-"+name+" master br0")
		case "c":
			plug(l, m.ns, "to-c", m.address+"/24", "")
			sh(l, "", "ip addr add 198.51.100.1/24 dev to-c")
			sh(l, m.ns, "ip route add default via 198.51.100.1")
		case "d":
			sh(l, l.nat, fmt.Sprintf("ip link add inside type veth peer name eth0 netns /proc/self/fd/3 3<%s; "+
				"ip addr add 192.168.7.1/24 dev inside; ip link set inside gso_max_segs 1 up", m.ns))
			sh(l, m.ns, "ip addr add 192.168.7.2/24 dev eth0; ip link set eth0 gso_max_segs 1 up; ip route add default via 192.168.7.1")
			continue
		}
		l.Cleanup(func() { _ = exec.Command("ip", "link", "del", "to-"+name).Run() })
	}
}

func (l *lab) nodes() (all []*corev1.Node) {
	for _, m := range l.byName {
		all = append(all, node(m.name, m.address, m.podCIDR))
	}
	return all
}

func (l *lab) tellAll() {
	l.Helper()
	for _, m := range l.byName {
		m.nodes = l.nodes()
		if m.cmd != nil {
			m.tell(l, order{Nodes: m.nodes})
		}
	}
}

// on waits until a node uses the path to another.
func (l *lab) on(from, to string, want Path) {
	l.Helper()
	var got report
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		got = l.byName[from].tell(l, order{})
		if p, known := got.Paths[to]; known && p == want {
			return
		}
	}
	l.Fatalf("%s has %v to %s, want %v\n%s\n%s", from, got.Paths[to], to, want,
		l.sh(l.byName[from].ns, "ip route; ip neigh; bridge fdb show"), l.sh(l.byName[to].ns, "ip route"))
}

// paths waits for several, as "ab direct".
func (l *lab) paths(want ...string) {
	l.Helper()
	for _, w := range want {
		ends, path, _ := strings.Cut(w, " ")
		for p := None; p <= Direct; p++ {
			if p.String() == path {
				l.on(ends[:1], ends[1:], p)
			}
		}
	}
}

// reaches waits until a node's Pod reaches another's.
func (l *lab) reaches(from, to string) {
	l.Helper()
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if _, _, err = netnstest.Ask(l.pod[from], "tcp", l.ip[to]+":80"); err == nil {
			return
		}
	}
	l.Fatalf("%s does not reach %s: %v\n%s", from, to, err, l.sh(l.byName[from].ns, "ip link; ip route"))
}

// await waits until what a command prints on a node is right.
func (l *lab) await(node, command string, right func(printed string) bool) {
	l.Helper()
	var got string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if got = l.sh(l.byName[node].ns, command); right(got) {
			return
		}
	}
	l.Errorf("node %s: %s prints still\n%s", node, command, got)
}

// settled waits until all nodes are where they are without disturbance.
func (l *lab) settled() {
	l.Helper()
	want := map[string]string{
		"ab": "direct", "ba": "direct", "ac": "vxlan", "ca": "vxlan", "bc": "vxlan", "cb": "vxlan",
		"ad": "relay", "bd": "relay", "cd": "relay", "da": "vxlan", "db": "vxlan", "dc": "vxlan",
	}
	for pair, path := range want {
		if l.byName[pair[:1]] != nil && l.byName[pair[1:]] != nil {
			l.paths(pair + " " + path)
		}
	}
}
