package auth

import (
	"errors"
	"net/http"
	"strings"
)

// errToken is what a client is told of a token that nobody recognizes.
var errToken = errors.New("invalid bearer token")

// Authenticate tells whose the request's bearer token is, and takes the token
// out of the request: nobody behind the API server needs to see it.
func (t *Tokens) Authenticate(r *http.Request) (User, bool, error) {
	token := bearer(r)
	if token == "" {
		return User{}, false, nil
	}
	user, ok, err := t.User(r.Context(), token)
	if err != nil {
		return User{}, false, err
	}
	if !ok {
		return User{}, false, errToken
	}
	r.Header.Del("Authorization")
	return user, true, nil
}

// bearer returns a request's bearer token, "" if it has none.
func bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(strings.TrimSpace(r.Header.Get("Authorization")), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	token, _, _ = strings.Cut(token, " ")
	return token
}
