package join

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/skiff-sh/skiff/internal/pki"
)

// authorityLimit is how many bytes the answer of /cacerts may have.
const authorityLimit = 64 << 10

// meet asks a server for the authority of its cluster, without trusting it, and
// returns it when it is the one that the token vouches for and the server's own
// certificate leads to it. Nothing but the question is sent.
func meet(ctx context.Context, server string, token pki.Token, clock pki.Clock) ([]byte, error) {
	authority, shown, err := askAuthority(ctx, server)
	if err != nil {
		return nil, err
	}
	root, err := pki.ParseAuthority(authority)
	if err != nil {
		return nil, strange(server, err)
	}
	if err := token.Verify(authority); err != nil {
		return nil, otherAuthority(server, err)
	}
	// The connection that follows is checked too; here the error can still say
	// which of several servers it is.
	if err := checkServer(server, shown, root, clock); err != nil {
		return nil, explain(fmt.Errorf("%s: %w", server, clock.Explain(err)))
	}
	return authority, nil
}

// askAuthority returns what a server answers at /cacerts, and the certificates
// it showed.
func askAuthority(ctx context.Context, server string) ([]byte, []*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, server+"/cacerts", nil)
	if err != nil {
		return nil, nil, err
	}
	client := http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			TLSClientConfig: &tls.Config{
				MinVersion:         tls.VersionTLS12,
				InsecureSkipVerify: true, // the digest in the token verifies what comes
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, nil, explain(fmt.Errorf("%s: %w", server, withoutURL(err)))
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, authorityLimit))
	switch {
	case err != nil:
		return nil, nil, explain(fmt.Errorf("%s: %w", server, err))
	case answer.StatusCode >= http.StatusInternalServerError || answer.StatusCode == http.StatusTooManyRequests:
		return nil, nil, busy(server, answer.Status)
	case answer.StatusCode != http.StatusOK:
		return nil, nil, strange(server, fmt.Errorf("there is no /cacerts (%s), so it is no skiff server", answer.Status))
	}
	return body, answer.TLS.PeerCertificates, nil
}

// withoutURL takes away the URL that an error of http.Client begins with.
func withoutURL(err error) error {
	var asked *url.Error
	if errors.As(err, &asked) {
		return asked.Err
	}
	return err
}

// checkServer says whether a server's certificate is the cluster's and for the
// name by which the server was called.
func checkServer(server string, shown []*x509.Certificate, root *x509.Certificate, clock pki.Clock) error {
	u, err := url.Parse(server)
	if err != nil {
		return err
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	for _, c := range shown[1:] {
		between.AddCert(c)
	}
	options := x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: u.Hostname()}
	// Whose it is matters more than when: of a stranger's, nobody cares for the time.
	options.CurrentTime = shown[0].NotAfter
	if _, err := shown[0].Verify(options); err != nil {
		return err
	}
	options.CurrentTime = clock.Latest()
	_, err = shown[0].Verify(options)
	return err
}
