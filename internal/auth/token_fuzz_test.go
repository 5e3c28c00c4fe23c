package auth

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/pki"
)

// Nobody gets in with what was not issued: no text is anybody's token but those that
// are.
func FuzzAuthorization(f *testing.F) {
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "n", UID: "u"}}
	now := newClock()
	s := stateWith(f, account)
	tokens := newTokens(f, s, now)
	good, err := tokens.Issue(account, nil, nil, time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	union := Union{NewBootstrap(s, pki.Token{Password: "password"}, now.now), tokens}
	head, rest, _ := strings.Cut(good.Value, ".")
	for _, seed := range []string{"", "Bearer", "Bearer " + good.Value, "bearer  " + good.Value, "Bearer " + head + "..", "Bearer " + head + "." + rest[:len(rest)-2], "Bearer abcdef.0123456789abcdef",
		"Basic c2VydmVyOnBhc3N3b3Jk", "Basic c2VydmVyOg==", "Basic !", "Bearer eyJhbGciOiJub25lIn0.e30.", "Bearer a.b.c", "Bearer a.b.c.d.e", "Bearer server:password", "Bearer K10::server:password"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Authorization", header)
		user, ok, err := union.Authenticate(r)
		known := strings.Contains(header, good.Value) || strings.Contains(header, "password") || strings.HasPrefix(strings.ToLower(strings.TrimSpace(header)), "basic")
		if ok && (err != nil || !known) {
			t.Errorf("%q is %+v, %v", header, user, err)
		}
	})
}
