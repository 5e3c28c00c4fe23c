// Package tokencleaner ends bootstrap tokens: it deletes those that have
// expired, spends those that work once, and remembers for a while what became
// of one that has gone.
//
// New returns the controller; Spend is for whoever approves a machine's
// certificate request, before it does. The invariant: with a token that works
// once no two machines join, whichever way they race and wherever the server is
// cut off. It never makes a token.
package tokencleaner

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/auth"
	"github.com/skiff-sh/skiff/internal/controller"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/pki"
	"github.com/skiff-sh/skiff/internal/state"
)

const name = "token-cleaner"

// key is a bootstrap token's Secret by its name, and where it has gone what to
// remember of it.
type key struct {
	Name string
	id   string
	gone auth.GoneToken
}

// New returns the controller.
func New(env controller.Environment) controller.Runner {
	c := cleaner{env}
	return controller.Controller[key]{
		Name:      name + "-controller",
		Workers:   1,
		Sources:   []controller.Source[key]{{Kind: kind.Secret, Keys: keys}},
		Reconcile: c.reconcile,
	}
}

// keys returns the key of a bootstrap token.
func keys(e state.Event) []key {
	secret := e.Object.(*corev1.Secret)
	if secret.Type != corev1.SecretTypeBootstrapToken || secret.Namespace != metav1.NamespaceSystem {
		return nil
	}
	k := key{Name: secret.Name}
	if e.Type == state.Deleted {
		t := auth.ReadBootstrapToken(secret)
		if !pki.ValidTokenID(t.ID) {
			return nil
		}
		k.id, k.gone = t.ID, t.Gone(time.Now())
	}
	return []key{k}
}

type cleaner struct{ env controller.Environment }

func (c cleaner) reconcile(ctx context.Context, k key) (time.Duration, error) {
	if k.id != "" {
		return 0, c.remember(ctx, k)
	}
	secret, ok := state.Get[*corev1.Secret](c.env.State, kind.Secret, metav1.NamespaceSystem, k.Name)
	if !ok || secret.Type != corev1.SecretTypeBootstrapToken {
		return 0, nil
	}
	left, expired := auth.ReadBootstrapToken(secret).Left(time.Now())
	if !expired {
		return left, nil
	}
	_, _, err := c.env.API.Delete(ctx, request(k.Name), metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(secret.UID))})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		err = nil // it has gone, or another of the name has come
	}
	return 0, err
}

func request(secret string) api.Request {
	return api.Request{
		User: controller.User(name), FieldManager: controller.FieldManager,
		Kind: kind.Secret, Namespace: metav1.NamespaceSystem, Name: secret,
	}
}

// How many tokens that have gone are remembered, and how long.
const (
	mostRemembered  = 100
	longestRemember = 30 * 24 * time.Hour
)

// remember adds a token that has gone to those that are remembered.
func (c cleaner) remember(ctx context.Context, k key) error {
	entry, err := json.Marshal(k.gone)
	if err != nil {
		return err
	}
	if _, ok := c.env.State.Get(kind.Secret, metav1.NamespaceSystem, auth.GoneTokens); !ok {
		_, err = c.env.API.Create(ctx, request(""), &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: auth.GoneTokens},
			Data:       map[string][]byte{k.id: entry},
		})
		if controller.Terminating(err) {
			return nil
		}
		return err
	}
	_, err = c.env.API.Modify(ctx, request(auth.GoneTokens), func(obj kind.Object) error {
		secret := obj.(*corev1.Secret)
		if secret.Data == nil {
			secret.Data = map[string][]byte{}
		}
		secret.Data[k.id] = entry
		forget(secret.Data, time.Now())
		return nil
	})
	return err
}

// forget removes what went too long ago, and the oldest of what is too many.
func forget(entries map[string][]byte, now time.Time) {
	type old struct {
		id string
		at time.Time
	}
	var kept []old
	for id, entry := range entries {
		g, err := auth.ReadGoneToken(entry)
		if err != nil || now.Sub(g.At) > longestRemember {
			delete(entries, id)
			continue
		}
		kept = append(kept, old{id, g.At})
	}
	slices.SortFunc(kept, func(a, b old) int { return b.at.Compare(a.at) })
	for _, o := range kept[min(len(kept), mostRemembered):] {
		delete(entries, o.id)
	}
}

// Spend must have returned nil before a machine that asked as user for the
// certificate of a node is given it: if the user's token works once, the token
// is the machine's from then on, whose public key has this digest (hex SHA-256 of
// the SPKI). It may be asked again for the same machine, after a crash too. An
// auth.Refusal says why the machine must not have the certificate; any other
// error is to be tried again. Users without a bootstrap token pass.
func Spend(ctx context.Context, env controller.Environment, user, node, spki string) error {
	id, ok := strings.CutPrefix(user, auth.BootstrapUser)
	if !ok || user == auth.ServerBootstrapper {
		return nil
	}
	_, err := env.API.Modify(ctx, request(auth.TokenSecretPrefix+id), func(obj kind.Object) error {
		return auth.SpendToken(obj.(*corev1.Secret), node, spki, time.Now())
	})
	if apierrors.IsNotFound(err) {
		return auth.RefuseMissingToken(id)
	}
	return err
}
