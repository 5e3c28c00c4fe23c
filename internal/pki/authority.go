// Package pki makes and keeps the cluster's keys and certificates, and writes
// the kubeconfigs that carry them.
//
// An Authority signs certificates; Files is the directory where everything a
// server needs is made on first start and found again later; a Kubeconfig joins
// an address with credentials. The invariant: whatever is on disk is complete
// (files are replaced whole) and readable by root alone. The package never talks
// to the network.
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
	"time"
)

// How long certificates are good for. Leaves are judged when a server starts,
// which may be years apart, so they last as long as their authority.
const (
	authorityLife = 10 * 365 * 24 * time.Hour
	leafLife      = authorityLife
	renewBefore   = 90 * 24 * time.Hour
)

// Pair is a certificate with its key.
type Pair struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
}

// Clock judges time for certificates. A machine without a battery starts in
// 1970 or at its image's date, so no certificate has a beginning that a clock
// could miss, and none ends counted from a time before the build.
type Clock struct {
	Now   func() time.Time
	Build time.Time // when this build was made
}

// Latest returns the latest time known to be past.
func (c Clock) Latest() time.Time {
	if now := c.Now(); now.After(c.Build) {
		return now
	}
	return c.Build
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
	end := clock.Latest().Add(leafLife)
	if end.After(p.Certificate.NotAfter) {
		end = p.Certificate.NotAfter
	}
	return sign(template, p.Certificate, key, p.Key, end)
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

// fits says whether the certificate still does for the subject: signed by the
// authority, with the subject's names, and not about to end.
func (p Pair) fits(authority Pair, s Subject, clock Clock) bool {
	c := p.Certificate
	if c.Subject.CommonName != s.CommonName || c.CheckSignatureFrom(authority.Certificate) != nil {
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
	return clock.Latest().Add(renewBefore).Before(c.NotAfter)
}
