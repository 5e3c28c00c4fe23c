package network_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/netns/netnstest"
	"github.com/skiff-sh/skiff/internal/network/pod"
	"github.com/skiff-sh/skiff/internal/network/service"
)

func TestMain(m *testing.M) { os.Exit(netnstest.Main(m)) }

func prefixes(ss ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range ss {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// node is a machine with Pods and Services.
type node struct {
	host   config.Host
	client *fake.Clientset
	pods   *pod.Network
	stop   func()
}

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{host: config.NewHost(t.TempDir()), client: fake.NewClientset()}
	var err error
	n.pods, err = pod.New(pod.Config{
		Host: n.host, PodCIDRs: prefixes("10.42.0.0/24"), ClusterCIDRs: prefixes("10.42.0.0/16"),
		ServiceCIDRs: prefixes("10.43.0.0/16"), Log: logger(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(pod.Cleanup(n.host), service.Cleanup(n.host)); err != nil {
			t.Error(err)
		}
	})
	n.start(t)
	return n
}

func logger(t *testing.T) *zap.Logger { return zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel)) }

// start runs the Services part; stop ends it and leaves the rules.
func (n *node) start(t *testing.T) {
	t.Helper()
	factory := informers.NewSharedInformerFactory(n.client, 0)
	s, err := service.New(service.Config{
		Informers: factory, NodeName: "node-1", Host: n.host, ServiceCIDRs: prefixes("10.43.0.0/16"),
		DNS: []netip.Addr{netip.MustParseAddr("10.43.0.10")}, Log: logger(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	factory.Start(ctx.Done())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	n.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		factory.Shutdown()
	}
	t.Cleanup(func() { n.stop() })
	select {
	case <-s.Synced():
	case err := <-done:
		t.Fatalf("ended: %v", err)
	case <-time.After(netnstest.Timeout):
		t.Fatal("Services are not in place in time")
	}
}

// attach makes a Pod that echoes its name on port 8080.
func (n *node) attach(t *testing.T, name string) (ns, ip string) {
	t.Helper()
	ns = netnstest.Namespace(t)
	addrs, err := n.pods.Attach(context.Background(), "uid-"+name, ns, nil)
	if err != nil {
		t.Fatal(err)
	}
	netnstest.Echo(t, ns, name, 8080)
	return ns, addrs[0].String()
}

func svc(name, ip string, change ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.ServiceSpec{
			ClusterIP: ip, ClusterIPs: []string{ip},
			Ports: []corev1.ServicePort{
				{Name: "tcp", Port: 80, Protocol: corev1.ProtocolTCP}, {Name: "udp", Port: 80, Protocol: corev1.ProtocolUDP},
			},
		},
	}
	for _, c := range change {
		c(s)
	}
	return s
}

func nodePort(port int32) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Spec.Type = corev1.ServiceTypeNodePort
		for i := range s.Spec.Ports {
			s.Spec.Ports[i].NodePort = port
		}
	}
}

func slice(service string, ips ...string) *discoveryv1.EndpointSlice {
	tcp, udp, port, node := "tcp", "udp", int32(8080), "node-1"
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: service + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: service},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &tcp, Port: &port}, {Name: &udp, Port: &port}},
	}
	for _, ip := range ips {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{ip}, NodeName: &node})
	}
	return s
}

func (n *node) apply(t *testing.T, objects ...any) {
	t.Helper()
	ctx := context.Background()
	for _, o := range objects {
		var err error
		switch o := o.(type) {
		case *corev1.Service:
			c := n.client.CoreV1().Services(o.Namespace)
			if _, err = c.Update(ctx, o, metav1.UpdateOptions{}); err != nil {
				_, err = c.Create(ctx, o, metav1.CreateOptions{})
			}
		case *discoveryv1.EndpointSlice:
			c := n.client.DiscoveryV1().EndpointSlices(o.Namespace)
			if _, err = c.Update(ctx, o, metav1.UpdateOptions{}); err != nil {
				_, err = c.Create(ctx, o, metav1.CreateOptions{})
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// listed waits until the table, as the nft command lists it, has the text.
func (n *node) listed(t *testing.T, want string) {
	t.Helper()
	var got string
	for deadline := time.Now().Add(netnstest.Timeout); time.Now().Before(deadline); {
		if got = netnstest.NFT(t, "list", "table", "ip", n.host.Table); strings.Contains(got, want) {
			return
		}
	}
	t.Fatalf("no %q in\n%s", want, got)
}

func (n *node) unlisted(t *testing.T, bad string) {
	t.Helper()
	var got string
	for deadline := time.Now().Add(netnstest.Timeout); time.Now().Before(deadline); {
		if got = netnstest.NFT(t, "list", "table", "ip", n.host.Table); !strings.Contains(got, bad) {
			return
		}
	}
	t.Fatalf("%q is left in\n%s", bad, got)
}

func ask(t *testing.T, from, network, addr string) (name, sees string) {
	t.Helper()
	name, sees, err := netnstest.Ask(from, network, addr)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", network, addr, err, netnstest.NFT(t, "list", "ruleset"))
	}
	return name, sees
}

func TestServiceFromEverywhere(t *testing.T) {
	outside := netnstest.Outside(t)
	n := newNode(t)
	client, clientIP := n.attach(t, "client")
	_, ipA := n.attach(t, "a")
	n.apply(t, svc("web", "10.43.0.80", nodePort(30080), func(s *corev1.Service) {
		s.Spec.ExternalIPs = []string{"198.51.100.7"}
	}), slice("web", ipA))
	n.listed(t, "10.43.0.80 . tcp . 80 : goto n1")
	for _, tc := range []struct{ what, from, to, sees string }{
		{"ClusterIP from a Pod", client, "10.43.0.80:80", clientIP},
		{"ClusterIP from the host", "", "10.43.0.80:80", "192.0.2.1"},
		{"node port from a Pod", client, "192.0.2.1:30080", "10.42.0.1"},
		{"node port from the host", "", "192.0.2.1:30080", "10.42.0.1"},
		{"node port from outside", outside, "192.0.2.1:30080", "10.42.0.1"},
		{"external address from a Pod", client, "198.51.100.7:80", "10.42.0.1"},
	} {
		for _, network := range []string{"tcp", "udp"} {
			if name, sees := ask(t, tc.from, network, tc.to); name != "a" || sees != tc.sees {
				t.Errorf("%s by %s: %s saw %s, want a to see %s", tc.what, network, name, sees, tc.sees)
			}
		}
	}
}

func TestServiceWithoutAnyNetwork(t *testing.T) {
	n := newNode(t)
	client, _ := n.attach(t, "client")
	_, ipA := n.attach(t, "a")
	n.apply(t, svc("web", "10.43.0.80"), slice("web", ipA))
	n.listed(t, "10.43.0.80 . tcp . 80 : goto n1")
	for _, from := range []string{"", client} {
		if name, _ := ask(t, from, "tcp", "10.43.0.80:80"); name != "a" {
			t.Errorf("%s answered", name)
		}
	}
}

func TestEndpointOnTheHost(t *testing.T) {
	netnstest.Outside(t)
	n := newNode(t)
	client, clientIP := n.attach(t, "client")
	netnstest.Echo(t, "", "host", 8080)
	n.apply(t, svc("api", "10.43.0.1"), slice("api", "192.0.2.1"))
	n.listed(t, "10.43.0.1 . udp . 80 : goto n1")
	for from, want := range map[string]string{client: clientIP, "": "192.0.2.1"} {
		for _, network := range []string{"tcp", "udp"} {
			if name, sees := ask(t, from, network, "10.43.0.1:80"); name != "host" || sees != want {
				t.Errorf("from %q by %s: %s saw %s, want host to see %s", from, network, name, sees, want)
			}
		}
	}
}

func TestHairpin(t *testing.T) {
	n := newNode(t)
	ns, ip := n.attach(t, "self")
	n.apply(t, svc("web", "10.43.0.80"), slice("web", ip))
	n.listed(t, "10.43.0.80 . udp . 80 : goto n1")
	for _, network := range []string{"tcp", "udp"} {
		if name, sees := ask(t, ns, network, "10.43.0.80:80"); name != "self" || sees != "10.42.0.1" {
			t.Errorf("%s: %s saw %s", network, name, sees)
		}
	}
}

// A Pod that asks for its own host port is answered by itself, and must not see
// itself asking.
func TestHostPortHairpin(t *testing.T) {
	netnstest.Outside(t)
	n := newNode(t)
	client, ip := n.attach(t, "a")
	ports := []corev1.ContainerPort{{ContainerPort: 8080, HostPort: 9090}, {ContainerPort: 8080, HostPort: 9090, Protocol: corev1.ProtocolUDP}}
	if err := n.pods.Expose("uid-a", ports); err != nil {
		t.Fatal(err)
	}
	n.apply(t, svc("web", "10.43.0.80"), slice("web", ip))
	n.listed(t, "10.43.0.80 . tcp . 80 : goto n1")
	for _, network := range []string{"tcp", "udp"} {
		if name, sees := ask(t, client, network, "192.0.2.1:9090"); name != "a" || sees != "10.42.0.1" {
			t.Errorf("%s: %s saw %s", network, name, sees)
		}
	}
}

func TestEveryEndpointGetsItsShare(t *testing.T) {
	n := newNode(t)
	client, _ := n.attach(t, "client")
	_, a := n.attach(t, "a")
	_, b := n.attach(t, "b")
	_, c := n.attach(t, "c")
	n.apply(t, svc("web", "10.43.0.80"), slice("web", a, b, c))
	n.listed(t, "10.43.0.80 . tcp . 80 : goto n3")
	count := map[string]int{}
	for range 120 { // each misses with probability (2/3)^120
		name, _ := ask(t, client, "tcp", "10.43.0.80:80")
		count[name]++
	}
	if count["a"] == 0 || count["b"] == 0 || count["c"] == 0 {
		t.Errorf("shares %v", count)
	}
	n.apply(t, slice("web", c))
	n.listed(t, "10.43.0.80 . tcp . 80 : goto n1")
	for range 10 {
		if name, _ := ask(t, client, "tcp", "10.43.0.80:80"); name != "c" {
			t.Fatalf("%s answered after it was taken out", name)
		}
	}
}

func TestReject(t *testing.T) {
	if err := os.WriteFile("/proc/sys/net/ipv4/icmp_ratelimit", []byte("0"), 0o644); err != nil {
		t.Fatal(err)
	}
	outside := netnstest.Outside(t)
	n := newNode(t)
	client, _ := n.attach(t, "client")
	n.apply(t, svc("web", "10.43.0.80", nodePort(30080), func(s *corev1.Service) {
		s.Spec.ExternalIPs = []string{"198.51.100.7"}
	}))
	n.listed(t, "tcp . 30080 : goto reject")
	for _, tc := range []struct{ what, from, to string }{
		{"no endpoints, from a Pod", client, "10.43.0.80:80"},
		{"no endpoints, from the host", "", "10.43.0.80:80"},
		{"no such port, from a Pod", client, "10.43.0.80:81"},
		{"no such port, from the host", "", "10.43.0.80:81"},
		{"no such Service, from a Pod", client, "10.43.9.9:80"},
		{"no such Service, from the host", "", "10.43.9.9:80"},
		{"node port, from outside", outside, "192.0.2.1:30080"},
		{"node port, from a Pod", client, "192.0.2.1:30080"},
		{"external address, from a Pod", client, "198.51.100.7:80"},
		{"external address, from the host", "", "198.51.100.7:80"},
	} {
		for _, network := range []string{"tcp", "udp"} {
			if err := refused(tc.from, network, tc.to); err != nil {
				t.Errorf("%s by %s: %v, want it refused", tc.what, network, err)
			}
		}
	}
}

// refused is nil if the address refuses. The kernel limits how many ICMP
// answers a client gets in a second, so by UDP it is asked more than once.
func refused(from, network, to string) error {
	var err error
	for deadline := time.Now().Add(netnstest.Timeout); time.Now().Before(deadline); {
		c, dialErr := netnstest.Dial(from, network, to)
		err = dialErr
		if err == nil {
			_, _, err = netnstest.TalkWithin(c, 300*time.Millisecond)
			c.Close()
		}
		// A local sender by UDP is told at once, by another error.
		if errors.Is(err, unix.ECONNREFUSED) || (from == "" && network == "udp" && errors.Is(err, unix.EPERM)) {
			return nil
		}
		if network == "tcp" {
			break
		}
	}
	return fmt.Errorf("after %v: %w", netnstest.Timeout, err)
}

func TestLocalPolicyKeepsTheClientsAddress(t *testing.T) {
	outside := netnstest.Outside(t)
	n := newNode(t)
	_, a := n.attach(t, "a")
	local := func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal }
	n.apply(t, svc("web", "10.43.0.80", nodePort(30080), local), slice("web", a))
	n.listed(t, "tcp . 30080 : goto port-n1")
	if name, sees := ask(t, outside, "tcp", "192.0.2.1:30080"); name != "a" || sees != "192.0.2.2" {
		t.Errorf("%s saw %s", name, sees)
	}
}

func TestAffinity(t *testing.T) {
	n := newNode(t)
	client, _ := n.attach(t, "client")
	ips := map[string]string{}
	var all []string
	for _, name := range []string{"a", "b", "c", "d"} {
		_, ips[name] = n.attach(t, name)
		all = append(all, ips[name])
	}
	n.apply(t, svc("web", "10.43.0.80", func(s *corev1.Service) {
		s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	}), slice("web", all...))
	n.listed(t, "10.43.0.80 . tcp . 80 : goto n4-a10800")
	first, _ := ask(t, client, "tcp", "10.43.0.80:80")
	for range 30 {
		if name, _ := ask(t, client, "tcp", "10.43.0.80:80"); name != first {
			t.Fatalf("%s answered, then %s\n%s", first, name, netnstest.NFT(t, "list", "ruleset"))
		}
	}
	n.apply(t, slice("web", slices.DeleteFunc(slices.Clone(all), func(ip string) bool { return ip == ips[first] })...))
	n.listed(t, "10.43.0.80 . tcp . 80 : goto n3-a10800")
	n.unlisted(t, ": "+ips[first]+" . 8080")
	second, _ := ask(t, client, "tcp", "10.43.0.80:80")
	if second == first {
		t.Errorf("%s answered though it is gone", second)
	}
	// Whatever else goes, the client stays where it is, also if that moves to
	// another index.
	for name, ip := range ips {
		if name == first || name == second {
			continue
		}
		all = slices.DeleteFunc(all, func(a string) bool { return a == ip || a == ips[first] })
		n.apply(t, slice("web", all...))
		n.unlisted(t, ": "+ip+" . 8080")
		for range 5 {
			if name, _ := ask(t, client, "tcp", "10.43.0.80:80"); name != second {
				t.Fatalf("%s answered, not %s", name, second)
			}
		}
	}
}

func TestUDPMovesOffAGoneEndpoint(t *testing.T) {
	n := newNode(t)
	client, _ := n.attach(t, "client")
	_, a := n.attach(t, "a")
	_, b := n.attach(t, "b")
	n.apply(t, svc("web", "10.43.0.80"), slice("web", a))
	n.listed(t, "10.43.0.80 . udp . 80 : goto n1")
	c, err := netnstest.Dial(client, "udp", "10.43.0.80:80")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if name, _, err := netnstest.Talk(c); name != "a" {
		t.Fatalf("%q, %v", name, err)
	}
	n.apply(t, slice("web", b))
	var name string
	for deadline := time.Now().Add(netnstest.Timeout); time.Now().Before(deadline) && name != "b"; {
		name, _, _ = netnstest.TalkWithin(c, 100*time.Millisecond)
	}
	if name != "b" {
		t.Errorf("the same socket still reaches %q", name)
	}
}

func TestRestartRepairsAndKeepsConnections(t *testing.T) {
	n := newNode(t)
	client, _ := n.attach(t, "client")
	_, a := n.attach(t, "a")
	_, b := n.attach(t, "b")
	n.apply(t, svc("web", "10.43.0.80"), slice("web", a), svc("old", "10.43.0.81"), slice("old", a))
	n.listed(t, "10.43.0.81 . tcp . 80 : goto n1")
	n.listed(t, "10.43.0.80 . tcp . 80 : goto n1")
	c, err := netnstest.Dial(client, "udp", "10.43.0.80:80")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if name, _, err := netnstest.Talk(c); name != "a" {
		t.Fatalf("%q, %v", name, err)
	}
	n.stop()
	if name, _, err := netnstest.Talk(c); name != "a" {
		t.Fatalf("with nobody running: %q, %v", name, err)
	}
	ctx := context.Background()
	if err := n.client.CoreV1().Services("default").Delete(ctx, "old", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	n.apply(t, slice("web", a, b))
	netnstest.NFT(t, "delete", "element", "ip", n.host.Table, "svc", "{ 10.43.0.80 . tcp . 80 }") // damage
	n.start(t)
	got := netnstest.NFT(t, "list", "table", "ip", n.host.Table)
	for _, want := range []string{"10.43.0.80 . tcp . 80 : goto n2", "10.43.0.80 . tcp . 80 : " + a + " . 8080"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "10.43.0.81") {
		t.Errorf("the deleted Service is left in\n%s", got)
	}
	if name, _, err := netnstest.Talk(c); name != "a" {
		t.Errorf("the connection from before reaches %q, %v", name, err)
	}
}

func TestRulesVanishUnderIt(t *testing.T) {
	outside := netnstest.Outside(t)
	n := newNode(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.pods.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	client, a := n.attach(t, "a")
	netnstest.Echo(t, outside, "outside", 80)
	n.apply(t, svc("web", "10.43.0.80"), slice("web", a))
	n.listed(t, "10.43.0.80 . tcp . 80 : goto n1")
	// Until both watch, a flush goes by unseen: flush until they are back.
	restored := func() bool {
		out, err := exec.Command("nft", "list", "table", "ip", n.host.Table).CombinedOutput()
		return err == nil && strings.Contains(string(out), "10.43.0.80 . tcp . 80 : goto n1") && strings.Contains(string(out), "chain masquerade")
	}
	deadline := time.Now().Add(netnstest.Timeout)
	for ok := false; !ok && time.Now().Before(deadline); {
		netnstest.NFT(t, "flush", "ruleset")
		for until := time.Now().Add(500 * time.Millisecond); !ok && time.Now().Before(until); {
			ok = restored()
		}
	}
	if name, _ := ask(t, "", "tcp", "10.43.0.80:80"); name != "a" {
		t.Errorf("%s answered", name)
	}
	if name, sees := ask(t, client, "tcp", "192.0.2.2:80"); name != "outside" || sees != "192.0.2.1" {
		t.Errorf("%s saw %s", name, sees)
	}
}
