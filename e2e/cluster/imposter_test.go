package cluster

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/skiff-sh/skiff/e2e/await"
	"github.com/skiff-sh/skiff/e2e/cluster/lab"
)

// imposter answers in a server's place, with an authority of its own, and notes
// all that it is sent.
type imposter struct {
	authority []byte // PEM, what it gives out at /cacerts
	server    *http.Server

	mu   sync.Mutex // guards what follows
	seen []string
}

// impersonate serves on the node in the place of a server.
func impersonate(t *testing.T, n *lab.Node) *imposter {
	t.Helper()
	certificate, authority := forge(t, n.Address.AsSlice())
	i := &imposter{authority: authority}
	i.server = &http.Server{Handler: i, TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}}}
	var listener net.Listener
	err := n.Do(func() (err error) {
		listener, err = net.Listen("tcp4", n.Address.String()+":6443")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- i.server.ServeTLS(listener, "", "") }()
	t.Cleanup(func() {
		i.server.Close()
		<-ended
	})
	return i
}

// ServeHTTP notes the request.
func (i *imposter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.seen = append(i.seen, r.Method+" "+r.URL.Path)
	if secret := r.Header.Get("Authorization"); secret != "" {
		i.seen = append(i.seen, "a secret: "+secret)
	}
	if r.URL.Path == "/cacerts" {
		_, _ = w.Write(i.authority) // it is gone, else
	}
}

// got returns what it was sent besides the question for its authority.
func (i *imposter) got() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	var other []string
	for _, what := range i.seen {
		if what != "GET /cacerts" {
			other = append(other, what)
		}
	}
	return other
}

func (i *imposter) give(authority []byte) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.authority = authority
}

// forge makes an authority that calls itself the cluster's, and a certificate of
// it for an address.
func forge(t *testing.T, address net.IP) (tls.Certificate, []byte) {
	t.Helper()
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "skiff-ca"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "skiff-server"}, IPAddresses: []net.IP{address},
		NotBefore: root.NotBefore, NotAfter: root.NotAfter, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, rootKey.Public(), rootKey)
	if err != nil {
		t.Fatal(err)
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, rootKey.Public(), rootKey)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{leafDER, rootDER}, PrivateKey: rootKey},
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rootDER})
}

// Whoever stands between a machine and the server with an authority of its own
// learns nothing, neither from who joins nor from who has joined.
func TestManInTheMiddle(t *testing.T) {
	c := ownCluster(t, "--disable-agent")
	s := c.session(t)
	token, err := s.token()
	if err != nil {
		t.Fatal(err)
	}
	mallory, victim := s.stranger("mallory"), s.stranger("victim")
	between := impersonate(t, mallory)
	url := fmt.Sprintf("https://%s:6443", mallory.Address)

	t.Log("with an authority of its own")
	said, _ := s.agentSays(victim, "one", "nothing secret was sent", "--server", url, "--token", token)
	s.mustContain(said, url, "someone stands in between", "nothing secret was sent")

	t.Log("with the cluster's authority, but no certificate of it")
	between.give(s.config.CAData)
	said, _ = s.agentSays(victim, "two", "certificate", "--server", url, "--token", token)
	s.mustContain(said, "the certificate is not this cluster's")

	t.Log("towards who has joined")
	if err := victim.Start("agent", "--server", s.url(), "--token", token); err != nil {
		t.Fatal(err)
	}
	s.awaitNodeFor(patience, "victim", nodeReady)
	if err := victim.Stop(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := victim.Start("agent", "--server", url, "--server", s.url()); err != nil {
		t.Fatal(err)
	}
	s.awaitNodeRestarted("victim")
	if got := between.got(); len(got) > 0 {
		t.Errorf("the man in the middle got %q", got)
	}
}

// With a node's certificate or a token, one becomes nothing but that node, or a
// new one.
func TestForbiddenCertificates(t *testing.T) {
	c := ownCluster(t, "--disable-agent")
	n, err := c.startAgent("near", lab.Near)
	if err == nil {
		err = c.awaitNode(n, nodeReady)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := c.session(t)
	token := s.createToken()
	bearer := rest.AnonymousClientConfig(s.config)
	bearer.BearerToken, bearer.Dial = token[strings.Index(token, "::")+2:], s.server.Dial
	newcomer, err := kubernetes.NewForConfig(bearer)
	if err != nil {
		t.Fatal(err)
	}
	thief, err := steal(n, s.url())
	if err != nil {
		t.Fatal(err)
	}
	stolen, err := kubernetes.NewForConfigAndClient(&rest.Config{Host: s.url()}, thief.client)
	if err != nil {
		t.Fatal(err)
	}
	const (
		kubelet = certificatesv1.KubeAPIServerClientKubeletSignerName
		serving = certificatesv1.KubeletServingSignerName
		client  = certificatesv1.KubeAPIServerClientSignerName
	)
	for _, c := range []struct {
		name         string
		as           kubernetes.Interface
		signer       string
		user, group  string
		usage        certificatesv1.KeyUsage
		dns, address string
	}{
		{"a node as another", stolen, kubelet, "system:node:server", "system:nodes", certificatesv1.UsageClientAuth, "", ""},
		{"a node as administrator", stolen, client, "system:admin", "system:masters", certificatesv1.UsageClientAuth, "", ""},
		{"a node as administrator, by the nodes' signer", stolen, kubelet, "system:node:near", "system:masters", certificatesv1.UsageClientAuth, "", ""},
		{"a node as any user", stolen, client, "kube-controller-manager", "", certificatesv1.UsageClientAuth, "", ""},
		{"a node as the API server", stolen, serving, "system:node:near", "system:nodes", certificatesv1.UsageServerAuth, "kubernetes.default.svc", ""},
		{"a node at the server's address", stolen, serving, "system:node:near", "system:nodes", certificatesv1.UsageServerAuth, "", s.server.Address.String()},
		{"a newcomer as a node that is there", newcomer, kubelet, "system:node:near", "system:nodes", certificatesv1.UsageClientAuth, "", ""},
		{"a newcomer as the server's node", newcomer, kubelet, "system:node:server", "system:nodes", certificatesv1.UsageClientAuth, "", ""},
		{"a newcomer as administrator", newcomer, client, "system:admin", "system:masters", certificatesv1.UsageClientAuth, "", ""},
		{"a newcomer as any user", newcomer, client, "someone", "", certificatesv1.UsageClientAuth, "", ""},
		{"a newcomer's serving certificate", newcomer, serving, "system:node:new", "system:nodes", certificatesv1.UsageServerAuth, "new", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			request := certificateRequest(t, c.user, c.group, c.dns, c.address)
			made, err := c.as.CertificatesV1().CertificateSigningRequests().Create(s.ctx, &certificatesv1.CertificateSigningRequest{
				ObjectMeta: metav1.ObjectMeta{GenerateName: "forged-"},
				Spec: certificatesv1.CertificateSigningRequestSpec{
					Request: request, SignerName: c.signer, Usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, c.usage},
				},
			}, metav1.CreateOptions{})
			if err != nil {
				t.Logf("refused: %v", err)
				return
			}
			s.neverSigned(t, made.Name)
		})
	}
}

// neverSigned sees that the request is denied, or left to a person to decide.
func (s *session) neverSigned(t *testing.T, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, time.Second)
	defer cancel()
	requests := s.client.CertificatesV1().CertificateSigningRequests()
	found, err := await.Object(ctx, requests, nil, name, func(r *certificatesv1.CertificateSigningRequest) bool {
		return len(r.Status.Certificate) > 0 || len(r.Status.Conditions) > 0
	})
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		t.Log("undecided")
	case err != nil:
		t.Fatal(err)
	case len(found.Status.Certificate) > 0 || found.Status.Conditions[0].Type != certificatesv1.CertificateDenied:
		t.Errorf("not denied: %+v", found.Status)
	default:
		t.Logf("denied: %s: %s", found.Status.Conditions[0].Reason, found.Status.Conditions[0].Message)
	}
}

func certificateRequest(t *testing.T, user, group, dns, address string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: user}}
	if group != "" {
		template.Subject.Organization = []string{group}
	}
	if dns != "" {
		template.DNSNames = []string{dns}
	}
	if address != "" {
		template.IPAddresses = []net.IP{net.ParseIP(address)}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}
