package mesh

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/config"
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

// echoAll serves TCP on port 7 of the namespace and sends back what comes.
func echoAll(t testing.TB, ns string) {
	var listener net.Listener
	netnstest.In(t, ns, func() (err error) { listener, err = net.Listen("tcp4", ":7"); return err })
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(time.Minute))
				_, _ = io.Copy(c, c)
			})
		}
	})
	t.Cleanup(func() { listener.Close(); serving.Wait() })
}

// transfer sends megabytes there and back and compares.
func transfer(from, to string, size int) error {
	c, err := netnstest.Dial(from, "tcp", to+":7")
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	data := bytes.Repeat([]byte("skiff's mesh 16\n"), size/16)
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(data)
		sent <- errors.Join(err, c.(*net.TCPConn).CloseWrite())
	}()
	sum := sha256.New()
	n, err := io.Copy(sum, c)
	if err = errors.Join(err, <-sent); err != nil {
		return fmt.Errorf("after %d bytes: %w", n, err)
	}
	if want := sha256.Sum256(data); !bytes.Equal(sum.Sum(nil), want[:]) {
		return errors.New("what came back is not what was sent")
	}
	return nil
}

// ping asks an address for an echo of each size, unfragmented, and returns how
// many answered.
func ping(t testing.TB, from, address, to string, sizes ...int) int {
	t.Helper()
	var e *echoes
	netnstest.In(t, from, func() (err error) { e, err = openEchoes(netip.MustParseAddr(address)); return err })
	defer e.conn.Close()
	heard := make(chan echo, 16)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- e.receive(ctx, heard) }()
	e.send(netip.MustParseAddr(to), &probe{round: 1, sizes: sizes})
	got := 0
	for got < len(sizes) {
		select {
		case <-heard:
			got++
		case <-ctx.Done():
			<-done
			return got
		}
	}
	cancel()
	<-done
	return got
}

func (l *lab) ask(from, network, to string) (name, sees string) {
	l.Helper()
	name, sees, err := netnstest.Ask(from, network, to)
	if err != nil {
		l.Errorf("%s %s: %v", network, to, err)
	}
	return name, sees
}

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

// large sends a datagram that has to be fragmented and waits for the answer.
func large(from, to string) error {
	c, err := netnstest.Dial(from, "udp", to+":80")
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(netnstest.Timeout))
	if _, err := c.Write(make([]byte, 4000)); err != nil {
		return fmt.Errorf("send a large datagram: %w", err)
	}
	if _, err := c.Read(make([]byte, 100)); err != nil {
		return fmt.Errorf("no answer to a large datagram: %w", err)
	}
	return nil
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
	want := "mtu 1390"
	if got := sh(t, l.byName["a"].ns, "ip route show 10.42.2.0/24"); !strings.Contains(got, want) {
		t.Errorf("route %q, want %s", got, want)
	}
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
	var got string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		got = sh(t, l.byName["a"].ns, "ip route; ip neigh; bridge fdb show")
		if !strings.Contains(got, "10.42.2.") && !strings.Contains(got, "198.51.100.2") {
			return
		}
	}
	t.Errorf("left of a node that is gone:\n%s", got)
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
	var got string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if got = sh(t, a.ns, "ip route; ip neigh"); !strings.Contains(got, "10.42.2.0 via 192") && !strings.Contains(got, "10.42.9.") {
			return
		}
	}
	t.Errorf("left from a crash:\n%s", got)
}

// flow sends packets from one Pod to another and counts what is not answered.
type flow struct {
	what       string
	conn       net.Conn
	stop       chan struct{}
	done       sync.WaitGroup
	sent, lost int
}

func newFlow(l *lab, from, to string) *flow {
	l.Helper()
	c, err := netnstest.Dial(l.pod[from], "udp", l.ip[to]+":80")
	if err != nil {
		l.Fatal(err)
	}
	f := &flow{what: from + " to " + to, conn: c, stop: make(chan struct{})}
	f.done.Go(func() {
		b := make([]byte, 100)
		for {
			select {
			case <-f.stop:
				return
			default:
			}
			_ = c.SetDeadline(time.Now().Add(500 * time.Millisecond))
			f.sent++
			if _, err := c.Write([]byte("?")); err == nil {
				_, err = c.Read(b)
			}
			if err != nil {
				f.lost++
			}
		}
	})
	return f
}

func (f *flow) end() (lost, sent int) {
	close(f.stop)
	f.done.Wait()
	f.conn.Close()
	return f.lost, f.sent
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
