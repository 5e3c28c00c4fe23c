package rest

import (
	"encoding/json"
	"errors"
	"net/http"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/auth"
)

// Why credentials are refused is in the log for debugging; who showed them is told
// only what gives nothing away.
func TestUnauthorized(t *testing.T) {
	secret := errors.New("the password is not that of the server's own token")
	for name, c := range map[string]struct {
		err  error
		told string
	}{
		"what nobody is told":      {secret, "Unauthorized"},
		"a refusal":                {auth.Refusal("bootstrap token abcdef expired"), "bootstrap token abcdef expired"},
		"a refusal beside another": {errors.Join(secret, auth.Refusal("bootstrap token abcdef expired")), "bootstrap token abcdef expired"},
	} {
		core, logged := observer.New(zap.DebugLevel)
		h := newTestHandler(Config{Authenticator: authenticator(func(*http.Request) (auth.User, bool, error) {
			return auth.User{}, false, c.err
		})})
		h.Log = zap.New(core)
		w := ask(h, "GET", "/api/v1/nodes")
		var status metav1.Status
		if err := json.Unmarshal(w.Body.Bytes(), &status); err != nil {
			t.Fatal(err)
		}
		if w.Code != http.StatusUnauthorized || status.Reason != metav1.StatusReasonUnauthorized || status.Message != c.told {
			t.Errorf("%s: %d %+v", name, w.Code, status)
		}
		entries := logged.All()
		if len(entries) != 1 || entries[0].Level != zap.DebugLevel || entries[0].ContextMap()["error"] != c.err.Error() {
			t.Errorf("%s: logged %v", name, entries)
		}
	}
}

// The cluster's authority is served as it is to whoever asks.
func TestCACerts(t *testing.T) {
	const pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
	h := newTestHandler(Config{CACerts: func() ([]byte, error) { return []byte(pem), nil }})
	if w := ask(h, "GET", "/cacerts"); w.Code != http.StatusOK || w.Body.String() != pem {
		t.Errorf("%d %q", w.Code, w.Body)
	}
	if w := ask(newTestHandler(Config{}), "GET", "/cacerts"); w.Code != http.StatusNotFound {
		t.Errorf("without an authority: %d", w.Code)
	}
}
