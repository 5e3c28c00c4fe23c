package auth

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/pki"
)

const (
	rightToken = "abcdef.0123456789abcdef"
	wrongToken = "abcdef.fedcba9876543210"
)

// token is a bootstrap token's Secret, changed.
func token(change ...func(*corev1.Secret)) *corev1.Secret {
	s := BootstrapToken{ID: "abcdef", Secret: "0123456789abcdef", Usages: []string{"authentication"}}.Object()
	for _, c := range change {
		c(s)
	}
	return s
}

func with(key, value string) func(*corev1.Secret) {
	return func(s *corev1.Secret) { s.Data[key] = []byte(value) }
}

func once(s *corev1.Secret) { with("usage-once", "true")(s) }

// usedBy is what became of a token that works once when a node joined with it.
func usedBy(node, key string, at time.Time) func(*corev1.Secret) {
	return func(s *corev1.Secret) {
		once(s)
		if err := SpendToken(s, node, key, at); err != nil {
			panic(err)
		}
	}
}

// A bootstrap token lets in as upstream's does. Who has all of it is told why it
// does not, and nobody else.
func TestBootstrapTokens(t *testing.T) {
	now := newClock().now()
	at := func(d time.Duration) string { return now.Add(d).Format(time.RFC3339) }
	for name, c := range map[string]struct {
		secret *corev1.Secret // nil: there is none
		groups string         // of the user; "": it is refused
		told   string         // to who has all of it
	}{
		"plain":                            {token(), "system:bootstrappers", ""},
		"not expired yet":                  {token(with("expiration", at(time.Second))), "system:bootstrappers", ""},
		"with groups":                      {token(with("auth-extra-groups", "system:bootstrappers:b,system:bootstrappers:a:1")), "system:bootstrappers system:bootstrappers:a:1 system:bootstrappers:b", ""},
		"works once":                       {token(once), "system:bootstrappers", ""},
		"used a moment ago":                {token(usedBy("one", "11", now)), "system:bootstrappers", ""},
		"used up":                          {token(usedBy("one", "11", now.Add(-24*time.Hour))), "", "bootstrap token abcdef works once, and node one joined with it on 2026-02-28T12:00:00Z: make another on a server with skiff token create"},
		"expired":                          {token(with("expiration", at(0))), "", "bootstrap token abcdef expired on 2026-03-01T12:00:00Z: make another on a server with skiff token create"},
		"expires never understood":         {token(with("expiration", "tomorrow")), "", "expired on tomorrow"},
		"for signing alone":                {token(func(s *corev1.Secret) { delete(s.Data, "usage-bootstrap-authentication") }, with("usage-bootstrap-signing", "true")), "", "is not for authentication"},
		"half for authentication":          {token(with("usage-bootstrap-authentication", "yes")), "", "is not for authentication"},
		"with others' groups":              {token(with("auth-extra-groups", "system:bootstrappers:a,system:masters")), "", `"system:masters", which does not begin with system:bootstrappers:`},
		"with a group that ends in a dash": {token(with("auth-extra-groups", "system:bootstrappers:a-")), "", "is of no use"},
		"being removed":                    {token(func(s *corev1.Secret) { s.DeletionTimestamp = new(metav1.NewTime(now)); s.Finalizers = []string{"a/b"} }), "", "is being removed"},
		"of another type":                  {token(func(s *corev1.Secret) { s.Type = corev1.SecretTypeOpaque }), "", ""},
		"of another ID":                    {token(with("token-id", "abcdeg")), "", ""},
		"without data":                     {token(func(s *corev1.Secret) { s.Data = nil }), "", ""},
		"elsewhere":                        {token(func(s *corev1.Secret) { s.Namespace = "default" }), "", ""},
		"none":                             {nil, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := stateWith(t)
			if c.secret != nil {
				put(t, s, c.secret)
			}
			b := NewBootstrap(s, pki.Token{}, newClock().now)
			r := bearing(rightToken)
			user, ok, err := b.Authenticate(r)
			if allowed := c.groups != ""; ok != allowed || ok == (err != nil) {
				t.Fatalf("found %t, %v", ok, err)
			}
			if ok && (user.Name != "system:bootstrap:abcdef" || strings.Join(user.Groups, " ") != c.groups) {
				t.Errorf("user: %+v", user)
			}
			if ok != (r.Header.Get("Authorization") == "") {
				t.Errorf("the request's header is %q", r.Header.Get("Authorization"))
			}
			var refusal Refusal
			if told := errors.As(err, &refusal); told != (c.told != "") || !strings.Contains(string(refusal), c.told) {
				t.Errorf("told: %v", err)
			}
			if _, ok, err := b.Authenticate(bearing(wrongToken)); ok || err == nil || errors.As(err, &refusal) {
				t.Errorf("another secret: found %t, %v", ok, err)
			}
		})
	}
}

// What became of a token that has gone is told to who has all of it.
func TestGoneTokens(t *testing.T) {
	now := newClock().now()
	for name, c := range map[string]struct {
		token BootstrapToken
		want  string
	}{
		"removed": {BootstrapToken{}, "was removed on 2026-03-01T12:00:00Z"},
		"expired": {BootstrapToken{Expiration: "2026-03-01T11:00:00Z"}, "expired on 2026-03-01T11:00:00Z"},
		"used":    {BootstrapToken{Once: true, Used: &TokenUse{Node: "one", At: now}}, "works once, and node one joined with it on 2026-03-01T12:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			c.token.ID, c.token.Secret = "abcdef", "0123456789abcdef"
			entry, err := json.Marshal(c.token.Gone(now))
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(entry), c.token.Secret) {
				t.Errorf("the secret is kept: %s", entry)
			}
			s := stateWith(t, &corev1.Secret{
				ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: GoneTokens},
				Data:       map[string][]byte{"abcdef": entry, "broken": []byte("{")},
			})
			b := NewBootstrap(s, pki.Token{}, newClock().now)
			var refusal Refusal
			if _, ok, err := b.Authenticate(bearing(rightToken)); ok || !errors.As(err, &refusal) || !strings.Contains(string(refusal), c.want) {
				t.Errorf("found %t, told %v", ok, err)
			}
			for _, other := range []string{wrongToken, "broken.0123456789abcdef", "absent.0123456789abcdef"} {
				if _, ok, err := b.Authenticate(bearing(other)); ok || err == nil || errors.As(err, &refusal) {
					t.Errorf("%s: found %t, told %v", other, ok, err)
				}
			}
		})
	}
}

// The server's own token goes by basic authentication, and other credentials of
// that form are not ours.
func TestServerToken(t *testing.T) {
	b := NewBootstrap(stateWith(t), pki.Token{Password: "pass:wörd"}, newClock().now)
	basic := func(user, password string) *http.Request {
		r := httptest.NewRequest("GET", "/", nil)
		r.SetBasicAuth(user, password)
		return r
	}
	given := httptest.NewRequest("GET", "/", nil)
	given.Header.Set("Authorization", pki.Token{Password: "pass:wörd"}.Authorization())
	for name, c := range map[string]struct {
		r         *http.Request
		ok, wrong bool
	}{
		"right":             {basic("server", "pass:wörd"), true, false},
		"as the token says": {given, true, false},
		"wrong":             {basic("server", "password"), false, true},
		"empty":             {basic("server", ""), false, true},
		"another's":         {basic("jane", "pass:wörd"), false, false},
		"as a bearer token": {bearing("server:pass:wörd"), false, false},
		"none":              {httptest.NewRequest("GET", "/", nil), false, false},
	} {
		user, ok, err := b.Authenticate(c.r)
		if ok != c.ok || (err != nil) != c.wrong {
			t.Errorf("%s: found %t, %v", name, ok, err)
		}
		if ok && (user.Name != "system:bootstrap:server" || !slices.Equal(user.Groups, []string{"system:bootstrappers"})) {
			t.Errorf("%s: user %+v", name, user)
		}
	}
}

// A bootstrap token cannot pass for the server's own.
func TestTokenWithTheServersID(t *testing.T) {
	s := stateWith(t, BootstrapToken{ID: "server", Secret: "0123456789abcdef", Usages: []string{"authentication"}}.Object())
	if user, ok, err := NewBootstrap(s, pki.Token{}, newClock().now).Authenticate(bearing("server.0123456789abcdef")); ok || err == nil {
		t.Errorf("found %+v, %v", user, err)
	}
}

// With a token that works once, one machine joins, as often as it must.
func TestSpendToken(t *testing.T) {
	now := newClock().now()
	s := token(once)
	for i, c := range []struct {
		node, key string
		refused   bool
	}{
		{"one", "11", false}, {"two", "22", true}, {"one", "11", false}, {"one", "22", true}, {"two", "11", true},
	} {
		err := SpendToken(s, c.node, c.key, now.Add(time.Duration(i)*time.Hour))
		var refusal Refusal
		if refused := errors.As(err, &refusal); refused != c.refused || !refused && err != nil {
			t.Errorf("%s with key %s: %v", c.node, c.key, err)
		}
	}
	used := ReadBootstrapToken(s).Used
	if used == nil || used.Node != "one" || used.Key != "11" || !used.At.Equal(now) {
		t.Errorf("used: %+v", used)
	}
	many := token()
	if err := SpendToken(many, "one", "11", now); err != nil || ReadBootstrapToken(many).Used != nil || len(many.Data) != len(token().Data) {
		t.Errorf("one that works often: %v, %v", err, many.Data)
	}
}

// csr is a request that somebody made.
func csr(name, user string) *certificatesv1.CertificateSigningRequest {
	return &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       certificatesv1.CertificateSigningRequestSpec{Username: user},
	}
}

// A bootstrapper may ask for a certificate, wait for it, and read the cluster's
// settings; nothing else.
func TestBootstrappers(t *testing.T) {
	now := newClock().now()
	s := stateWith(t, csr("mine", "system:bootstrap:abcdef"), csr("servers", ServerBootstrapper), csr("used", "system:bootstrap:fedcba"),
		token(), BootstrapToken{ID: "ghijkl", Once: true}.Object(), token(func(s *corev1.Secret) {
			s.Name = TokenSecretPrefix + "fedcba"
			s.Data["token-id"] = []byte("fedcba")
		}, usedBy("one", "11", now)), token(func(s *corev1.Secret) {
			s.Name = TokenSecretPrefix + "fedcbb"
		}, usedBy("one", "11", now)))
	as := func(id string) User {
		return User{Name: BootstrapUser + id, Groups: []string{GroupBootstrappers, GroupAuthenticated}}
	}
	csrs := func(verb, name string) Attributes {
		return Attributes{Verb: verb, Group: "certificates.k8s.io", Version: "v1", Resource: "certificatesigningrequests", Name: name}
	}
	settings := func(verb, namespace, name string) Attributes {
		return Attributes{Verb: verb, Version: "v1", Resource: "configmaps", Namespace: namespace, Name: name}
	}
	selecting := func(a Attributes, selector string) Attributes { a.FieldSelector = selector; return a }
	sub := func(a Attributes, subresource string) Attributes { a.Subresource = subresource; return a }
	for _, c := range []struct {
		id   string
		a    Attributes
		want bool
	}{
		{"abcdef", csrs("create", ""), true},
		{"server", csrs("create", ""), true},
		{"ghijkl", csrs("create", ""), true},  // once, and not used
		{"fedcba", csrs("create", ""), false}, // once, used, and there is a request
		{"fedcbb", csrs("create", ""), true},  // once, used, and its request is gone
		{"abcdef", csrs("get", "mine"), true},
		{"abcdef", csrs("watch", "mine"), true},
		{"fedcba", csrs("get", "used"), true},
		{"abcdef", selecting(csrs("list", ""), "metadata.name=mine"), true},
		{"abcdef", selecting(csrs("watch", ""), "metadata.name=mine"), true},
		{"abcdef", csrs("get", "absent"), true},
		{"abcdef", csrs("watch", "absent"), false},
		{"abcdef", csrs("get", "servers"), false},
		{"server", csrs("get", "servers"), true},
		{"server", csrs("get", "mine"), false},
		{"abcdef", csrs("list", ""), false},
		{"abcdef", csrs("watch", ""), false},
		{"abcdef", selecting(csrs("list", ""), "metadata.name!=other"), false},
		{"abcdef", csrs("update", "mine"), false},
		{"abcdef", csrs("patch", "mine"), false},
		{"abcdef", csrs("delete", "mine"), false},
		{"abcdef", csrs("deletecollection", "mine"), false},
		{"abcdef", sub(csrs("update", "mine"), "approval"), false},
		{"abcdef", sub(csrs("update", "mine"), "status"), false},
		{"abcdef", sub(csrs("create", ""), "approval"), false},
		{"abcdef", settings("get", "kube-system", "skiff-cluster"), true},
		{"server", settings("watch", "kube-system", "skiff-cluster"), true},
		{"abcdef", selecting(settings("list", "kube-system", ""), "metadata.name=skiff-cluster"), true},
		{"abcdef", settings("get", "default", "skiff-cluster"), false},
		{"abcdef", settings("get", "kube-system", "kube-root-ca.crt"), false},
		{"abcdef", settings("list", "kube-system", ""), false},
		{"abcdef", settings("update", "kube-system", "skiff-cluster"), false},
		{"abcdef", Attributes{Verb: "get", Version: "v1", Resource: "secrets", Namespace: "kube-system", Name: "bootstrap-token-abcdef"}, false},
		{"abcdef", Attributes{Verb: "get", Version: "v1", Resource: "nodes", Name: "box"}, false},
		{"abcdef", Attributes{Verb: "create", Version: "v1", Resource: "nodes"}, false},
		{"abcdef", Attributes{Verb: "get", Path: "/metrics"}, false},
	} {
		c.a.User = as(c.id)
		if d, reason, err := NewAuthorizer(s).Authorize(context.Background(), c.a); (d == Allow) != c.want || err != nil {
			t.Errorf("%s %s %s/%s %s: decision %d, %q, %v", c.id, c.a.Verb, c.a.Resource, c.a.Subresource, c.a.Name, d, reason, err)
		}
	}
	stranger := csrs("create", "")
	stranger.User = User{Name: BootstrapUser + "abcdef", Groups: []string{GroupAuthenticated}}
	if d, _, _ := NewAuthorizer(s).Authorize(context.Background(), stranger); d == Allow {
		t.Error("without the group, too")
	}
	used := csrs("create", "")
	used.User = as("fedcba")
	if _, reason, _ := NewBootstrappers(s).Authorize(context.Background(), used); !strings.Contains(reason, "node one joined with it") {
		t.Errorf("the reason is %q", reason)
	}
}
