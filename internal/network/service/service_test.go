package service

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/netns/netnstest"
	"github.com/skiff-sh/skiff/internal/nft"
)

func TestMain(m *testing.M) { os.Exit(netnstest.Main(m)) }

var update = flag.Bool("update", false, "write the golden files")

// running is a Service whose objects the test puts into the informers' caches
// itself: a fake server would be most of what a benchmark measures.
type running struct {
	*Service
	host config.Host
}

func newRunning(t testing.TB, log *zap.Logger) *running {
	t.Helper()
	host := config.NewHost(t.TempDir())
	s, err := New(Config{
		Informers: informers.NewSharedInformerFactory(fake.NewClientset(), 0), NodeName: "here", Host: host,
		ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.43.0.0/16")}, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := nft.Open(nft.IPv4, host.Table)
	if err != nil {
		t.Fatal(err)
	}
	s.planes = []*plane{{conn: conn, scope: Scope{Node: "here"}}}
	t.Cleanup(func() {
		if err := errors.Join(conn.Close(), Cleanup(host)); err != nil {
			t.Error(err)
		}
	})
	return &running{s, host}
}

func (r *running) put(t testing.TB, n int, eps ...string) {
	t.Helper()
	ip := netip.AddrFrom4([4]byte{10, 43, byte(n >> 8), byte(n)}).String()
	svc := testService(func(s *corev1.Service) {
		s.Name, s.Spec.ClusterIP, s.Spec.ClusterIPs = fmt.Sprintf("web-%d", n), ip, []string{ip}
	})
	slice := testSlice()
	slice.ObjectMeta = metav1.ObjectMeta{
		Namespace: "default", Name: svc.Name + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: svc.Name},
	}
	for _, e := range eps {
		slice.Endpoints = append(slice.Endpoints, ready(e, "here"))
	}
	if err := errors.Join(r.services.GetStore().Add(svc), r.slices.GetStore().Add(slice)); err != nil {
		t.Fatal(err)
	}
}

func TestTable(t *testing.T) {
	r := newRunning(t, zaptest.NewLogger(t))
	local := func(s *corev1.Service) {
		s.Name, s.Spec.ClusterIPs = "local", []string{"10.43.0.2"}
		s.Spec.Ports[0].NodePort = 30081
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
	sticky := func(s *corev1.Service) {
		s.Name, s.Spec.ClusterIPs = "sticky", []string{"10.43.0.3"}
		s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		s.Spec.Ports[0].NodePort = 30082
	}
	for _, svc := range []*corev1.Service{testService(local), testService(sticky)} {
		if err := r.services.GetStore().Add(svc); err != nil {
			t.Fatal(err)
		}
	}
	slice := testSlice(ready("10.42.0.7", "here"), ready("10.42.0.8", "here"))
	slice.ObjectMeta = metav1.ObjectMeta{
		Namespace: "default", Name: "sticky-1", Labels: map[string]string{discoveryv1.LabelServiceName: "sticky"},
	}
	if err := r.slices.GetStore().Add(slice); err != nil {
		t.Fatal(err)
	}
	r.put(t, 1, "10.42.0.2", "10.42.0.3", "10.42.0.4")
	if err := r.rebuild(); err != nil {
		t.Fatal(err)
	}
	got := strings.ReplaceAll(netnstest.NFT(t, "list", "table", "ip", r.host.Table), r.host.Table, "TABLE")
	golden := filepath.Join("testdata", "table.nft")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if sorted(got) != sorted(string(want)) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if err := r.rebuild(); err != nil {
		t.Fatal(err)
	}
	again := strings.ReplaceAll(netnstest.NFT(t, "list", "table", "ip", r.host.Table), r.host.Table, "TABLE")
	if sorted(again) != sorted(got) {
		t.Errorf("the second time\n%s\nthe first\n%s", again, got)
	}
}

// sorted brings a listing into an order that does not depend on the kernel's
// hash seeds, in which a set's elements come.
func sorted(listing string) string {
	fields := strings.FieldsFunc(listing, func(r rune) bool { return strings.ContainsRune("\n,{}", r) })
	for i := range fields {
		fields[i] = strings.TrimPrefix(strings.TrimSpace(fields[i]), "elements = ")
	}
	slices.Sort(fields)
	return strings.Join(fields, "\n")
}

func TestTwoServicesClaimOnePort(t *testing.T) {
	r := newRunning(t, zap.NewNop())
	claim := func(name, ip string) *corev1.Service {
		return testService(func(s *corev1.Service) {
			s.Name, s.Spec.ClusterIP, s.Spec.ClusterIPs, s.Spec.ExternalIPs = name, ip, []string{ip}, []string{"198.51.100.7"}
		})
	}
	eps := func(name, ip string) *discoveryv1.EndpointSlice {
		s := testSlice(ready(ip, "here"))
		s.ObjectMeta = metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}}
		return s
	}
	a, b := claim("a", "10.43.0.1"), claim("b", "10.43.0.2")
	if err := errors.Join(r.services.GetStore().Add(a), r.services.GetStore().Add(b),
		r.slices.GetStore().Add(eps("a", "10.42.0.2")), r.slices.GetStore().Add(eps("b", "10.42.0.3"))); err != nil {
		t.Fatal(err)
	}
	if err := r.rebuild(); err != nil {
		t.Fatal(err)
	}
	first, second := "198.51.100.7 . tcp . 80 : 10.42.0.2 . 8080", "198.51.100.7 . tcp . 80 : 10.42.0.3 . 8080"
	if got := netnstest.NFT(t, "list", "map", "ip", r.host.Table, "ep0"); !strings.Contains(got, first) {
		t.Errorf("the first does not have it:\n%s", got)
	}
	if err := r.services.GetStore().Delete(a); err != nil {
		t.Fatal(err)
	}
	if err := r.sync([]string{"default/a"}); err != nil {
		t.Fatal(err)
	}
	if got := netnstest.NFT(t, "list", "map", "ip", r.host.Table, "ep0"); !strings.Contains(got, second) {
		t.Errorf("the second did not get it:\n%s", got)
	}
}

// scale is what the benchmarks run with.
const scale = 10_000

func filled(b *testing.B) *running {
	r := newRunning(b, zap.NewNop())
	for n := range scale {
		r.put(b, n, endpointsOf(n, 0, 1, 2)...)
	}
	return r
}

func endpointsOf(n int, which ...int) (out []string) {
	for _, w := range which {
		i := n*4 + w
		out = append(out, netip.AddrFrom4([4]byte{10, 42 + byte(i>>16), byte(i >> 8), byte(i)}).String())
	}
	return out
}

// BenchmarkFirstSync puts 10,000 Services with three endpoints each into an
// empty table.
func BenchmarkFirstSync(b *testing.B) {
	r := filled(b)
	for b.Loop() {
		if err := r.rebuild(); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := Cleanup(r.host); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkRestart finds everything in place.
func BenchmarkRestart(b *testing.B) {
	r := filled(b)
	if err := r.rebuild(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := r.rebuild(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkChangeEndpoint replaces one endpoint of one of the 10,000.
func BenchmarkChangeEndpoint(b *testing.B) {
	r := filled(b)
	if err := r.rebuild(); err != nil {
		b.Fatal(err)
	}
	i := 0
	for b.Loop() {
		n := (i * 7919) % scale
		r.put(b, n, endpointsOf(n, 1, 2, 3*((i/scale+1)%2))...)
		if err := r.sync([]string{fmt.Sprintf("default/web-%d", n)}); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

// BenchmarkAddService adds one to the 10,000 and takes it away.
func BenchmarkAddService(b *testing.B) {
	r := filled(b)
	if err := r.rebuild(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		r.put(b, scale, endpointsOf(scale, 0, 1, 2)...)
		name := fmt.Sprintf("default/web-%d", scale)
		if err := r.sync([]string{name}); err != nil {
			b.Fatal(err)
		}
		if err := r.services.GetStore().Delete(testService(func(s *corev1.Service) { s.Name = fmt.Sprintf("web-%d", scale) })); err != nil {
			b.Fatal(err)
		}
		if err := r.sync([]string{name}); err != nil {
			b.Fatal(err)
		}
	}
}

// TestFirstSyncIsQuick holds the first sync of 10,000 Services to the order of
// magnitude that data in maps has and chains have not.
func TestFirstSyncIsQuick(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 40,000 elements")
	}
	r := newRunning(t, zap.NewNop())
	for n := range scale {
		r.put(t, n, endpointsOf(n, 0, 1, 2)...)
	}
	began := time.Now()
	if err := r.rebuild(); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	t.Logf("10,000 Services × 3 endpoints in %v", took)
	if took > 5*time.Second {
		t.Errorf("the first sync took %v", took)
	}
	if n := strings.Count(netnstest.NFT(t, "list", "map", "ip", r.host.Table, "ep2"), " : "); n != scale+1 { // and the type
		t.Errorf("%d endpoints in the last map", n-1)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	factory := informers.NewSharedInformerFactory(fake.NewClientset(), 0)
	host := config.NewHost(t.TempDir())
	s, err := New(Config{Informers: factory, Host: host, Log: zaptest.NewLogger(t),
		ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.43.0.0/16")}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = Cleanup(host) })
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // with informers that never start
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
}
