package auth

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// credentialID is the key under which User.Extra says which credential was used.
const credentialID = "authentication.kubernetes.io/credential-id"

// Certificates authenticates by the client certificate of a TLS connection:
// its common name is the user, its organizations are the groups. The server has
// to ask for certificates but need not verify them.
type Certificates struct {
	roots *x509.CertPool
	now   func() time.Time
	known cache[validity]
}

// validity is when every certificate of a verified chain is valid.
type validity struct{ from, until time.Time }

// NewCertificates believes certificates for client authentication that lead to
// one of roots and are valid at the time that now returns when a request begins:
// one that lasts is not cut off when its certificate ends.
func NewCertificates(roots *x509.CertPool, now func() time.Time) *Certificates {
	return &Certificates{roots: roots, now: now}
}

// Authenticate tells whose the client certificate is.
func (c *Certificates) Authenticate(r *http.Request) (User, bool, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return User{}, false, nil
	}
	leaf := r.TLS.PeerCertificates[0]
	sum := sha256.Sum256(leaf.Raw)
	now := c.now()
	if v, ok := c.known.get(sum); !ok || now.Before(v.from) || now.After(v.until) {
		v, err := c.verify(r.TLS.PeerCertificates, now)
		if err != nil {
			return User{}, false, fmt.Errorf("verify client certificate of %q: %w", leaf.Subject.CommonName, err)
		}
		c.known.put(sum, v)
	}
	if leaf.Subject.CommonName == "" {
		return User{}, false, nil
	}
	uid, err := subjectUID(leaf.Subject)
	if err != nil {
		return User{}, false, fmt.Errorf("read client certificate of %q: %w", leaf.Subject.CommonName, err)
	}
	return User{
		Name:   leaf.Subject.CommonName,
		UID:    uid,
		Groups: slices.Clone(leaf.Subject.Organization),
		Extra:  map[string][]string{credentialID: {"X509SHA256=" + hex.EncodeToString(sum[:])}},
	}, true, nil
}

// verify returns when the chain is valid: of several, the one that lasts longest.
func (c *Certificates) verify(certs []*x509.Certificate, now time.Time) (validity, error) {
	between := x509.NewCertPool()
	for _, cert := range certs[1:] {
		between.AddCert(cert)
	}
	chains, err := certs[0].Verify(x509.VerifyOptions{
		Roots:         c.roots,
		Intermediates: between,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return validity{}, err
	}
	var best validity
	for _, chain := range chains {
		v := validity{chain[0].NotBefore, chain[0].NotAfter}
		for _, cert := range chain[1:] {
			if cert.NotBefore.After(v.from) {
				v.from = cert.NotBefore
			}
			if cert.NotAfter.Before(v.until) {
				v.until = cert.NotAfter
			}
		}
		if v.until.After(best.until) {
			best = v
		}
	}
	return best, nil
}

// subjectUID reads the part of a subject in which Kubernetes puts a user's UID.
func subjectUID(subject pkix.Name) (string, error) {
	oid := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57683, 2}
	uid := ""
	for _, part := range subject.Names {
		if !part.Type.Equal(oid) {
			continue
		}
		text, ok := part.Value.(string)
		switch {
		case !ok || text == "":
			return "", errors.New("its UID is not a text")
		case uid != "":
			return "", errors.New("it has more than one UID")
		}
		uid = text
	}
	return uid, nil
}
