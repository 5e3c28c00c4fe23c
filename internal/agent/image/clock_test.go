package image

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// A registry's certificate began after what this machine's clock shows, and before
// what is known to be past.
func TestRegistryAndAClockThatIsBehind(t *testing.T) {
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: began, NotAfter: began.AddDate(0, 3, 0), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	own, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots.AddCert(own)
	for known, answers := range map[time.Time]bool{began.AddDate(-2, 0, 0): false, began.AddDate(0, 1, 0): true, began.AddDate(2, 0, 0): false} {
		transport := newTransport(nil, func() time.Time { return known })
		transport.TLSClientConfig.RootCAs = roots
		answer, err := (&http.Client{Transport: transport}).Get(server.URL)
		if (err == nil) != answers {
			t.Errorf("at %s: %v", known, err)
		}
		if err == nil {
			answer.Body.Close()
		}
		transport.CloseIdleConnections()
	}
}
