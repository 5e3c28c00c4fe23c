package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

// Issuer is the issuer of service-account tokens, and the audience of those for
// the API server itself.
const Issuer = "https://kubernetes.default.svc.cluster.local"

// TokensConfig is what Tokens are made of.
type TokensConfig struct {
	Issuer string        // "": Issuer
	Key    crypto.Signer // signs; RSA, or ECDSA on P-256, P-384 or P-521
	// Keys verify, beside Key's own: those of before a rotation.
	Keys []crypto.PublicKey
	// Audiences are the API server's own names, the issuer if there are none. A
	// token has to be for one of them.
	Audiences []string
	State     *state.State
	Now       func() time.Time // nil: time.Now
}

// Tokens issues and recognizes the tokens of service accounts (KEP-1205). It
// is safe for concurrent use.
type Tokens struct {
	TokensConfig
	signer jose.Signer
	keys   []jose.JSONWebKey
	known  cache[*claims]
}

// Token is an issued token.
type Token struct {
	Value     string
	Audiences []string
	Expires   time.Time
}

// NewTokens returns Tokens, or an error for keys that cannot sign or verify.
func NewTokens(c TokensConfig) (*Tokens, error) {
	if c.Issuer == "" {
		c.Issuer = Issuer
	}
	if len(c.Audiences) == 0 {
		c.Audiences = []string{c.Issuer}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	t := &Tokens{TokensConfig: c}
	for _, key := range append([]crypto.PublicKey{c.Key.Public()}, c.Keys...) {
		jwk, err := publicKey(key)
		if err != nil {
			return nil, fmt.Errorf("read service-account key: %w", err)
		}
		if !slices.ContainsFunc(t.keys, func(k jose.JSONWebKey) bool { return k.KeyID == jwk.KeyID }) {
			t.keys = append(t.keys, jwk)
		}
	}
	own := t.keys[0]
	own.Key = c.Key
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(own.Algorithm), Key: own}, nil)
	if err != nil {
		return nil, fmt.Errorf("sign with service-account key: %w", err)
	}
	t.signer = signer
	return t, nil
}

// publicKey names a key by the digest of its public half, as upstream does.
func publicKey(key crypto.PublicKey) (jose.JSONWebKey, error) {
	algorithm, err := algorithmOf(key)
	if err != nil {
		return jose.JSONWebKey{}, err
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return jose.JSONWebKey{}, err
	}
	sum := sha256.Sum256(der)
	return jose.JSONWebKey{
		Key:       key,
		KeyID:     base64.RawURLEncoding.EncodeToString(sum[:]),
		Algorithm: string(algorithm),
		Use:       "sig",
	}, nil
}

func algorithmOf(key crypto.PublicKey) (jose.SignatureAlgorithm, error) {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return jose.RS256, nil
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return jose.ES256, nil
		case elliptic.P384():
			return jose.ES384, nil
		case elliptic.P521():
			return jose.ES512, nil
		}
	}
	return "", fmt.Errorf("%T is not a key for tokens: use RSA, or ECDSA on P-256, P-384 or P-521", key)
}

// Tokens that admission mounts into Pods ask for mountedLifetime, an odd number
// by which they are recognized. They are renewed after that long but accepted
// for extendedLifetime, as long as their Pod is there: there are programs that
// read their token once and never again (KEP-1205).
const (
	mountedLifetime  = time.Hour + 7*time.Second
	extendedLifetime = 365 * 24 * time.Hour
)

// Issue signs a token for account. bound, if not nil, is the Pod, Secret or
// Node without which the token stops to be valid. A token without audiences is
// for the API server.
func (t *Tokens) Issue(account *corev1.ServiceAccount, bound kind.Object, audiences []string, lifetime time.Duration) (Token, error) {
	if len(audiences) == 0 {
		audiences = slices.Clone(t.Audiences)
	}
	now := t.Now()
	c := claims{
		Claims: jwt.Claims{
			Issuer:    t.Issuer,
			Subject:   accountUser(account.Namespace, account.Name),
			IssuedAt:  jwt.NewNumericDate(now),
			NotBefore: jwt.NewNumericDate(now),
			Expiry:    jwt.NewNumericDate(now.Add(lifetime)),
			ID:        string(uuid.NewUUID()),
		},
		Audience: audiences,
		Kubernetes: kubernetesClaims{
			Namespace: account.Namespace,
			Account:   reference{account.Name, string(account.UID)},
		},
	}
	expires := c.Expiry.Time()
	if _, mounted := bound.(*corev1.Pod); mounted && lifetime == mountedLifetime && t.own(audiences) {
		c.Kubernetes.WarnAfter = c.Expiry
		c.Expiry = jwt.NewNumericDate(now.Add(extendedLifetime))
	}
	if err := t.bind(&c.Kubernetes, bound); err != nil {
		return Token{}, err
	}
	value, err := jwt.Signed(t.signer).Claims(c).Serialize()
	if err != nil {
		return Token{}, fmt.Errorf("sign token for %s: %w", c.Subject, err)
	}
	return Token{Value: value, Audiences: audiences, Expires: expires}, nil
}

// own reports whether audiences are the API server alone.
func (t *Tokens) own(audiences []string) bool {
	return !slices.ContainsFunc(audiences, func(a string) bool { return !slices.Contains(t.Audiences, a) })
}

func (t *Tokens) bind(c *kubernetesClaims, bound kind.Object) error {
	switch b := bound.(type) {
	case nil:
	case *corev1.Pod:
		c.Pod = &reference{b.Name, string(b.UID)}
		if b.Spec.NodeName == "" {
			return nil
		}
		c.Node = &reference{Name: b.Spec.NodeName}
		if node, ok := state.Get[*corev1.Node](t.State, kind.Node, "", b.Spec.NodeName); ok {
			c.Node.UID = string(node.UID)
		}
	case *corev1.Secret:
		c.Secret = &reference{b.Name, string(b.UID)}
	case *corev1.Node:
		c.Node = &reference{b.Name, string(b.UID)}
	default:
		return fmt.Errorf("bind token to %T: only Pods, Secrets and Nodes can be bound to", bound)
	}
	return nil
}

// JWKS is the document of /openid/v1/jwks: the public keys.
func (t *Tokens) JWKS() ([]byte, error) {
	return json.Marshal(jose.JSONWebKeySet{Keys: t.keys})
}

// OpenIDConfiguration is the document of /.well-known/openid-configuration.
// address is the host and port at which others reach the API server.
func (t *Tokens) OpenIDConfiguration(address string) ([]byte, error) {
	algorithms := []string{}
	for _, key := range t.keys {
		algorithms = append(algorithms, key.Algorithm)
	}
	slices.Sort(algorithms)
	return json.Marshal(struct {
		Issuer        string   `json:"issuer"`
		JWKS          string   `json:"jwks_uri"`
		ResponseTypes []string `json:"response_types_supported"`
		SubjectTypes  []string `json:"subject_types_supported"`
		Algorithms    []string `json:"id_token_signing_alg_values_supported"`
	}{
		Issuer:        t.Issuer,
		JWKS:          "https://" + address + "/openid/v1/jwks",
		ResponseTypes: []string{"id_token"},
		SubjectTypes:  []string{"public"},
		Algorithms:    slices.Compact(algorithms),
	})
}

// User tells whose token it is. ok is false for what is not a token of this
// issuer; an error means that it is one and not, or no longer, valid.
func (t *Tokens) User(ctx context.Context, token string) (u User, ok bool, err error) {
	u, _, ok, err = t.Review(ctx, token, nil)
	return u, ok, err
}

// Review is User for somebody else, who goes by other names than the API
// server: a token is good for them only if it is for one of their audiences,
// and they are told for which. Without audiences those of the API server count.
func (t *Tokens) Review(_ context.Context, token string, audiences []string) (u User, good []string, ok bool, err error) {
	if len(audiences) == 0 {
		audiences = t.Audiences
	}
	c, ok, err := t.read(token)
	if !ok || err != nil {
		return User{}, nil, false, err
	}
	good, err = t.check(c, audiences)
	if err != nil {
		return User{}, nil, false, err
	}
	return c.user(), good, true, nil
}
