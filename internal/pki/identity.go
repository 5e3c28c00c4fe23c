package pki

import (
	"crypto/tls"
	"sync"
)

// Identity is a certificate with its key that is replaced while it is in use.
// It is safe for concurrent use.
type Identity struct {
	mu      sync.Mutex // guards what follows
	pair    Pair
	changed chan struct{} // closed when pair is replaced
}

// NewIdentity returns an identity that begins as a pair.
func NewIdentity(p Pair) *Identity {
	return &Identity{pair: p, changed: make(chan struct{})}
}

// Pair returns what it is now.
func (i *Identity) Pair() Pair {
	p, _ := i.Watch()
	return p
}

// Watch returns what it is now, and a channel that is closed when that is
// replaced.
func (i *Identity) Watch() (Pair, <-chan struct{}) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.pair, i.changed
}

// Set replaces it. Connections that exist go on under the old one.
func (i *Identity) Set(p Pair) {
	i.mu.Lock()
	defer i.mu.Unlock()
	close(i.changed)
	i.pair, i.changed = p, make(chan struct{})
}

// GetCertificate is for tls.Config of who serves.
func (i *Identity) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	certificate := i.Pair().TLS()
	return &certificate, nil
}

// GetClientCertificate is for tls.Config of a client.
func (i *Identity) GetClientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	certificate := i.Pair().TLS()
	return &certificate, nil
}
