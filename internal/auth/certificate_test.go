package auth

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestCertificates(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	good := ours.client("alice", []string{"dev", "ops"}, withUID("u1"))
	sum := sha256.Sum256(good.Raw)
	cases := []struct {
		name string
		cert *x509.Certificate
		want *User // nil: an error
	}{
		{"good", good, &User{Name: "alice", UID: "u1", Groups: []string{"dev", "ops"},
			Extra: map[string][]string{"authentication.kubernetes.io/credential-id": {"X509SHA256=" + hex.EncodeToString(sum[:])}}}},
		{"other authority", theirs.client("alice", []string{"system:masters"}), nil},
		{"for servers", ours.client("alice", nil, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), nil},
		{"expired", ours.client("alice", nil, func(c *x509.Certificate) { c.NotAfter = newClock().now().Add(-time.Second) }), nil},
		{"not yet valid", ours.client("alice", nil, func(c *x509.Certificate) { c.NotBefore = newClock().now().Add(time.Minute) }), nil},
		{"two UIDs", ours.client("alice", nil, withUID("u1"), withUID("u2")), nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a := NewCertificates(ours.pool(), newClock().now)
			for range 2 { // the second time from the cache
				user, ok, err := a.Authenticate(over(c.cert))
				if c.want == nil {
					if ok || err == nil {
						t.Fatalf("believed: %+v, %v", user, err)
					}
					continue
				}
				if err != nil || !ok {
					t.Fatal(ok, err)
				}
				if d := cmp.Diff(*c.want, user); d != "" {
					t.Error(d)
				}
			}
		})
	}
}

func TestCertificateWithoutName(t *testing.T) {
	ours := newAuthority(t)
	a := NewCertificates(ours.pool(), newClock().now)
	for name, r := range map[string]*http.Request{
		"no connection state": bearing("x"),
		"no certificate":      over(),
		"no common name":      over(ours.client("", []string{"system:masters"})),
	} {
		if user, ok, err := a.Authenticate(r); ok || err != nil {
			t.Errorf("%s: %+v %v %v", name, user, ok, err)
		}
	}
}

// TestCachedCertificateExpires makes sure that what was good once is not good
// for ever.
func TestCachedCertificateExpires(t *testing.T) {
	ours, clock := newAuthority(t), newClock()
	a := NewCertificates(ours.pool(), clock.now)
	cert := ours.client("alice", nil)
	if _, ok, err := a.Authenticate(over(cert)); !ok {
		t.Fatal(err)
	}
	clock.add(2 * time.Hour)
	if _, ok, err := a.Authenticate(over(cert)); ok || err == nil {
		t.Error("an expired certificate was believed because it had been good before")
	}
}

func TestUnion(t *testing.T) {
	ours, theirs, clock := newAuthority(t), newAuthority(t), newClock()
	s := stateWith(t, account("app"))
	tokens := newTokens(t, s, clock)
	token := issue(t, tokens, account("app"), nil)
	union := Union{NewCertificates(ours.pool(), clock.now), tokens}

	both := over(theirs.client("mallory", nil))
	both.Header.Set("Authorization", "Bearer "+token)
	user, ok, err := union.Authenticate(both)
	if !ok || err != nil || user.Name != "system:serviceaccount:ns:app" {
		t.Errorf("a wrong certificate hid a good token: %+v %v", user, err)
	}
	want := []string{"system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"}
	if d := cmp.Diff(want, user.Groups); d != "" {
		t.Error(d)
	}
	if _, ok, err := union.Authenticate(over(theirs.client("mallory", nil))); ok || err == nil {
		t.Error("a certificate of another authority was no error")
	}
	if _, ok, err := union.Authenticate(over()); ok || err != nil {
		t.Error("no credentials:", ok, err)
	}
	user, ok, err = append(union, Nobody{}).Authenticate(over())
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	if d := cmp.Diff(User{Name: "system:anonymous", Groups: []string{"system:unauthenticated"}}, user); d != "" {
		t.Error(d)
	}
	// Nobody becomes authenticated by asking for it in a certificate.
	user, _, _ = union.Authenticate(over(ours.client("system:anonymous", nil)))
	if user.in(GroupAuthenticated) {
		t.Errorf("%+v is authenticated", user)
	}
}
