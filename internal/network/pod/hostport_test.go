package pod

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/netns/netnstest"
)

func containerPort(hostIP string, hostPort int32, protocol corev1.Protocol) corev1.ContainerPort {
	return corev1.ContainerPort{ContainerPort: 80, HostPort: hostPort, HostIP: hostIP, Protocol: protocol}
}

func expose(t *testing.T, n *Network, uid string, ports ...corev1.ContainerPort) {
	t.Helper()
	if err := n.Expose(uid, ports); err != nil {
		t.Fatal(err)
	}
}

// elements are what the maps of host ports have.
func elements(t *testing.T, n *Network) string {
	t.Helper()
	var all []string
	for _, name := range []string{"hostport", "port-hostport"} {
		for line := range strings.Lines(netnstest.NFT(t, "list", "map", "ip", n.cfg.Host.Table, name)) {
			line = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "elements = {"))
			if !strings.Contains(line, " : ") || strings.HasPrefix(line, "type") {
				continue
			}
			all = append(all, strings.Split(strings.TrimSuffix(strings.TrimSuffix(line, " }"), ","), ", ")...)
		}
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

func TestHostPortFromEverywhere(t *testing.T) {
	outside := netnstest.Outside(t)
	n := newNetwork(t, testConfig(t))
	a, b := netnstest.Namespace(t), netnstest.Namespace(t)
	attach(t, n, "uid-a", a)
	ipB := attach(t, n, "uid-b", b)
	netnstest.Echo(t, a, "a", 80)
	netnstest.Echo(t, b, "b", 80)
	for _, p := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP} {
		expose(t, n, "uid-a",
			containerPort("", 8080, corev1.ProtocolTCP), containerPort("0.0.0.0", 8080, corev1.ProtocolUDP),
			containerPort("127.0.0.1", 8081, corev1.ProtocolTCP), containerPort("127.0.0.1", 8081, corev1.ProtocolUDP))
		expose(t, n, "uid-b", containerPort("192.0.2.1", 8081, p))
		network := strings.ToLower(string(p))
		for _, c := range []struct{ what, from, to, name, sees string }{
			{"outside", outside, "192.0.2.1:8080", "a", "192.0.2.2"},
			{"the host", "", "192.0.2.1:8080", "a", "192.0.2.1"},
			{"the loopback", "", "127.0.0.1:8080", "a", "10.42.0.1"},
			{"another Pod", b, "192.0.2.1:8080", "a", ipB},
			{"another Pod, by the node's address in the range", b, "10.42.0.1:8080", "a", ipB},
			{"the loopback's own", "", "127.0.0.1:8081", "a", "10.42.0.1"},
			{"an address's own", outside, "192.0.2.1:8081", "b", "192.0.2.2"},
		} {
			if name, sees := ask(t, c.from, network, c.to); name != c.name || sees != c.sees {
				t.Errorf("%s by %s: %s saw %s, want %s to see %s", c.what, network, name, sees, c.name, c.sees)
			}
		}
	}
	if c, err := netnstest.Dial(outside, "tcp", "192.0.2.2:8080"); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("somebody else's port: %v, %v", c, err)
	}
}

// A Pod may not reach what listens on the host's loopback, though the answers to the
// loopback come by its link.
func TestLoopbackStaysClosed(t *testing.T) {
	n := newNetwork(t, testConfig(t))
	a := netnstest.Namespace(t)
	ip := attach(t, n, "uid-a", a)
	expose(t, n, "uid-a", containerPort("", 8080, corev1.ProtocolUDP))
	var host *net.UDPConn
	var err error
	if host, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9999}); err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	netnstest.In(t, a, func() error {
		// As a container with NET_ADMIN can: the loopback's addresses leave by eth0.
		return sendTo(netip.MustParseAddr(ip), netip.MustParseAddrPort("127.0.0.1:9999"))
	})
	if err := host.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if got, from, err := host.ReadFrom(make([]byte, 100)); err == nil {
		t.Errorf("%d bytes from %s", got, from)
	}
}

func TestHostPortsAcrossRestart(t *testing.T) {
	cfg := testConfig(t)
	n := newNetwork(t, cfg)
	a, b := netnstest.Namespace(t), netnstest.Namespace(t)
	attach(t, n, "uid-a", a)
	attach(t, n, "uid-b", b)
	expose(t, n, "uid-a", containerPort("", 8080, ""), containerPort("192.0.2.1", 53, corev1.ProtocolUDP))
	expose(t, n, "uid-b", containerPort("", 9090, ""))
	const both = "192.0.2.1 . udp . 53 : 10.42.0.2 . 80\ntcp . 8080 : 10.42.0.2 . 80\ntcp . 9090 : 10.42.0.3 . 80"
	if diff := cmp.Diff(both, elements(t, n)); diff != "" {
		t.Fatalf("want -, got +:\n%s", diff)
	}

	n = newNetwork(t, cfg)
	attach(t, n, "uid-a", a)
	expose(t, n, "uid-a", containerPort("", 8080, ""), containerPort("192.0.2.1", 53, corev1.ProtocolUDP))
	if diff := cmp.Diff(both, elements(t, n)); diff != "" {
		t.Errorf("after a restart: want -, got +:\n%s", diff)
	}
	if err := n.Retain(t.Context(), []string{"uid-a"}); err != nil {
		t.Fatal(err)
	}
	netnstest.NFT(t, "flush", "ruleset")
	if err := n.reapplyRules(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("192.0.2.1 . udp . 53 : 10.42.0.2 . 80\ntcp . 8080 : 10.42.0.2 . 80", elements(t, n)); diff != "" {
		t.Errorf("after the Pod that had gone was detached: want -, got +:\n%s", diff)
	}
	if err := n.Detach(t.Context(), "uid-a"); err != nil {
		t.Fatal(err)
	}
	if left := elements(t, n); left != "" || len(n.exposed) > 0 {
		t.Errorf("left: %s, %v", left, n.exposed)
	}
}

// Who asks last has the port, and the one before gives up nothing of it later.
func TestHostPortChangesHands(t *testing.T) {
	n := newNetwork(t, testConfig(t))
	attach(t, n, "uid-a", netnstest.Namespace(t))
	attach(t, n, "uid-b", netnstest.Namespace(t))
	expose(t, n, "uid-a", containerPort("", 8080, ""))
	expose(t, n, "uid-b", containerPort("", 8080, ""))
	if err := n.Detach(t.Context(), "uid-a"); err != nil {
		t.Fatal(err)
	}
	if got := elements(t, n); got != "tcp . 8080 : 10.42.0.3 . 80" {
		t.Errorf("%s", got)
	}
	expose(t, n, "uid-b")
	if got := elements(t, n); got != "" {
		t.Errorf("%s", got)
	}
}

// What is known is what the kernel has, also when one family takes a change and the
// other does not.
func TestHostPortOfOneFamilyFails(t *testing.T) {
	n := newNetwork(t, testConfig(t))
	attach(t, n, "uid-a", netnstest.Namespace(t))
	four := n.pods["uid-a"]
	n.pods["uid-a"] = append(slices.Clone(four), netip.MustParseAddr("fd00::9")) // there is no table for it
	if err := n.Expose("uid-a", []corev1.ContainerPort{containerPort("", 8080, "")}); err == nil {
		t.Fatal("a port of a family that has no table was taken")
	}
	if got := elements(t, n); got != "tcp . 8080 : 10.42.0.2 . 80" || len(n.exposed["uid-a"]) != 1 {
		t.Errorf("the kernel has %q, known is %v", got, n.exposed)
	}
	n.pods["uid-a"] = four
	expose(t, n, "uid-a", containerPort("", 9090, ""))
	if got := elements(t, n); got != "tcp . 9090 : 10.42.0.2 . 80" {
		t.Errorf("the kernel has %q", got)
	}
	expose(t, n, "uid-a")
	if got := elements(t, n); got != "" || len(n.exposed) > 0 {
		t.Errorf("the kernel has %q, known is %v", got, n.exposed)
	}
}

func TestUDPMovesToTheNewPod(t *testing.T) {
	outside := netnstest.Outside(t)
	n := newNetwork(t, testConfig(t))
	a, b := netnstest.Namespace(t), netnstest.Namespace(t)
	attach(t, n, "uid-a", a)
	attach(t, n, "uid-b", b)
	netnstest.Echo(t, a, "a", 80)
	netnstest.Echo(t, b, "b", 80)
	c, err := netnstest.Dial(outside, "udp", "192.0.2.1:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if name, _, err := netnstest.TalkWithin(c, 200*time.Millisecond); err == nil {
		t.Fatalf("%q answered before there was a port", name)
	}
	for _, want := range []string{"a", "b"} {
		expose(t, n, "uid-"+want, containerPort("", 8080, corev1.ProtocolUDP))
		var name string
		for deadline := time.Now().Add(netnstest.Timeout); time.Now().Before(deadline) && name != want; {
			name, _, _ = netnstest.TalkWithin(c, 100*time.Millisecond)
		}
		if name != want {
			t.Errorf("the same socket reaches %q, not %q", name, want)
		}
	}
}

func TestHostPortsOfTwoFamilies(t *testing.T) {
	four, six := netip.MustParseAddr("10.42.0.9"), netip.MustParseAddr("fd00::9")
	for _, c := range []struct {
		hostIP string
		want   int
	}{{"", 2}, {"0.0.0.0", 1}, {"::", 1}, {"192.0.2.1", 1}, {"::ffff:192.0.2.1", 1}, {"fd00::1", 1}} {
		got, err := hostPortsOf([]netip.Addr{four, six}, []corev1.ContainerPort{containerPort(c.hostIP, 80, "")})
		if err != nil || len(got) != c.want {
			t.Errorf("%q: %v, %v", c.hostIP, got, err)
		}
	}
	if _, err := hostPortsOf([]netip.Addr{four}, []corev1.ContainerPort{containerPort("here", 80, "")}); err == nil {
		t.Error("an address that is none was taken")
	}
}

// sendTo sends a packet of UDP by the Pod's link, wherever the kernel would.
func sendTo(from netip.Addr, to netip.AddrPort) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	if err := unix.SetsockoptString(s, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, podLink); err != nil {
		return err
	}
	if err := unix.Bind(s, &unix.SockaddrInet4{Addr: from.As4()}); err != nil {
		return err
	}
	return unix.Sendto(s, []byte("let me in"), 0, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
}
