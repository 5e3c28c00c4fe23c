package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/pki"
)

// The keys in the Secret of a bootstrap token. The first seven are upstream's
// (k8s.io/cluster-bootstrap/token/api), the others are ours: usage-once lets one
// machine join and no second; the used- keys say which one did.
const (
	tokenID             = "token-id"
	tokenSecret         = "token-secret"
	tokenExpiration     = "expiration"
	tokenDescription    = "description"
	tokenGroups         = "auth-extra-groups"
	tokenUsage          = "usage-bootstrap-"
	tokenAuthentication = "authentication"

	tokenOnce   = "usage-once"
	tokenUsedBy = "used-by"  // name of the node
	tokenUsedAt = "used-at"  // RFC 3339
	tokenKey    = "used-key" // hex SHA-256 of the public key (SPKI)
)

// TokenSecretPrefix begins the name of every bootstrap token's Secret.
const TokenSecretPrefix = "bootstrap-token-"

// spentLife is how long a token that works once stays after that: its machine
// may be cut off before it has its certificate, and come back.
const spentLife = 24 * time.Hour

// BootstrapToken is what the Secret of a bootstrap token says.
type BootstrapToken struct {
	ID          string
	Secret      string
	Description string
	Expiration  string   // RFC 3339; "": never
	Usages      []string // authentication, signing
	Groups      string   // beside GroupBootstrappers, separated by commas
	Once        bool
	Used        *TokenUse // nil: not yet, or not noted, as it does not work once
}

// TokenUse says which machine joined with a token that works once.
type TokenUse struct {
	Node string
	Key  string // hex SHA-256 of the public key (SPKI)
	At   time.Time
}

// Refusal is an error whose text may be shown to who is refused.
type Refusal string

func (r Refusal) Error() string { return string(r) }

// ReadBootstrapToken reads a token's Secret, without judging it.
func ReadBootstrapToken(s *corev1.Secret) BootstrapToken {
	text := func(key string) string { return string(s.Data[key]) }
	t := BootstrapToken{
		ID: text(tokenID), Secret: text(tokenSecret), Description: text(tokenDescription),
		Expiration: text(tokenExpiration), Groups: text(tokenGroups), Once: text(tokenOnce) == "true",
	}
	for key, value := range s.Data {
		if usage, ok := strings.CutPrefix(key, tokenUsage); ok && string(value) == "true" {
			t.Usages = append(t.Usages, usage)
		}
	}
	slices.Sort(t.Usages)
	if key := text(tokenKey); t.Once && key != "" {
		at, _ := time.Parse(time.RFC3339, text(tokenUsedAt)) // long ago, where it is not one
		t.Used = &TokenUse{Node: text(tokenUsedBy), Key: key, At: at}
	}
	return t
}

// Object returns the Secret of a new token.
func (t BootstrapToken) Object() *corev1.Secret {
	data := map[string][]byte{tokenID: []byte(t.ID), tokenSecret: []byte(t.Secret)}
	for key, value := range map[string]string{tokenDescription: t.Description, tokenExpiration: t.Expiration, tokenGroups: t.Groups} {
		if value != "" {
			data[key] = []byte(value)
		}
	}
	for _, usage := range t.Usages {
		data[tokenUsage+usage] = []byte("true")
	}
	if t.Once {
		data[tokenOnce] = []byte("true")
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: TokenSecretPrefix + t.ID},
		Type:       corev1.SecretTypeBootstrapToken,
		Data:       data,
	}
}

// SpendToken notes in a copy of a token's Secret that a machine is about to join
// with it, if it works once; otherwise it changes nothing. The same machine may
// come again. Any other is told in a Refusal who was first.
func SpendToken(s *corev1.Secret, node, spki string, now time.Time) error {
	t := ReadBootstrapToken(s)
	switch {
	case !t.Once:
		return nil
	case t.Used == nil:
		s.Data[tokenUsedBy] = []byte(node)
		s.Data[tokenKey] = []byte(spki)
		s.Data[tokenUsedAt] = []byte(now.UTC().Format(time.RFC3339))
		return nil
	case t.Used.Node == node && t.Used.Key == spki:
		return nil
	}
	return refuseToken(t.ID, t.spent())
}

// refuseToken says why a token does not do, and what to do.
func refuseToken(id, why string) Refusal {
	return Refusal(fmt.Sprintf("bootstrap token %s %s: make another on a server with skiff token create", id, why))
}

// RefuseMissingToken refuses who asked with a token that has gone meanwhile: it
// may have been one that works once.
func RefuseMissingToken(id string) Refusal { return refuseToken(id, "is not there any more") }

func (t BootstrapToken) spent() string {
	return fmt.Sprintf("works once, and node %s joined with it on %s", t.Used.Node, t.Used.At.Format(time.RFC3339))
}

// Left returns how long the token is still good for, 0 if for ever.
func (t BootstrapToken) Left(now time.Time) (left time.Duration, expired bool) {
	var ends []time.Time
	if t.Expiration != "" {
		end, err := time.Parse(time.RFC3339, t.Expiration)
		if err != nil {
			return 0, true
		}
		ends = append(ends, end)
	}
	if t.Used != nil {
		ends = append(ends, t.Used.At.Add(spentLife))
	}
	if len(ends) == 0 {
		return 0, false
	}
	left = slices.MinFunc(ends, time.Time.Compare).Sub(now)
	return max(left, 0), left <= 0
}

// wrong says why the token does not let its holder in, "" if it does.
func (t BootstrapToken) wrong(now time.Time) string {
	_, expired := t.Left(now)
	switch {
	case expired && t.Used != nil:
		return t.spent()
	case expired:
		return "expired on " + t.Expiration
	case !slices.Contains(t.Usages, tokenAuthentication):
		return "is not for authentication"
	}
	if _, err := t.groups(); err != nil {
		return "is of no use, " + err.Error()
	}
	return ""
}

// extraGroup is upstream's pattern of what auth-extra-groups may name.
var extraGroup = regexp.MustCompile(`\Asystem:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]\z`)

// groups returns all groups of the token's user.
func (t BootstrapToken) groups() ([]string, error) {
	groups := []string{GroupBootstrappers}
	if t.Groups == "" {
		return groups, nil
	}
	for group := range strings.SplitSeq(t.Groups, ",") {
		if !extraGroup.MatchString(group) {
			return nil, fmt.Errorf("its %s has %q, which does not begin with %s:", tokenGroups, group, GroupBootstrappers)
		}
		groups = append(groups, group)
	}
	slices.Sort(groups)
	return slices.Compact(groups), nil
}

// GoneTokens is the Secret in kube-system that remembers for a while what became
// of bootstrap tokens whose Secrets are no more. Its keys are their IDs.
const GoneTokens = "skiff-gone-tokens"

// GoneToken is what is remembered: enough to tell who holds the whole token why
// it does not do, and too little to learn the token from.
type GoneToken struct {
	Digest string    `json:"digest"` // hex SHA-256 of the token's secret
	Why    string    `json:"why"`
	At     time.Time `json:"at"`
}

// Gone returns what to remember of a token whose Secret has gone.
func (t BootstrapToken) Gone(now time.Time) GoneToken {
	g := GoneToken{Digest: secretDigest(t.Secret), At: now.UTC().Truncate(time.Second)}
	_, expired := t.Left(now)
	switch {
	case t.Used != nil:
		g.Why = t.spent()
	case expired:
		g.Why = "expired on " + t.Expiration
	default:
		g.Why = "was removed on " + g.At.Format(time.RFC3339)
	}
	return g
}

func secretDigest(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// ReadGoneToken reads one entry of GoneTokens.
func ReadGoneToken(entry []byte) (g GoneToken, err error) {
	err = json.Unmarshal(entry, &g)
	return g, err
}

var errUnknownToken = errors.New("there is no such bootstrap token")

// refuseGone says of a token without a Secret what became of it, to who has the
// whole token.
func refuseGone(t pki.Token, gone map[string][]byte) error {
	g, err := ReadGoneToken(gone[t.ID])
	if err != nil || subtle.ConstantTimeCompare([]byte(g.Digest), []byte(secretDigest(t.Secret))) != 1 {
		return fmt.Errorf("%s: %w", t, errUnknownToken)
	}
	return refuseToken(t.ID, g.Why)
}
