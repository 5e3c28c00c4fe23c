package dns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/netns/netnstest"
)

func TestMain(m *testing.M) { os.Exit(netnstest.Main(m)) }

const (
	server       = "10.43.0.10:53"
	upstreamAddr = "127.0.0.2:53"
)

func ptr[T any](v T) *T { return &v }

func service(name, ip string, change ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.ServiceSpec{
			ClusterIP: ip, ClusterIPs: []string{ip},
			Ports: []corev1.ServicePort{
				{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}, {Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP},
			},
		},
	}
	for _, c := range change {
		c(s)
	}
	return s
}

func external(target string) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: target}
	}
}

func slice(service string, eps ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: service + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: service},
		},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: eps,
		Ports: []discoveryv1.EndpointPort{{Name: ptr("http"), Port: ptr(int32(8080)), Protocol: ptr(corev1.ProtocolTCP)}},
	}
}

func objects() []runtime.Object {
	two := func(s *corev1.Service) { s.Spec.ClusterIPs = append(s.Spec.ClusterIPs, "fd43::81") }
	return []runtime.Object{
		service("web", "10.43.0.80"), slice("web", discoveryv1.Endpoint{Addresses: []string{"10.42.0.9"}}),
		service("dual", "10.43.0.81", two),
		service("db", "None"), slice("db",
			discoveryv1.Endpoint{Addresses: []string{"10.42.0.3"}, Hostname: ptr("db-0")},
			discoveryv1.Endpoint{Addresses: []string{"10.42.0.4"}},
			discoveryv1.Endpoint{Addresses: []string{"10.42.0.5"}, Conditions: discoveryv1.EndpointConditions{Ready: ptr(false)}}),
		service("empty", "None"),
		service("away", "", external("www.example.com")),
		service("within", "", external("web.default.svc.cluster.local")),
	}
}

// upstream is a DNS server that counts what it is asked.
type upstream struct {
	mu    sync.Mutex // guards asked
	asked map[string]int
}

func (u *upstream) count(key string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.asked[key]
}

func (u *upstream) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	q := r.Question[0]
	network := w.LocalAddr().Network()
	u.mu.Lock()
	u.asked[q.Name+network]++
	u.mu.Unlock()
	m := new(dns.Msg).SetReply(r)
	add := func(s string) {
		rr, err := dns.NewRR(s)
		if err != nil {
			panic(err)
		}
		if rr.Header().Rrtype == dns.TypeSOA {
			m.Ns = append(m.Ns, rr)
		} else {
			m.Answer = append(m.Answer, rr)
		}
	}
	switch {
	case q.Name == "www.example.com." && q.Qtype == dns.TypeA:
		add("www.example.com. 300 IN A 198.51.100.1")
	case q.Name == "www.example.com.":
		add("example.com. 60 IN SOA ns. root. 1 1 1 1 60")
	case q.Name == "slow.example.com.":
		time.Sleep(100 * time.Millisecond) // so that questions overlap
		add("slow.example.com. 300 IN A 198.51.100.2")
	case q.Name == "big.example.com." && network == "udp":
		m.Truncated = true
	case q.Name == "big.example.com.":
		for i := range 200 {
			add(fmt.Sprintf("big.example.com. 300 IN A 198.51.100.%d", i))
		}
	case q.Name == "broken.example.com.":
		m.Rcode = dns.RcodeServerFailure
	default:
		m.Rcode = dns.RcodeNameError
		add("example.com. 60 IN SOA ns. root. 1 1 1 1 60")
	}
	_ = w.WriteMsg(m)
}

func startUpstream(t *testing.T) *upstream {
	t.Helper()
	u := &upstream{asked: map[string]int{}}
	for _, network := range []string{"udp", "tcp"} {
		started := make(chan struct{})
		srv := &dns.Server{Addr: upstreamAddr, Net: network, Handler: u, NotifyStartedFunc: func() { close(started) }}
		done := make(chan error, 1)
		go func() { done <- srv.ListenAndServe() }()
		select {
		case <-started:
		case err := <-done:
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = srv.Shutdown()
			<-done
		})
	}
	return u
}

func resolvConf(t *testing.T, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "resolv.conf")
	writeConf(t, path, lines...)
	return path
}

func writeConf(t *testing.T, path string, lines ...string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// start runs a server until the test ends. Its informers are started by the
// returned function.
func start(t *testing.T, conf string) (sync func()) {
	t.Helper()
	host := config.NewHost(t.TempDir())
	factory := informers.NewSharedInformerFactory(fake.NewClientset(objects()...), 0)
	s, err := New(Config{
		Informers: factory, Host: host, ClusterDomain: "cluster.local", ResolvConf: conf,
		Addresses: []netip.Addr{netip.MustParseAddr("10.43.0.10")},
		Ranges:    []netip.Prefix{netip.MustParsePrefix("10.42.0.0/15")},
		Log:       zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		factory.Shutdown()
		if err := Cleanup(host); err != nil {
			t.Error(err)
		}
		out, err := exec.Command("ip", "-4", "-br", "addr", "show", "lo").CombinedOutput()
		if err != nil || strings.Contains(string(out), "10.43.0.10") {
			t.Errorf("the address is left: %s, %v", out, err)
		}
	})
	waitServing(t)
	return func() {
		factory.Start(ctx.Done())
		factory.WaitForCacheSync(ctx.Done())
	}
}

// waitServing waits until the server's socket answers anything.
func waitServing(t *testing.T) {
	t.Helper()
	m := new(dns.Msg).SetQuestion("version.bind.", dns.TypeTXT)
	m.Question[0].Qclass = dns.ClassCHAOS
	var err error
	for deadline := time.Now().Add(netnstest.Timeout); time.Now().Before(deadline); {
		if _, _, err = (&dns.Client{Timeout: 100 * time.Millisecond}).Exchange(m, server); err == nil {
			return
		}
	}
	t.Fatal(err)
}

func exchangeWith(t *testing.T, network, name string, qtype uint16, change ...func(*dns.Msg)) *dns.Msg {
	t.Helper()
	m := new(dns.Msg).SetQuestion(name, qtype)
	for _, c := range change {
		c(m)
	}
	r, _, err := (&dns.Client{Net: network, Timeout: netnstest.Timeout}).Exchange(m, server)
	if err != nil {
		t.Fatalf("%s %s: %v", name, dns.TypeToString[qtype], err)
	}
	r.Compress = true // as it came, for Len
	return r
}

// text is the answer's code and records, sorted.
func text(m *dns.Msg) string {
	var lines []string
	for _, section := range []struct {
		name string
		rrs  []dns.RR
	}{{"", m.Answer}, {"authority ", m.Ns}, {"additional ", m.Extra}} {
		var some []string
		for _, rr := range section.rrs {
			if rr.Header().Rrtype != dns.TypeOPT {
				some = append(some, section.name+strings.Join(strings.Fields(rr.String()), " "))
			}
		}
		slices.Sort(some)
		lines = append(lines, some...)
	}
	return strings.Join(append([]string{dns.RcodeToString[m.Rcode]}, lines...), "\n")
}

const soa = "\nauthority cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5"

func TestClusterNames(t *testing.T) {
	startUpstream(t)
	start(t, resolvConf(t, "nameserver 127.0.0.2"))()
	const s = ".default.svc.cluster.local. "
	for _, tc := range []struct {
		name  string
		qtype uint16
		want  string
	}{
		{"web.default.svc.cluster.local.", dns.TypeA, "NOERROR\nweb" + s + "5 IN A 10.43.0.80"},
		{"WEB.Default.svc.Cluster.LOCAL.", dns.TypeA, "NOERROR\nWEB.Default.svc.Cluster.LOCAL. 5 IN A 10.43.0.80"},
		{"web.default.svc.cluster.local.", dns.TypeAAAA, "NOERROR" + soa},
		{"web.default.svc.cluster.local.", dns.TypeMX, "NOERROR" + soa},
		{"dual.default.svc.cluster.local.", dns.TypeAAAA, "NOERROR\ndual" + s + "5 IN AAAA fd43::81"},
		{"none.default.svc.cluster.local.", dns.TypeA, "NXDOMAIN" + soa},
		{"web.other.svc.cluster.local.", dns.TypeA, "NXDOMAIN" + soa},
		{"www.example.com.default.svc.cluster.local.", dns.TypeA, "NXDOMAIN" + soa},
		{"db.default.svc.cluster.local.", dns.TypeA, "NOERROR\ndb" + s + "5 IN A 10.42.0.3\ndb" + s + "5 IN A 10.42.0.4"},
		{"db-0.db.default.svc.cluster.local.", dns.TypeA, "NOERROR\ndb-0.db" + s + "5 IN A 10.42.0.3"},
		{"10-42-0-4.db.default.svc.cluster.local.", dns.TypeA, "NOERROR\n10-42-0-4.db" + s + "5 IN A 10.42.0.4"},
		{"db-1.db.default.svc.cluster.local.", dns.TypeA, "NXDOMAIN" + soa},
		{"empty.default.svc.cluster.local.", dns.TypeA, "NXDOMAIN" + soa},
		{"_http._tcp.web.default.svc.cluster.local.", dns.TypeSRV, "NOERROR\n_http._tcp.web" + s + "5 IN SRV 0 100 80 web" + strings.TrimSpace(s) +
			"\nadditional web" + s + "5 IN A 10.43.0.80"},
		{"_http._udp.web.default.svc.cluster.local.", dns.TypeSRV, "NXDOMAIN" + soa},
		{"_http._tcp.db.default.svc.cluster.local.", dns.TypeSRV, "NOERROR\n" +
			"_http._tcp.db" + s + "5 IN SRV 0 50 8080 10-42-0-4.db" + strings.TrimSpace(s) + "\n" +
			"_http._tcp.db" + s + "5 IN SRV 0 50 8080 db-0.db" + strings.TrimSpace(s) + "\n" +
			"additional 10-42-0-4.db" + s + "5 IN A 10.42.0.4\nadditional db-0.db" + s + "5 IN A 10.42.0.3"},
		{"80.0.43.10.in-addr.arpa.", dns.TypePTR, "NOERROR\n80.0.43.10.in-addr.arpa. 5 IN PTR web" + strings.TrimSpace(s)},
		{"3.0.42.10.in-addr.arpa.", dns.TypePTR, "NOERROR\n3.0.42.10.in-addr.arpa. 5 IN PTR db-0.db" + strings.TrimSpace(s)},
		{"77.0.42.10.in-addr.arpa.", dns.TypePTR, "NXDOMAIN" + soa},
		{"1.8.3.4.f.d.ip6.arpa.", dns.TypePTR, "NXDOMAIN\nauthority example.com. 60 IN SOA ns. root. 1 1 1 1 60"},
		{"away.default.svc.cluster.local.", dns.TypeA, "NOERROR\naway" + s + "5 IN CNAME www.example.com.\nwww.example.com. 300 IN A 198.51.100.1"},
		{"away.default.svc.cluster.local.", dns.TypeCNAME, "NOERROR\naway" + s + "5 IN CNAME www.example.com."},
		{"within.default.svc.cluster.local.", dns.TypeA, "NOERROR\nweb" + s + "5 IN A 10.43.0.80\nwithin" + s + "5 IN CNAME web" + strings.TrimSpace(s)},
		{"10-42-0-9.default.pod.cluster.local.", dns.TypeA, "NOERROR\n10-42-0-9.default.pod.cluster.local. 5 IN A 10.42.0.9"},
		{"10-42-0-9.default.pod.cluster.local.", dns.TypeAAAA, "NOERROR" + soa},
		{"web.default.pod.cluster.local.", dns.TypeA, "NXDOMAIN" + soa},
		{"cluster.local.", dns.TypeSOA, "NOERROR" + strings.Replace(soa, "authority ", "", 1)},
		{"cluster.local.", dns.TypeA, "NOERROR" + soa},
		{"svc.cluster.local.", dns.TypeA, "NOERROR" + soa},
		{"default.svc.cluster.local.", dns.TypeA, "NOERROR" + soa},
		{"nobody.svc.cluster.local.", dns.TypeA, "NXDOMAIN" + soa},
		{"dns-version.cluster.local.", dns.TypeTXT, "NOERROR\ndns-version.cluster.local. 5 IN TXT \"1.1.0\""},
		{"other.cluster.local.", dns.TypeA, "NXDOMAIN" + soa},
	} {
		for _, network := range []string{"udp", "tcp"} {
			m := exchangeWith(t, network, tc.name, tc.qtype)
			if got := text(m); got != tc.want {
				t.Errorf("%s %s by %s:\n%s\nwant\n%s", tc.name, dns.TypeToString[tc.qtype], network, got, tc.want)
			}
			if strings.HasSuffix(tc.name, "cluster.local.") && !m.Authoritative {
				t.Errorf("%s: not authoritative", tc.name)
			}
		}
	}
}

func TestForwarding(t *testing.T) {
	u := startUpstream(t)
	start(t, resolvConf(t, "search lan", "nameserver 127.0.0.3", "nameserver 10.43.0.10", "nameserver 127.0.0.2"))()
	for range 3 {
		if got := text(exchangeWith(t, "udp", "www.example.com.", dns.TypeA)); got != "NOERROR\nwww.example.com. 300 IN A 198.51.100.1" {
			t.Errorf("got %s", got)
		}
		if got := exchangeWith(t, "udp", "nosuch.example.com.", dns.TypeA); got.Rcode != dns.RcodeNameError || len(got.Ns) != 1 {
			t.Errorf("got %v", got)
		}
		if got := exchangeWith(t, "udp", "broken.example.com.", dns.TypeA); got.Rcode != dns.RcodeServerFailure {
			t.Errorf("got %v", got)
		}
	}
	for name, want := range map[string]int{"www": 1, "nosuch": 1, "broken": 3} {
		if got := u.count(name + ".example.com.udp"); got != want {
			t.Errorf("upstream was asked %d times for %s, want %d", got, name, want)
		}
	}
}

func TestOneQuestionAtATime(t *testing.T) {
	u := startUpstream(t)
	start(t, resolvConf(t, "nameserver 127.0.0.2"))()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			m := new(dns.Msg).SetQuestion("slow.example.com.", dns.TypeA)
			r, _, err := (&dns.Client{Timeout: netnstest.Timeout}).Exchange(m, server)
			if err != nil || len(r.Answer) != 1 {
				t.Errorf("%v, %v", r, err)
			}
		})
	}
	wg.Wait()
	if n := u.count("slow.example.com.udp"); n != 1 {
		t.Errorf("upstream was asked %d times", n)
	}
}

func TestLongAnswers(t *testing.T) {
	u := startUpstream(t)
	start(t, resolvConf(t, "nameserver 127.0.0.2"))()
	m := exchangeWith(t, "udp", "big.example.com.", dns.TypeA)
	if !m.Truncated || m.Len() > 512 {
		t.Errorf("without EDNS: truncated %v, %d bytes", m.Truncated, m.Len())
	}
	m = exchangeWith(t, "udp", "big.example.com.", dns.TypeA, func(m *dns.Msg) { m.SetEdns0(4096, false) })
	if !m.Truncated || m.Len() > 1232 || m.Len() < 512 || m.IsEdns0() == nil {
		t.Errorf("with EDNS: truncated %v, %d bytes, %v", m.Truncated, m.Len(), m.IsEdns0())
	}
	if m = exchangeWith(t, "tcp", "big.example.com.", dns.TypeA); m.Truncated || len(m.Answer) != 200 {
		t.Errorf("by TCP: truncated %v, %d records", m.Truncated, len(m.Answer))
	}
	if n := u.count("big.example.com.tcp"); n != 1 {
		t.Errorf("upstream was asked %d times by TCP", n)
	}
}

func TestSilentUpstreamComesLast(t *testing.T) {
	startUpstream(t)
	hole, err := net.ListenPacket("udp", "127.0.0.4:53")
	if err != nil {
		t.Fatal(err)
	}
	defer hole.Close()
	start(t, resolvConf(t, "nameserver 127.0.0.4", "nameserver 127.0.0.2"))()
	ask := func(name string) time.Duration {
		began := time.Now()
		if m := exchangeWith(t, "udp", name, dns.TypeA); len(m.Answer) != 1 {
			t.Errorf("%s: %v", name, m)
		}
		return time.Since(began)
	}
	if d := ask("www.example.com."); d < upstreamTimeout {
		t.Errorf("the first server was not asked: %v", d)
	}
	if d := ask("slow.example.com."); d > upstreamTimeout/2 {
		t.Errorf("the silent server was asked first again: %v", d)
	}
}

func TestUpstreamsChange(t *testing.T) {
	startUpstream(t)
	conf := resolvConf(t, "nameserver 10.43.0.10")
	start(t, conf)()
	began := time.Now()
	if m := exchangeWith(t, "udp", "www.example.com.", dns.TypeA); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("without upstreams: %v", m)
	}
	if d := time.Since(began); d > time.Second {
		t.Errorf("it took %v to find that there is nobody to ask", d)
	}
	writeConf(t, conf, "# at another place now", "nameserver 127.0.0.2")
	if m := exchangeWith(t, "udp", "www.example.com.", dns.TypeA); len(m.Answer) != 1 {
		t.Errorf("after the file changed: %v", m)
	}
}

func TestBeforeTheClusterIsKnown(t *testing.T) {
	startUpstream(t)
	sync := start(t, resolvConf(t, "nameserver 127.0.0.2"))
	if m := exchangeWith(t, "udp", "www.example.com.", dns.TypeA); len(m.Answer) != 1 {
		t.Errorf("others' names need not wait: %v", m)
	}
	if m := exchangeWith(t, "udp", "web.default.svc.cluster.local.", dns.TypeA); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("a name that may exist: %v", m)
	}
	got := make(chan *dns.Msg)
	go func() {
		m, _, _ := (&dns.Client{Timeout: netnstest.Timeout}).Exchange(
			new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA), server)
		got <- m
	}()
	sync()
	if m := <-got; m == nil || len(m.Answer) != 1 {
		t.Errorf("a question that waited: %v", m)
	}
}

func TestOtherClassesAreRefused(t *testing.T) {
	start(t, resolvConf(t))()
	m := exchangeWith(t, "udp", "version.bind.", dns.TypeTXT, func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS })
	if m.Rcode != dns.RcodeRefused {
		t.Errorf("%v", m)
	}
}
