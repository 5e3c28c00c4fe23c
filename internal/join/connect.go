package join

import (
	"crypto/x509"
	"net/http"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/skiff-sh/skiff/internal/uplink"
	"github.com/skiff-sh/skiff/internal/version"
)

// connect returns an uplink and a client over it. Its requests carry the value of
// the Authorization header, if that is not "".
func connect(c uplink.Config, authorization string) (kubernetes.Interface, *uplink.Uplink, error) {
	up, err := uplink.New(c)
	if err != nil {
		return nil, nil, err
	}
	settings := &rest.Config{
		Host: up.URL(), Transport: up, UserAgent: "skiff-agent/" + version.Number(), QPS: -1,
	}
	if authorization != "" {
		settings.Wrap(func(next http.RoundTripper) http.RoundTripper {
			return introduction{next: next, authorization: authorization}
		})
	}
	client, err := kubernetes.NewForConfig(settings)
	return client, up, err
}

func poolOf(root *x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(root)
	return pool
}

// introduction says in each request with which token it comes.
type introduction struct {
	next          http.RoundTripper
	authorization string
}

// RoundTrip implements http.RoundTripper.
func (i introduction) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", i.authorization)
	return i.next.RoundTrip(r)
}
