package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/auth"
	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/local"
	"github.com/skiff-sh/skiff/internal/pki"
	"github.com/skiff-sh/skiff/internal/state"
)

// TokenWish is what a person wants of a new bootstrap token.
type TokenWish struct {
	TTL         time.Duration `json:"ttl"`  // 0: it never expires
	Once        bool          `json:"once"` // it lets one machine join
	Description string        `json:"description"`
}

// NewToken is a token that was just made, and where to join with it.
type NewToken struct {
	Token   string     `json:"token"` // all of it
	ID      string     `json:"id"`
	Expires *time.Time `json:"expires,omitempty"`
	Server  string     `json:"server"`
}

// Token is what may be shown of a bootstrap token.
type Token struct {
	ID          string     `json:"id"`
	Expires     *time.Time `json:"expires,omitempty"` // nil: never
	Usages      []string   `json:"usages,omitempty"`
	Once        bool       `json:"once"`
	UsedBy      string     `json:"usedBy,omitempty"` // a node's name, where it worked once
	UsedAt      *time.Time `json:"usedAt,omitempty"`
	Description string     `json:"description,omitempty"`
	Groups      string     `json:"groups,omitempty"`
}

// serveTokens answers what skiff token asks.
func (s *server) serveTokens(mux *http.ServeMux) {
	answer := func(w http.ResponseWriter, value any, err error) {
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		if err := json.NewEncoder(w).Encode(value); err != nil {
			s.log.Warn("token not told", zap.Error(err))
		}
	}
	mux.HandleFunc("POST /tokens", func(w http.ResponseWriter, r *http.Request) {
		var wish TokenWish
		if err := json.NewDecoder(r.Body).Decode(&wish); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		token, err := s.makeToken(r.Context(), wish)
		answer(w, token, err)
	})
	mux.HandleFunc("GET /tokens", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.tokens(), nil) })
	mux.HandleFunc("DELETE /tokens/{id}", func(w http.ResponseWriter, r *http.Request) {
		answer(w, struct{}{}, s.removeToken(r.Context(), r.PathValue("id")))
	})
}

func toToken(id string) api.Request {
	return api.Request{
		User:         auth.User{Name: "system:admin", Groups: []string{auth.GroupMasters, auth.GroupAuthenticated}},
		FieldManager: "skiff", Kind: kind.Secret, Namespace: metav1.NamespaceSystem, Name: auth.TokenSecretPrefix + id,
	}
}

func (s *server) makeToken(ctx context.Context, wish TokenWish) (NewToken, error) {
	token := pki.NewBootstrapToken(s.keys.authority.CertificatePEM())
	made := NewToken{Token: token.Text(), ID: token.ID, Server: s.apiURLs()[0]}
	have := auth.BootstrapToken{
		ID: token.ID, Secret: token.Secret, Description: wish.Description, Once: wish.Once, Usages: []string{"authentication"},
	}
	if wish.TTL > 0 {
		// The clock of now, wrong as it may be, is the one that it is judged by.
		end := time.Now().Add(wish.TTL).UTC().Truncate(time.Second)
		made.Expires, have.Expiration = &end, end.Format(time.RFC3339)
	}
	_, err := s.env.API.Create(ctx, toToken(token.ID), have.Object())
	return made, err
}

// tokens returns the bootstrap tokens by their IDs.
func (s *server) tokens() []Token {
	list := []Token{} // none is a list, too
	for _, secret := range state.List[*corev1.Secret](s.state, kind.Secret, state.Interest{Namespace: metav1.NamespaceSystem}) {
		if secret.Type != corev1.SecretTypeBootstrapToken {
			continue
		}
		have := auth.ReadBootstrapToken(secret)
		t := Token{ID: have.ID, Usages: have.Usages, Once: have.Once, Description: have.Description, Groups: have.Groups}
		if end, err := time.Parse(time.RFC3339, have.Expiration); err == nil {
			t.Expires = &end
		}
		if have.Used != nil {
			t.UsedBy, t.UsedAt = have.Used.Node, &have.Used.At
		}
		list = append(list, t)
	}
	return list
}

func (s *server) removeToken(ctx context.Context, id string) error {
	secret, ok := state.Get[*corev1.Secret](s.state, kind.Secret, metav1.NamespaceSystem, auth.TokenSecretPrefix+id)
	if !ok || secret.Type != corev1.SecretTypeBootstrapToken {
		return unknownToken(id)
	}
	_, _, err := s.env.API.Delete(ctx, toToken(id), metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return unknownToken(id)
	}
	return err
}

func unknownToken(id string) error {
	return fmt.Errorf("there is no bootstrap token %q: see skiff token ls", id)
}

// CreateToken has the server of a data directory make a bootstrap token.
func CreateToken(ctx context.Context, host config.Host, wish TokenWish) (made NewToken, err error) {
	body, err := json.Marshal(wish)
	if err != nil {
		return made, err
	}
	err = askTokens(ctx, host, http.MethodPost, "/tokens", body, &made)
	return made, err
}

// ListTokens asks the server of a data directory for its bootstrap tokens.
func ListTokens(ctx context.Context, host config.Host) (list []Token, err error) {
	err = askTokens(ctx, host, http.MethodGet, "/tokens", nil, &list)
	return list, err
}

// RemoveToken has the server of a data directory remove a bootstrap token.
func RemoveToken(ctx context.Context, host config.Host, id string) error {
	return askTokens(ctx, host, http.MethodDelete, "/tokens/"+url.PathEscape(id), nil, &struct{}{})
}

// askTokens asks the running server, since nobody else may write.
func askTokens(ctx context.Context, host config.Host, method, path string, body []byte, answer any) error {
	response, err := local.NewClient(socketPath(host)).Ask(ctx, method, path, bytes.NewReader(body))
	switch {
	case errors.Is(err, local.ErrNobody):
		return fmt.Errorf("no server runs on %s: start it, or name its data directory with --data-dir", host.DataDir)
	case errors.Is(err, local.ErrForbidden):
		return errors.New("the cluster's tokens belong to root: run it with sudo")
	case err != nil:
		return err
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	return nil
}
