package auth

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

func newTokens(t testing.TB, s *state.State, c *clock, change ...func(*TokensConfig)) *Tokens {
	t.Helper()
	config := TokensConfig{Key: newKey(t), State: s, Now: c.now}
	for _, f := range change {
		f(&config)
	}
	tokens, err := NewTokens(config)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

func issue(t *testing.T, tokens *Tokens, account *corev1.ServiceAccount, bound kind.Object, audiences ...string) string {
	t.Helper()
	token, err := tokens.Issue(account, bound, audiences, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return token.Value
}

func TestTokenClaims(t *testing.T) {
	clock := newClock()
	s := stateWith(t, account("app"), node("n1"))
	token, err := newTokens(t, s, clock).Issue(account("app"), pod("p", "n1"), nil, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if !token.Expires.Equal(clock.now().Add(time.Hour)) || !cmp.Equal(token.Audiences, []string{Issuer}) {
		t.Errorf("%+v", token)
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token.Value, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(payload, &got); err != nil {
		t.Fatal(err)
	}
	if id, _ := got["jti"].(string); len(id) != 36 {
		t.Errorf("jti %q is not a UUID", id)
	}
	delete(got, "jti")
	at := float64(clock.now().Unix())
	want := map[string]any{
		"iss": "https://kubernetes.default.svc.cluster.local",
		"sub": "system:serviceaccount:ns:app",
		"aud": []any{"https://kubernetes.default.svc.cluster.local"},
		"iat": at, "nbf": at, "exp": at + 3600,
		"kubernetes.io": map[string]any{
			"namespace":      "ns",
			"serviceaccount": map[string]any{"name": "app", "uid": "uid-app"},
			"pod":            map[string]any{"name": "p", "uid": "uid-p"},
			"node":           map[string]any{"name": "n1", "uid": "uid-n1"},
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestTokenUser(t *testing.T) {
	s := stateWith(t, account("app"), node("n1"), pod("p", "n1"))
	tokens := newTokens(t, s, newClock())
	r := bearing(issue(t, tokens, account("app"), pod("p", "n1")))
	for range 2 { // the second time from the cache
		user, ok, err := tokens.Authenticate(r.Clone(t.Context()))
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		id := user.Extra["authentication.kubernetes.io/credential-id"]
		if len(id) != 1 || !strings.HasPrefix(id[0], "JTI=") {
			t.Errorf("credential-id %q", id)
		}
		delete(user.Extra, "authentication.kubernetes.io/credential-id")
		want := User{
			Name:   "system:serviceaccount:ns:app",
			UID:    "uid-app",
			Groups: []string{"system:serviceaccounts", "system:serviceaccounts:ns"},
			Extra: map[string][]string{
				"authentication.kubernetes.io/pod-name":  {"p"},
				"authentication.kubernetes.io/pod-uid":   {"uid-p"},
				"authentication.kubernetes.io/node-name": {"n1"},
				"authentication.kubernetes.io/node-uid":  {"uid-n1"},
			},
		}
		if d := cmp.Diff(want, user); d != "" {
			t.Error(d)
		}
	}
	if _, _, err := tokens.Authenticate(r); err != nil || r.Header.Get("Authorization") != "" {
		t.Error("the token was left in the request", err)
	}
}

// TestTokenOfWhatIsGone takes the objects behind a good token away, one by one.
func TestTokenOfWhatIsGone(t *testing.T) {
	another := func(obj kind.Object) kind.Object {
		obj.SetUID(types.UID("other"))
		return obj
	}
	deleted := func(obj kind.Object, clock *clock, ago time.Duration) kind.Object {
		at := metav1.NewTime(clock.now().Add(-ago))
		obj.SetDeletionTimestamp(&at)
		return obj
	}
	secret := &corev1.Secret{ObjectMeta: meta("s")}
	cases := []struct {
		name   string
		bound  kind.Object
		change func(*testing.T, *state.State, *clock)
		want   string
	}{
		{"nothing happens", pod("p", "n1"), func(*testing.T, *state.State, *clock) {}, ""},
		{"account", nil, func(t *testing.T, s *state.State, _ *clock) { remove(t, s, account("app")) }, `serviceaccounts "app" not found`},
		{"another account", nil, func(t *testing.T, s *state.State, _ *clock) { put(t, s, another(account("app"))) }, "service account UID (other) does not match claim (uid-app)"},
		{"account being deleted", nil, func(t *testing.T, s *state.State, c *clock) { put(t, s, deleted(account("app"), c, 2*time.Minute)) }, "service account ns/app has been deleted"},
		{"account just deleted", nil, func(t *testing.T, s *state.State, c *clock) { put(t, s, deleted(account("app"), c, time.Second)) }, ""},
		{"pod", pod("p", "n1"), func(t *testing.T, s *state.State, _ *clock) { remove(t, s, pod("p", "n1")) }, "service account token has been invalidated"},
		{"another pod", pod("p", "n1"), func(t *testing.T, s *state.State, _ *clock) { put(t, s, another(pod("p", "n1"))) }, "pod UID (other) does not match service account pod ref claim (uid-p)"},
		{"pod being deleted", pod("p", "n1"), func(t *testing.T, s *state.State, c *clock) { put(t, s, deleted(pod("p", "n1"), c, 2*time.Minute)) }, "service account token has been invalidated"},
		{"pod that has time to end", pod("p", "n1"), func(t *testing.T, s *state.State, c *clock) { put(t, s, deleted(pod("p", "n1"), c, -time.Minute)) }, ""},
		{"node of a pod", pod("p", "n1"), func(t *testing.T, s *state.State, _ *clock) { remove(t, s, node("n1")) }, ""},
		{"secret", secret, func(t *testing.T, s *state.State, _ *clock) { remove(t, s, secret) }, "service account token has been invalidated"},
		{"node", node("n1"), func(t *testing.T, s *state.State, _ *clock) { remove(t, s, node("n1")) }, "service account token has been invalidated"},
		{"another node", node("n1"), func(t *testing.T, s *state.State, _ *clock) { put(t, s, another(node("n1"))) }, "node UID (other) does not match service account node ref claim (uid-n1)"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			clock := newClock()
			s := stateWith(t, account("app"), node("n1"), pod("p", "n1"), secret.DeepCopy())
			tokens := newTokens(t, s, clock)
			token := issue(t, tokens, account("app"), c.bound)
			if _, ok, err := tokens.User(t.Context(), token); !ok || err != nil {
				t.Fatal("the fresh token is not good:", err)
			}
			c.change(t, s, clock)
			_, ok, err := tokens.User(t.Context(), token)
			if c.want == "" {
				if !ok || err != nil {
					t.Error(ok, err)
				}
			} else if ok || err == nil || err.Error() != c.want {
				t.Errorf("got %v %v, want %s", ok, err, c.want)
			}
		})
	}
}

// A token for one is not to be taken for a token for another.
func TestTokenReviewIsForAudiences(t *testing.T) {
	tokens := newTokens(t, stateWith(t, account("app")), newClock())
	for _, c := range []struct {
		issued, wanted, good []string
		refused              string
	}{
		{nil, nil, []string{Issuer}, ""},
		{nil, []string{"vault"}, nil, `token audiences ["` + Issuer + `"] is invalid for the target audiences ["vault"]`},
		{[]string{"vault", "other"}, []string{"vault", "third"}, []string{"vault"}, ""},
		{[]string{"vault"}, nil, nil, `token audiences ["vault"] is invalid for the target audiences ["` + Issuer + `"]`},
	} {
		_, good, ok, err := tokens.Review(t.Context(), issue(t, tokens, account("app"), nil, c.issued...), c.wanted)
		if !slices.Equal(good, c.good) || ok != (c.refused == "") || !ok && (err == nil || err.Error() != c.refused) {
			t.Errorf("issued for %q, reviewed for %q: %q %v %v", c.issued, c.wanted, good, ok, err)
		}
	}
}

// Programs that never read their token again go on for a year with a mounted
// one, while nodes renew it after an hour.
func TestMountedTokensLast(t *testing.T) {
	clock := newClock()
	tokens := newTokens(t, stateWith(t, account("app"), pod("p", "n1")), clock)
	for _, c := range []struct {
		name      string
		bound     kind.Object
		audiences []string
		lifetime  time.Duration
		lasts     bool
	}{
		{"mounted", pod("p", "n1"), nil, 3607 * time.Second, true},
		{"of no pod", nil, nil, 3607 * time.Second, false},
		{"for an hour", pod("p", "n1"), nil, time.Hour, false},
		{"for somebody else too", pod("p", "n1"), []string{Issuer, "vault"}, 3607 * time.Second, false},
	} {
		clock.time = newClock().now()
		token, err := tokens.Issue(account("app"), c.bound, c.audiences, c.lifetime)
		if err != nil || !token.Expires.Equal(clock.now().Add(c.lifetime)) {
			t.Errorf("%s: renewed at %v, %v", c.name, token.Expires, err)
		}
		clock.time = clock.now().Add(364 * 24 * time.Hour)
		if _, ok, _ := tokens.User(t.Context(), token.Value); ok != c.lasts {
			t.Errorf("%s: accepted after a year: %v", c.name, ok)
		}
	}
}

func TestTokenTimes(t *testing.T) {
	clock := newClock()
	tokens := newTokens(t, stateWith(t, account("app")), clock)
	token := issue(t, tokens, account("app"), nil)
	for _, c := range []struct {
		after time.Duration
		good  bool
	}{
		{0, true},
		{time.Hour + 59*time.Second, true}, // clocks differ
		{time.Hour + 61*time.Second, false},
		{-20 * 365 * 24 * time.Hour, true}, // a machine that forgot the time
	} {
		clock.time = newClock().now().Add(c.after)
		if _, ok, err := tokens.User(t.Context(), token); ok != c.good {
			t.Errorf("after %s: %v %v", c.after, ok, err)
		}
	}
}

// TestForgedTokens shows tokens that say the right things and are not ours.
func TestForgedTokens(t *testing.T) {
	clock, key := newClock(), newKey(t)
	s := stateWith(t, account("app"))
	tokens := newTokens(t, s, clock, func(c *TokensConfig) { c.Key = key })
	good := issue(t, tokens, account("app"), nil)
	parts := strings.Split(good, ".")
	encode := base64.RawURLEncoding.EncodeToString

	payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
	changed := encode([]byte(strings.ReplaceAll(string(payload), `"app"`, `"admin"`)))
	secret, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: []byte("0123456789abcdef0123456789abcdef")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	symmetric, err := jwt.Signed(secret).Claims(map[string]any{"iss": Issuer, "sub": "system:serviceaccount:ns:app"}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{
		"another key":      issue(t, newTokens(t, s, clock), account("app"), nil),
		"another issuer":   issue(t, newTokens(t, s, clock, func(c *TokensConfig) { c.Key, c.Issuer = key, "https://example.com" }), account("app"), nil, Issuer),
		"another audience": issue(t, tokens, account("app"), nil, "vault"),
		"changed claims":   parts[0] + "." + changed + "." + parts[2],
		"no algorithm":     encode([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".",
		"symmetric":        symmetric,
		"no signature":     parts[0] + "." + parts[1] + ".",
		"not a token":      "abc",
	} {
		if user, ok, err := tokens.Authenticate(bearing(token)); ok || err == nil {
			t.Errorf("%s: believed to be %+v", name, user)
		}
	}
	if _, ok, err := tokens.Authenticate(bearing(good)); !ok {
		t.Error("the good one is not believed:", err)
	}
	r := bearing("x")
	r.Header.Set("Authorization", "Basic YTpi")
	if _, ok, err := tokens.Authenticate(r); ok || err != nil {
		t.Error("not a bearer token:", ok, err)
	}
}

// TestTokenRotation verifies a token of the key before, and RSA keys.
func TestTokenRotation(t *testing.T) {
	clock, s := newClock(), stateWith(t, account("app"))
	old, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	before := newTokens(t, s, clock, func(c *TokensConfig) { c.Key = old })
	token := issue(t, before, account("app"), nil)
	after := newTokens(t, s, clock, func(c *TokensConfig) { c.Keys = []crypto.PublicKey{old.Public()} })
	if _, ok, err := after.User(t.Context(), token); !ok || err != nil {
		t.Error(ok, err)
	}

	jwks, err := after.JWKS()
	if err != nil {
		t.Fatal(err)
	}
	var set struct {
		Keys []map[string]string `json:"keys"`
	}
	if err := json.Unmarshal(jwks, &set); err != nil {
		t.Fatal(err)
	}
	if len(set.Keys) != 2 {
		t.Fatalf("keys: %s", jwks)
	}
	for i, want := range []map[string]string{{"use": "sig", "kty": "EC", "alg": "ES256", "crv": "P-256"}, {"use": "sig", "kty": "RSA", "alg": "RS256", "e": "AQAB"}} {
		for name, value := range want {
			if set.Keys[i][name] != value {
				t.Errorf("key %d: %s is %q, want %q", i, name, set.Keys[i][name], value)
			}
		}
		if set.Keys[i]["d"] != "" {
			t.Error("a private key is published")
		}
	}
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil || parsed.Headers[0].KeyID != set.Keys[1]["kid"] {
		t.Errorf("kid %q is not in the key set: %v", parsed.Headers[0].KeyID, err)
	}

	configuration, err := after.OpenIDConfiguration("192.0.2.1:6443")
	if err != nil {
		t.Fatal(err)
	}
	want := `{"issuer":"https://kubernetes.default.svc.cluster.local","jwks_uri":"https://192.0.2.1:6443/openid/v1/jwks",` +
		`"response_types_supported":["id_token"],"subject_types_supported":["public"],"id_token_signing_alg_values_supported":["ES256","RS256"]}`
	if string(configuration) != want {
		t.Errorf("got  %s\nwant %s", configuration, want)
	}
}

func TestIssueRefuses(t *testing.T) {
	tokens := newTokens(t, stateWith(t), newClock())
	if _, err := tokens.Issue(account("app"), &corev1.ConfigMap{}, nil, time.Hour); err == nil {
		t.Error("bound to a ConfigMap")
	}
}
