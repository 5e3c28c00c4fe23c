package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/skiff-sh/skiff/internal/pki"
	"github.com/skiff-sh/skiff/internal/uplink"
)

const month = 30 * 24 * time.Hour

// aging is an API whose clock the test sets.
type aging struct {
	*testing.T
	*server
	offset atomic.Int64
}

func newAging(t *testing.T) *aging {
	t.Helper()
	a := &aging{T: t, server: &server{
		settings: settings(t, t.TempDir()), log: zap.NewNop(), metrics: newMetrics(), disk: newDiskWatch(),
	}}
	past, err := pki.OpenPast(filepath.Join(t.TempDir(), "clock"))
	if err != nil {
		t.Fatal(err)
	}
	a.clock = pki.Clock{Now: func() time.Time { return time.Now().Add(time.Duration(a.offset.Load())) }, Past: past,
		Kept: func() bool { return true }}
	t.Cleanup(func() {
		if err := a.close(); err != nil {
			t.Error(err)
		}
	})
	for _, step := range []func(context.Context) error{
		a.findAddresses, a.openStore, a.openKeys, a.openAPI, a.bootstrap, a.listen, a.writeKubeconfig,
	} {
		if err := step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	served, renewed := make(chan error, 1), make(chan error, 1)
	go func() { served <- a.serve(ctx) }()
	go func() { renewed <- a.renewCertificates(ctx) }()
	t.Cleanup(func() {
		cancel()
		for _, part := range []chan error{served, renewed} {
			if err := <-part; err != nil {
				t.Error(err)
			}
		}
	})
	return a
}

// client speaks as an identity, over an uplink as nodes have it.
func (a *aging) client(identity *pki.Identity) kubernetes.Interface {
	a.Helper()
	up, err := uplink.New(uplink.Config{
		Servers: []string{a.localURL()}, Authority: a.keys.authority.Pool(), Identity: identity, Clock: a.clock.Alone(),
	})
	if err != nil {
		a.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(&rest.Config{Host: up.URL(), Transport: up})
	if err != nil {
		a.Fatal(err)
	}
	return client
}

// await lets months pass and waits until all certificates are others.
func (a *aging) await(ctx context.Context, months time.Duration) {
	a.Helper()
	var changes []<-chan struct{}
	for _, l := range a.keys.leaves() {
		_, changed := (*l.identity).Watch()
		changes = append(changes, changed)
	}
	a.offset.Add(int64(months))
	a.clock.Past.Jump()
	for i, changed := range changes {
		select {
		case <-changed:
		case <-ctx.Done():
			a.Fatalf("%s is not renewed", a.keys.leaves()[i].name)
		}
	}
}

// shown is the certificate that the API shows.
func (a *aging) shown() *x509.Certificate {
	a.Helper()
	conn, err := tls.Dial("tcp", a.listener.Addr().String(), &tls.Config{
		RootCAs: a.keys.authority.Pool(), ServerName: "localhost", Time: a.clock.Latest, MinVersion: tls.VersionTLS12,
	})
	if err != nil {
		a.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

func TestCertificatesAreRenewedWhileInUse(t *testing.T) {
	a := newAging(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	first := pki.NewIdentity(a.keys.admin.Pair())
	admin, old := a.client(a.keys.admin), a.client(first)
	watch, err := admin.CoreV1().ConfigMaps("default").Watch(ctx, metav1.ListOptions{TimeoutSeconds: new(int64(3600))})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	see := func(name string) {
		t.Helper()
		_, err := admin.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		select {
		case e, open := <-watch.ResultChan():
			if got, ok := e.Object.(*corev1.ConfigMap); !open || !ok || got.Name != name {
				t.Fatalf("the watch brings %+v (open: %t) instead of %s", e, open, name)
			}
		case <-ctx.Done():
			t.Fatalf("the watch does not bring %s", name)
		}
	}
	see("at-first")
	shown := a.shown()

	a.await(ctx, 9*month)
	see("renewed")
	if a.shown().Equal(shown) {
		t.Error("the API shows the old certificate")
	}
	a.kubeconfigWorks()
	if _, err := old.CoreV1().Namespaces().Get(ctx, "default", metav1.GetOptions{}); err != nil {
		t.Errorf("the old certificate is not good any more, three months early: %v", err)
	}

	a.offset.Add(int64(4 * month)) // the first ones have ended
	see("old-ones-have-ended")
	if _, err := old.CoreV1().Namespaces().Get(ctx, "default", metav1.GetOptions{}); !apierrors.IsUnauthorized(err) {
		t.Errorf("the old certificate: %v", err)
	}

	a.await(ctx, 5*month)
	see("renewed-again")
	a.kubeconfigWorks()
}

func TestCertificatesFollowTheAddresses(t *testing.T) {
	a := newAging(t)
	there := netip.MustParseAddr("198.51.100.9")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	a.keys.move([]netip.Addr{there})
	for _, identity := range []*pki.Identity{a.keys.serving, a.keys.nodeServing} {
		for {
			pair, changed := identity.Watch()
			if pair.Certificate.VerifyHostname(there.String()) == nil {
				break
			}
			select {
			case <-changed:
			case <-ctx.Done():
				t.Fatal("the certificate does not get the new address")
			}
		}
	}
}

// kubeconfigWorks says that the administrator's file has the certificate of now.
func (a *aging) kubeconfigWorks() {
	a.Helper()
	c, err := clientcmd.BuildConfigFromFlags("", a.settings.WriteKubeconfig)
	if err != nil {
		a.Fatal(err)
	}
	block, _ := pem.Decode(c.CertData)
	if block == nil || !bytes.Equal(block.Bytes, a.keys.admin.Pair().Certificate.Raw) {
		a.Error("the kubeconfig has another certificate")
	}
	client, err := kubernetes.NewForConfig(c)
	if err != nil {
		a.Fatal(err)
	}
	if _, err := client.CoreV1().Namespaces().Get(a.Context(), "default", metav1.GetOptions{}); err != nil {
		a.Error(err)
	}
	info, err := os.Stat(a.settings.WriteKubeconfig)
	if err != nil || info.Mode().Perm() != 0o600 {
		a.Errorf("%v, %v", info.Mode(), err)
	}
}

// NTP sets a clock that was two years behind: what was issued before is good
// after it, and replaced by what does not last for ten years.
func TestClockIsSetForward(t *testing.T) {
	s := settings(t, t.TempDir())
	now, right := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC), false
	past, err := pki.OpenPast(filepath.Join(t.TempDir(), "clock"))
	if err != nil {
		t.Fatal(err)
	}
	clock := pki.Clock{Now: func() time.Time { return now }, Kept: func() bool { return right }, Past: past,
		Build: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	k, err := openKeys(s, s.NodeIPs, clock)
	if err != nil {
		t.Fatal(err)
	}
	now, right = time.Date(2028, 6, 1, 0, 0, 0, 0, time.UTC), true
	for _, l := range k.leaves() {
		before := (*l.identity).Pair()
		if !before.Certificate.NotAfter.After(now) {
			t.Errorf("%s ended on %s", l.name, before.Certificate.NotAfter)
		}
		renewal := k.renewal(l, zap.NewNop())
		if !renewal.Outdated(before) {
			t.Errorf("%s lasts until %s", l.name, before.Certificate.NotAfter)
		}
		if next, err := renewal.Obtain(t.Context()); err != nil || !next.Certificate.NotAfter.Equal(now.AddDate(1, 0, 0)) {
			t.Errorf("%s then ends on %s (%v)", l.name, next.Certificate.NotAfter, err)
		}
	}
}

// connection is one that came to an address of this machine.
type connection struct {
	net.Conn
	at string
}

func (c connection) LocalAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.at))
}

func TestAPIGetsTheAddressesItIsCalledAt(t *testing.T) {
	s := settings(t, t.TempDir())
	k, err := openKeys(s, s.NodeIPs, pki.Clock{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	first := k.serving.Pair()
	for _, c := range []struct {
		at, name string
		gains    string // "": the certificate stays
	}{
		{"192.0.2.1:6443", "", ""},
		{"198.51.100.7:6443", "box", ""}, // it asks for a name
		{"198.51.100.7:6443", "", "198.51.100.7"},
		{"[2001:db8::7]:6443", "", "2001:db8::7"},
		{"[fe80::1%eth0]:6443", "", "fe80::1"},
		{"[::ffff:203.0.113.5]:6443", "", "203.0.113.5"},
		{"198.51.100.7:6443", "", ""},
	} {
		before := k.serving.Pair()
		got, err := k.certificate(&tls.ClientHelloInfo{ServerName: c.name, Conn: connection{at: c.at}})
		if err != nil {
			t.Fatal(err)
		}
		if kept := got.Leaf.Equal(before.Certificate); kept != (c.gains == "") {
			t.Errorf("%s %q: kept %t", c.at, c.name, kept)
		}
		for _, name := range []string{c.gains, "192.0.2.1", "localhost"} {
			if name != "" && got.Leaf.VerifyHostname(name) != nil {
				t.Errorf("%s: the certificate is not for %s", c.at, name)
			}
		}
	}
	for i := range 3 * mostAddresses {
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), 6443)
		if _, err := k.certificate(&tls.ClientHelloInfo{Conn: connection{at: at.String()}}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(k.serving.Pair().Certificate.IPAddresses) - len(first.Certificate.IPAddresses); n > mostAddresses+1 {
		t.Errorf("the certificate gained %d addresses", n)
	}
}

func TestEndOfTheAuthorityIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := settings(t, t.TempDir())
		k, err := openKeys(s, s.NodeIPs, pki.Clock{Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		core, logs := observer.New(zap.WarnLevel)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- k.watchAuthorities(ctx, zap.New(core)) }()
		time.Sleep(k.authority.Certificate.NotAfter.Sub(time.Now()) - authorityPatience - 24*time.Hour)
		synctest.Wait()
		if n := logs.Len(); n != 0 {
			t.Errorf("%d warnings before the last year", n)
		}
		time.Sleep(authorityPatience)
		synctest.Wait()
		if n := logs.Len(); n < 2*11 || n > 2*14 {
			t.Errorf("%d warnings in the last year, of two authorities", n)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A clock that shows less than it did before is told of, with what to do.
func TestClockThatWentBack(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	s := &server{settings: settings(t, t.TempDir()), log: zap.New(core)}
	file := filepath.Join(s.settings.DataDir, "server", "clock")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(time.Now().AddDate(3, 0, 0).Format(time.RFC3339)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.openClock(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.clock.Kept() {
		t.Skip("something keeps this machine's clock right")
	}
	if logs.Len() != 1 || logs.All()[0].ContextMap()["file"] != file {
		t.Errorf("warnings: %+v", logs.All())
	}
	if !s.clock.Latest().After(time.Now().AddDate(2, 0, 0)) {
		t.Error("time went back")
	}
}
