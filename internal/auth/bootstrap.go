package auth

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/pki"
	"github.com/skiff-sh/skiff/internal/state"
)

// The users that join machines. The name ends in the ID of their bootstrap
// token, or is ServerBootstrapper for the server's own.
const (
	BootstrapUser      = "system:bootstrap:"
	ServerBootstrapper = BootstrapUser + "server"
	GroupBootstrappers = "system:bootstrappers"
)

// Bootstrap authenticates machines that want to join, by one of two tokens: a
// bootstrap token as a bearer token, for which there is a Secret as upstream has
// it (bootstrap-token-ID in kube-system), or the server's own by HTTP's basic
// authentication. pki.Token has both forms.
type Bootstrap struct {
	state *state.State
	own   pki.Token
	now   func() time.Time
}

// NewBootstrap returns the authenticator; own is the server's own token.
func NewBootstrap(s *state.State, own pki.Token, now func() time.Time) *Bootstrap {
	return &Bootstrap{state: s, own: own, now: now}
}

// Authenticate tells whose token it is, and takes it out of the request. Who has
// a whole bootstrap token that does not do any more is told why in a Refusal;
// nobody else learns which tokens there are.
func (b *Bootstrap) Authenticate(r *http.Request) (User, bool, error) {
	var user User
	if name, password, ok := r.BasicAuth(); ok && name == pki.ServerUser {
		if !b.own.Opens(name, password) {
			return User{}, false, errors.New("the password is not that of the server's own token")
		}
		user = User{Name: ServerBootstrapper, Groups: []string{GroupBootstrappers}}
	} else if t, ok := pki.ParseBearer(bearer(r)); ok {
		var err error
		if user, err = b.user(t); err != nil {
			return User{}, false, err
		}
	} else {
		return User{}, false, nil
	}
	r.Header.Del("Authorization")
	return user, true, nil
}

// user returns whom a bootstrap token stands for.
func (b *Bootstrap) user(t pki.Token) (User, error) {
	name := TokenSecretPrefix + t.ID
	secret, ok := state.Get[*corev1.Secret](b.state, kind.Secret, metav1.NamespaceSystem, name)
	if !ok {
		var gone map[string][]byte
		if kept, ok := state.Get[*corev1.Secret](b.state, kind.Secret, metav1.NamespaceSystem, GoneTokens); ok {
			gone = kept.Data
		}
		return User{}, refuseGone(t, gone)
	}
	have := ReadBootstrapToken(secret)
	switch {
	case secret.Type != corev1.SecretTypeBootstrapToken:
		return User{}, fmt.Errorf("secret %s has the type %q, not %q", name, secret.Type, corev1.SecretTypeBootstrapToken)
	case have.ID != t.ID:
		return User{}, fmt.Errorf("secret %s is of another token, by its %s", name, tokenID)
	case BootstrapUser+t.ID == ServerBootstrapper:
		return User{}, fmt.Errorf("secret %s: no bootstrap token can have this ID, it names the server's own", name)
	case subtle.ConstantTimeCompare([]byte(have.Secret), []byte(t.Secret)) != 1:
		return User{}, fmt.Errorf("%s has another secret", t)
	case secret.DeletionTimestamp != nil:
		return User{}, refuseToken(t.ID, "is being removed")
	}
	if why := have.wrong(b.now()); why != "" {
		return User{}, refuseToken(t.ID, why)
	}
	groups, err := have.groups()
	return User{Name: BootstrapUser + t.ID, Groups: groups}, err
}
