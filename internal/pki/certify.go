package pki

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"time"
)

// Certify signs somebody else's public key. The template says for whom and for
// what; the certificate begins before any clock's time and ends a life after the
// latest time that is known to be past, or with the authority. It is an error,
// which says what to do, when the authority itself has ended. The template is
// not changed.
func (p Pair) Certify(key crypto.PublicKey, template x509.Certificate, life time.Duration, clock Clock) (*x509.Certificate, error) {
	now := clock.Latest()
	if !p.Certificate.NotAfter.After(now) {
		return nil, fmt.Errorf("the certificate authority %s ended at %s: make a new one, or set the clock right",
			p.Certificate.Subject.CommonName, p.Certificate.NotAfter.Format(time.RFC3339))
	}
	return certify(&template, p.Certificate, key, p.Key, p.end(life, clock))
}
