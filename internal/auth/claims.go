package auth

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

// claims is what a token says.
type claims struct {
	jwt.Claims
	// Audience hides the one of jwt.Claims, which writes a single audience as a
	// text; upstream's tokens always have a list.
	Audience   []string         `json:"aud,omitempty"`
	Kubernetes kubernetesClaims `json:"kubernetes.io,omitempty"`
}

type kubernetesClaims struct {
	Namespace string           `json:"namespace,omitempty"`
	Node      *reference       `json:"node,omitempty"`
	Pod       *reference       `json:"pod,omitempty"`
	Secret    *reference       `json:"secret,omitempty"`
	Account   reference        `json:"serviceaccount,omitempty"`
	WarnAfter *jwt.NumericDate `json:"warnafter,omitempty"`
}

type reference struct {
	Name string `json:"name,omitempty"`
	UID  string `json:"uid,omitempty"`
}

// leeway is how long after its end a token, or after its deletion an object, is
// still good: clocks differ.
const leeway = jwt.DefaultLeeway

// read verifies a token's signature. ok is false for what is not from this
// issuer, without looking at its signature.
func (t *Tokens) read(token string) (_ *claims, ok bool, err error) {
	sum := sha256.Sum256([]byte(token))
	if c, ok := t.known.get(sum); ok {
		return c, true, nil
	}
	if strings.Count(token, ".") != 2 {
		return nil, false, nil
	}
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.ES384, jose.ES512})
	if err != nil {
		return nil, false, nil
	}
	var said jwt.Claims
	if err := parsed.UnsafeClaimsWithoutVerification(&said); err != nil || said.Issuer != t.Issuer {
		return nil, false, nil
	}
	id := parsed.Headers[0].KeyID
	err = errors.New("invalid signature, no keys found")
	for _, key := range t.keys {
		if id != "" && id != key.KeyID {
			continue
		}
		c := &claims{}
		if err = parsed.Claims(key.Key, c); err == nil {
			t.known.put(sum, c)
			return c, true, nil
		}
	}
	return nil, true, err
}

// check tells whether the token is still good, now and for one of the
// audiences, and for which of them. Its beginning is not looked at: it is this
// cluster's own token, and a machine without a battery for its clock may well
// find itself before it.
func (t *Tokens) check(c *claims, audiences []string) (good []string, err error) {
	now := t.Now()
	if c.Expiry == nil || now.Add(-leeway).After(c.Expiry.Time()) {
		return nil, errors.New("service account token has expired")
	}
	for _, a := range c.Audience {
		if slices.Contains(audiences, a) {
			good = append(good, a)
		}
	}
	if len(good) == 0 {
		return nil, fmt.Errorf("token audiences %q is invalid for the target audiences %q", c.Audience, audiences)
	}
	return good, t.checkObjects(&c.Kubernetes, now.Add(-leeway))
}

// checkObjects tells whether the account and what the token is bound to exist,
// and are those of back then. The Node of a token bound to a Pod is only said.
func (t *Tokens) checkObjects(c *kubernetesClaims, deleted time.Time) error {
	account, ok := state.Get[*corev1.ServiceAccount](t.State, kind.ServiceAccount, c.Namespace, c.Account.Name)
	switch {
	case !ok:
		return fmt.Errorf("serviceaccounts %q not found", c.Account.Name)
	case gone(account, deleted):
		return fmt.Errorf("service account %s/%s has been deleted", c.Namespace, c.Account.Name)
	case string(account.UID) != c.Account.UID:
		return fmt.Errorf("service account UID (%s) does not match claim (%s)", account.UID, c.Account.UID)
	}
	for _, b := range []struct {
		kind      *kind.Kind
		namespace string
		reference *reference
	}{
		{kind.Secret, c.Namespace, c.Secret},
		{kind.Pod, c.Namespace, c.Pod},
		{kind.Node, "", c.boundNode()},
	} {
		if b.reference == nil {
			continue
		}
		obj, ok := t.State.Get(b.kind, b.namespace, b.reference.Name)
		if !ok || gone(obj, deleted) {
			return errors.New("service account token has been invalidated")
		}
		if string(obj.GetUID()) != b.reference.UID {
			return fmt.Errorf("%s UID (%s) does not match service account %s ref claim (%s)",
				b.kind.Singular, obj.GetUID(), b.kind.Singular, b.reference.UID)
		}
	}
	return nil
}

func (c *kubernetesClaims) boundNode() *reference {
	if c.Pod != nil {
		return nil
	}
	return c.Node
}

func gone(obj kind.Object, before time.Time) bool {
	at := obj.GetDeletionTimestamp()
	return at != nil && at.Time.Before(before)
}

func accountUser(namespace, name string) string {
	return "system:serviceaccount:" + namespace + ":" + name
}

func (c *claims) user() User {
	k := &c.Kubernetes
	u := User{
		Name:   accountUser(k.Namespace, k.Account.Name),
		UID:    k.Account.UID,
		Groups: []string{GroupServiceAccounts, GroupServiceAccounts + ":" + k.Namespace},
		Extra:  map[string][]string{},
	}
	say := func(key, value string) {
		if value != "" {
			u.Extra[key] = []string{value}
		}
	}
	pod, node := cmp.Or(k.Pod, &reference{}), cmp.Or(k.Node, &reference{})
	say("authentication.kubernetes.io/pod-name", pod.Name)
	say("authentication.kubernetes.io/pod-uid", pod.UID)
	say("authentication.kubernetes.io/node-name", node.Name)
	say("authentication.kubernetes.io/node-uid", node.UID)
	if c.ID != "" {
		say(credentialID, "JTI="+c.ID)
	}
	return u
}
