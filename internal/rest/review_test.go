package rest

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/auth"
)

// Who asks about a token learns for which of their audiences it is, not which
// they named.
func TestTokenReviewTellsAudiences(t *testing.T) {
	var wanted []string
	h := newTestHandler(Config{API: api.New(api.Config{}), Tokens: func(_ context.Context, _ string, audiences []string) (auth.User, []string, bool, error) {
		wanted = audiences
		return auth.User{Name: "app"}, []string{"vault"}, true, nil
	}})
	r := httptest.NewRequest("POST", "/apis/authentication.k8s.io/v1/tokenreviews", strings.NewReader(
		`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{"token":"t","audiences":["vault","other"]}}`))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var review authenticationv1.TokenReview
	if err := json.Unmarshal(w.Body.Bytes(), &review); err != nil {
		t.Fatal(w.Code, err)
	}
	if !slices.Equal(wanted, []string{"vault", "other"}) || !slices.Equal(review.Status.Audiences, []string{"vault"}) {
		t.Errorf("asked about %q, answered %q", wanted, review.Status.Audiences)
	}
}
