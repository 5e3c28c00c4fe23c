package dns

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/zap/zaptest"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/skiff-sh/skiff/internal/config"
)

// answered takes one answer.
type answered struct {
	dns.ResponseWriter
	got chan *dns.Msg
}

func (a answered) WriteMsg(m *dns.Msg) error { a.got <- m; return nil }
func (a answered) RemoteAddr() net.Addr      { return &net.UDPAddr{} }

// When as many wait as may, the next is told so at once.
func TestTooManyQuestions(t *testing.T) {
	s, err := New(Config{
		Informers: informers.NewSharedInformerFactory(fake.NewClientset(), 0), Host: config.NewHost(t.TempDir()),
		ClusterDomain: "cluster.local", Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Log: zaptest.NewLogger(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	for range maxAnswering {
		s.turns <- struct{}{}
	}
	w := answered{got: make(chan *dns.Msg, 1)}
	began := time.Now()
	// The informers never fill: without a bound it would wait for them.
	s.ServeDNS(w, new(dns.Msg).SetQuestion("kubernetes.default.svc.cluster.local.", dns.TypeA))
	if m := <-w.got; m.Rcode != dns.RcodeServerFailure || time.Since(began) > patience/2 {
		t.Errorf("answer after %v: %v", time.Since(began), m)
	}
	<-s.turns
	other := new(dns.Msg).SetQuestion("version.bind.", dns.TypeTXT)
	other.Question[0].Qclass = dns.ClassCHAOS
	s.ServeDNS(w, other)
	if m := <-w.got; m.Rcode != dns.RcodeRefused {
		t.Errorf("with a turn: %v", m)
	}
	if len(s.turns) != maxAnswering-1 {
		t.Errorf("%d turns are taken, want %d", len(s.turns), maxAnswering-1)
	}
}
