// Package pki makes and keeps the cluster's keys and certificates, and writes
// the kubeconfigs that carry them.
//
// An Authority signs certificates; Files is the directory where everything a
// server needs is made on first start and found again later; a Kubeconfig joins
// an address with credentials; a Token is what a machine joins with. An Identity is
// a certificate in use, which a Renewal replaces before it ends; a Clock says what
// time it is for that, where clocks may be years off. The invariant: whatever is on
// disk is complete (files are replaced whole) and readable by root alone. The
// package never talks to the network.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"time"
)

// How long certificates are good for. An authority is in the hands of everyone who
// knows the cluster, so changing it takes a person, and it lasts for ten years.
// Leaves renew themselves. A year is upstream's life for them: a lost one does no
// harm for ever, a kubeconfig that was copied away is good for the eight months
// after which its original is replaced, and a machine may lie in a drawer for four.
const (
	authorityLife = 10 * 365 * day
	leafLife      = 365 * day
	renewBefore   = leafLife / 3
)

// Pair is a certificate with its key.
type Pair struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
}

// beginning is when every certificate begins: before any clock's time.
var beginning = time.Unix(0, 0).UTC()

// Subject is what a leaf certificate is for.
type Subject struct {
	CommonName    string
	Organizations []string
	Names         []string // DNS names, for serving
	Addresses     []netip.Addr
	Client        bool // usable as a client
	Server        bool // usable to serve
}

// NewAuthority returns a self-signed certificate that may sign others.
func NewAuthority(name string, clock Clock) (Pair, error) {
	key, err := newKey()
	if err != nil {
		return Pair{}, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	return sign(template, template, key, key, clock.Latest().Add(authorityLife))
}

// Issue returns a new key with a certificate signed by the authority.
func (p Pair) Issue(s Subject, clock Clock) (Pair, error) {
	key, err := newKey()
	if err != nil {
		return Pair{}, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: s.CommonName, Organization: s.Organizations},
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		BasicConstraintsValid: true,
		DNSNames:              s.Names,
	}
	for _, a := range s.Addresses {
		template.IPAddresses = append(template.IPAddresses, net.IP(a.AsSlice()))
	}
	if s.Client {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	if s.Server {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	return sign(template, p.Certificate, key, p.Key, p.end(leafLife, clock))
}

// end is when a certificate ends that the authority signs now: after a life, or
// with the authority. The life counts from the latest time that anyone may have
// from this server, a wrong one too, or those would refuse it who believed that.
// Where the clock is known to be slow nobody knows how slow, and others may have a
// right one: what would last a year lasts as long as it can then.
func (p Pair) end(life time.Duration, clock Clock) time.Time {
	end := later(clock.Latest(), clock.Past.Time()).Add(life)
	if end.After(p.Certificate.NotAfter) || life >= leafLife && clock.Slow() {
		return p.Certificate.NotAfter
	}
	return end
}

func newKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	return key, nil
}

func sign(template, parent *x509.Certificate, key, signer crypto.Signer, end time.Time) (Pair, error) {
	certificate, err := certify(template, parent, key.Public(), signer, end)
	if err != nil {
		return Pair{}, err
	}
	return Pair{Certificate: certificate, Key: key}, nil
}

// certify signs a public key with a template, whose serial number, times and key
// identifier it fills in.
func certify(template, parent *x509.Certificate, key crypto.PublicKey, signer crypto.Signer, end time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("choose serial number: %w", err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	id := sha256.Sum256(spki)
	template.SerialNumber = serial.Add(serial, big.NewInt(1))
	template.NotBefore = beginning
	template.NotAfter = end
	template.SubjectKeyId = id[:20]
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, signer)
	if err != nil {
		return nil, fmt.Errorf("sign certificate of %s: %w", template.Subject.CommonName, err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse certificate of %s: %w", template.Subject.CommonName, err)
	}
	return certificate, nil
}

// unfitFor is how much longer a leaf may last than one that is issued now: more
// has one from the time when the clock was slow.
const unfitFor = 30 * day

// fits says whether the certificate still does for the subject: signed by the
// authority, with the subject's names, and not about to end.
func (p Pair) fits(authority Pair, s Subject, clock Clock) bool {
	c := p.Certificate
	if c.Subject.CommonName != s.CommonName || !slices.Equal(c.Subject.Organization, s.Organizations) ||
		c.CheckSignatureFrom(authority.Certificate) != nil {
		return false
	}
	for _, name := range s.Names {
		if c.VerifyHostname(name) != nil {
			return false
		}
	}
	for _, a := range s.Addresses {
		if c.VerifyHostname(a.String()) != nil {
			return false
		}
	}
	end := authority.end(leafLife, clock)
	ends := c.NotAfter.Before(clock.Latest().Add(renewBefore)) && end.After(c.NotAfter.Add(day))
	return !ends && !c.NotAfter.After(end.Add(unfitFor))
}
