package network_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"

	"github.com/skiff-sh/skiff/internal/dns"
	"github.com/skiff-sh/skiff/internal/netns/netnstest"
)

// startDNS runs the node's DNS with an upstream that the conf file names.
func (n *node) startDNS(t *testing.T, conf string) {
	t.Helper()
	factory := informers.NewSharedInformerFactory(n.client, 0)
	s, err := dns.New(dns.Config{
		Informers: factory, Host: n.host, ClusterDomain: "cluster.local", ResolvConf: conf, Log: logger(t),
		Addresses: []netip.Addr{netip.MustParseAddr("10.43.0.10")}, Ranges: prefixes("10.42.0.0/16", "10.43.0.0/16"),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	factory.Start(ctx.Done())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, dns.Cleanup(n.host)); err != nil {
			t.Error(err)
		}
		factory.Shutdown()
	})
}

// lookup asks the cluster's DNS from the namespace, again while nobody listens
// yet.
func lookup(t *testing.T, from, network, name string) string {
	t.Helper()
	var err error
	for deadline := time.Now().Add(netnstest.Timeout); time.Now().Before(deadline); {
		var m *mdns.Msg
		if m, err = tryLookup(from, network, name); err != nil {
			continue
		}
		for _, rr := range m.Answer {
			if a, is := rr.(*mdns.A); is {
				return a.A.String()
			}
		}
		return mdns.RcodeToString[m.Rcode]
	}
	t.Fatalf("%s from %q by %s: %v", name, from, network, err)
	return ""
}

func tryLookup(from, network, name string) (*mdns.Msg, error) {
	c, err := netnstest.Dial(from, network, "10.43.0.10:53")
	if err != nil {
		return nil, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Second))
	conn := &mdns.Conn{Conn: c}
	if err := conn.WriteMsg(new(mdns.Msg).SetQuestion(name, mdns.TypeA)); err != nil {
		return nil, err
	}
	return conn.ReadMsg()
}

func TestNamesFromPodsAndHost(t *testing.T) {
	outside := netnstest.Outside(t)
	n := newNode(t)
	client, _ := n.attach(t, "client")
	_, a := n.attach(t, "a")
	kubeDNS := svc("kube-dns", "10.43.0.10", func(s *corev1.Service) {
		s.ObjectMeta = metav1.ObjectMeta{Namespace: "kube-system", Name: "kube-dns"}
		s.Spec.Ports = []corev1.ServicePort{
			{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP}, {Name: "dns-tcp", Port: 53, Protocol: corev1.ProtocolTCP},
		}
	})
	n.apply(t, kubeDNS, svc("web", "10.43.0.80"), slice("web", a))
	n.listed(t, "10.43.0.80 . tcp . 80 : goto n1")

	// The upstream is the machine outside, which only the node can reach.
	var up mdns.Server
	netnstest.In(t, outside, func() (err error) {
		up.PacketConn, err = net.ListenPacket("udp", "192.0.2.2:53")
		return err
	})
	up.Handler = mdns.HandlerFunc(func(w mdns.ResponseWriter, r *mdns.Msg) {
		m := new(mdns.Msg).SetReply(r)
		rr, err := mdns.NewRR(r.Question[0].Name + " 60 IN A 198.51.100.1")
		if err == nil {
			m.Answer = append(m.Answer, rr)
		}
		_ = w.WriteMsg(m)
	})
	done := make(chan error, 1)
	go func() { done <- up.ActivateAndServe() }()
	t.Cleanup(func() {
		up.PacketConn.Close()
		<-done
	})
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(conf, []byte("nameserver 192.0.2.2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.startDNS(t, conf)
	for _, from := range []string{client, ""} {
		for _, network := range []string{"udp", "tcp"} {
			for name, want := range map[string]string{
				"web.default.svc.cluster.local.":          "10.43.0.80",
				"kube-dns.kube-system.svc.cluster.local.": "10.43.0.10",
				"none.default.svc.cluster.local.":         "NXDOMAIN",
				"www.example.com.":                        "198.51.100.1",
			} {
				if got := lookup(t, from, network, name); got != want {
					t.Errorf("%s from %q by %s: %s, want %s", name, from, network, got, want)
				}
			}
		}
	}
	if got := netnstest.NFT(t, "list", "table", "ip", n.host.Table); strings.Contains(got, "10.43.0.10 ") {
		t.Errorf("the DNS address is in the rules:\n%s", got)
	}
}
