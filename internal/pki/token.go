package pki

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
)

// Token is what a machine joins with, in k3s's form. The digest says whom to
// trust before anything is sent; the rest is either a bootstrap token's (ID and
// Secret) or the server's own Password.
//
//	K10<digest>::<id>.<secret>
//	K10<digest>::server:<password>
//
// What follows the "::" may stand alone, a password without "server:" too. Such
// a short token tells nothing of whom to trust: its Digest is "".
type Token struct {
	Digest   string // hex SHA-256 of the authority's PEM, byte for byte as /cacerts answers
	ID       string
	Secret   string
	Password string
}

// ServerUser is the user of the server's own token.
const ServerUser = "server"

const (
	tokenStart     = "K10"
	idLength       = 6
	secretLength   = 16
	passwordLength = 32
	tokenLetters   = "abcdefghijklmnopqrstuvwxyz0123456789"
)

// Errors of Verify.
var (
	// ErrNoDigest: a short token. Who goes on, with ParseAuthority, trusts
	// whoever answers.
	ErrNoDigest = errors.New("the token does not say which server to trust: use the whole token, which begins with K10")
	// ErrOtherAuthority: the token is of another cluster, or somebody else
	// answers in the server's place.
	ErrOtherAuthority = errors.New("the server is not the one that made the token: its certificate authority has another digest")
)

// NewBootstrapToken returns a new bootstrap token for the cluster of an authority.
func NewBootstrapToken(authority []byte) Token {
	return Token{Digest: Digest(authority), ID: randomText(idLength), Secret: randomText(secretLength)}
}

// randomText returns letters and digits, each as likely as any other.
func randomText(length int) string {
	const fair = 256 - 256%len(tokenLetters)
	text := make([]byte, 0, length)
	for one := make([]byte, 1); len(text) < length; {
		_, _ = rand.Read(one) // never fails
		if int(one[0]) < fair {
			text = append(text, tokenLetters[int(one[0])%len(tokenLetters)])
		}
	}
	return string(text)
}

// Digest returns the digest of an authority's PEM as tokens have it.
func Digest(authority []byte) string {
	sum := sha256.Sum256(authority)
	return hex.EncodeToString(sum[:])
}

// Text returns the whole token. It is a secret.
func (t Token) Text() string {
	start := ""
	if t.Digest != "" {
		start = tokenStart + t.Digest + "::"
	}
	if t.ID != "" {
		return start + t.Bearer()
	}
	return start + ServerUser + ":" + t.Password
}

// String shows which token it is, and no secret.
func (t Token) String() string {
	if t.ID != "" {
		return "bootstrap token " + t.ID
	}
	return "the server's own token"
}

// Bearer returns id.secret, "" for the server's own token.
func (t Token) Bearer() string {
	if t.ID == "" {
		return ""
	}
	return t.ID + "." + t.Secret
}

// Authorization returns the value of the Authorization header that a request
// with the token carries: a bootstrap token is a bearer token, the server's own
// goes by HTTP's basic authentication, whose encoding any password survives.
func (t Token) Authorization() string {
	if t.ID != "" {
		return "Bearer " + t.Bearer()
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(ServerUser+":"+t.Password))
}

// Opens says whether a basic authentication is that of the server's own token.
func (t Token) Opens(user, password string) bool {
	return t.Password != "" && user == ServerUser && same(t.Password, password)
}

// same compares secrets in a time that tells nothing of them.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// Verify says whether authority, as /cacerts answered, is the PEM that the token
// vouches for: nil, ErrNoDigest or ErrOtherAuthority.
func (t Token) Verify(authority []byte) error {
	switch {
	case t.Digest == "":
		return ErrNoDigest
	case !same(t.Digest, Digest(authority)):
		return ErrOtherAuthority
	}
	return nil
}

// ParseAuthority reads the one certificate that /cacerts answers with. It
// believes it: Verify comes first.
func ParseAuthority(authority []byte) (*x509.Certificate, error) {
	block, rest := pem.Decode(authority)
	if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("what answers at /cacerts is not one certificate: is this a skiff server, or does a proxy stand in between?")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read the certificate of /cacerts: %w", err)
	}
	if !certificate.IsCA {
		return nil, errors.New("the certificate of /cacerts is not an authority's: is this a skiff server?")
	}
	return certificate, nil
}
