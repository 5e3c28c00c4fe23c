package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt"
)

// clock is one that tests set.
type clock struct{ time time.Time }

func newClock() *clock               { return &clock{time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }
func (c *clock) now() time.Time      { return c.time }
func (c *clock) add(d time.Duration) { c.time = c.time.Add(d) }

// stateWith opens a state on a store of its own and puts objects into it.
func stateWith(t testing.TB, objects ...kind.Object) *state.State {
	t.Helper()
	engine, err := bolt.Open(filepath.Join(t.TempDir(), "store.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := state.Open(t.Context(), engine, kind.All, state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	put(t, s, objects...)
	return s
}

func kindOf(obj kind.Object) *kind.Kind {
	switch obj.(type) {
	case *corev1.Pod:
		return kind.Pod
	case *corev1.Secret:
		return kind.Secret
	case *corev1.ServiceAccount:
		return kind.ServiceAccount
	case *corev1.Node:
		return kind.Node
	case *certificatesv1.CertificateSigningRequest:
		return kind.CertificateSigningRequest
	}
	return nil
}

// put creates objects, or replaces those that have a resourceVersion.
func put(t testing.TB, s *state.State, objects ...kind.Object) {
	t.Helper()
	for _, obj := range objects {
		w := state.Write{Kind: kindOf(obj), Action: store.Put, Object: obj}
		if old, ok := s.Get(w.Kind, obj.GetNamespace(), obj.GetName()); ok {
			revision := new(big.Int)
			revision.SetString(old.GetResourceVersion(), 10)
			w.Expect = store.Revision(revision.Uint64())
		}
		if _, err := s.Commit(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
}

func remove(t *testing.T, s *state.State, obj kind.Object) {
	t.Helper()
	old, ok := s.Get(kindOf(obj), obj.GetNamespace(), obj.GetName())
	if !ok {
		t.Fatalf("no %s to remove", obj.GetName())
	}
	revision := new(big.Int)
	revision.SetString(old.GetResourceVersion(), 10)
	w := state.Write{Kind: kindOf(obj), Action: store.Delete, Namespace: obj.GetNamespace(), Name: obj.GetName(), Expect: store.Revision(revision.Uint64())}
	if _, err := s.Commit(t.Context(), w); err != nil {
		t.Fatal(err)
	}
}

func account(name string) *corev1.ServiceAccount {
	return &corev1.ServiceAccount{ObjectMeta: meta(name)}
}

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("uid-" + name)}
}

func node(name string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-" + name)}}
}

func pod(name, node string, change ...func(*corev1.PodSpec)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: meta(name),
		Spec:       corev1.PodSpec{NodeName: node, ServiceAccountName: "app", Containers: []corev1.Container{{Name: "c"}}},
	}
	for _, c := range change {
		c(&p.Spec)
	}
	return p
}

// authority is a certificate authority of a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  crypto.Signer
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "ca"},
		NotBefore:             time.Unix(0, 0),
		NotAfter:              time.Date(2036, 1, 1, 0, 0, 0, 0, time.UTC),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	a.cert = a.sign(template, template, a.key)
	return a
}

func (a *authority) sign(template, parent *x509.Certificate, key crypto.Signer) *x509.Certificate {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// client makes a certificate that is valid for a day around the clock's start.
func (a *authority) client(name string, groups []string, change ...func(*x509.Certificate)) *x509.Certificate {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2),
		Subject:      pkix.Name{CommonName: name, Organization: groups},
		NotBefore:    newClock().now().Add(-time.Hour),
		NotAfter:     newClock().now().Add(time.Hour),
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, c := range change {
		c(template)
	}
	return a.sign(template, a.cert, newKey(a.t))
}

func withUID(uid string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.Subject.ExtraNames = append(c.Subject.ExtraNames, pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57683, 2}, Value: uid})
	}
}

// over is a request on a connection with these client certificates.
func over(certs ...*x509.Certificate) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	r.TLS = &tls.ConnectionState{PeerCertificates: certs}
	return r
}

func bearing(token string) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}
