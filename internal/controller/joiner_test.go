package controller_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"net"
	"net/netip"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/auth"
	"github.com/skiff-sh/skiff/internal/controller/certificate"
	"github.com/skiff-sh/skiff/internal/controller/tokencleaner"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/pki"
	"github.com/skiff-sh/skiff/internal/state"
)

const (
	clientSigner  = certificatesv1.KubeAPIServerClientKubeletSignerName
	servingSigner = certificatesv1.KubeletServingSignerName
	userSigner    = certificatesv1.KubeAPIServerClientSignerName
)

// certificates makes an authority, and the API server's certificate.
func (p *plane) certificates() certificate.Config {
	p.Helper()
	clock := pki.Clock{Now: time.Now}
	var err error
	p.ca, err = pki.NewAuthority("ca", clock)
	p.must(err)
	serving, err := p.ca.Issue(pki.Subject{
		CommonName: "server", Names: []string{"kubernetes"}, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Server: true,
	}, clock)
	p.must(err)
	return certificate.Config{
		Authority: p.ca, API: pki.NewIdentity(serving), Node: "box", Domain: "cluster.local", Clock: clock,
		Spend: func(ctx context.Context, user, node, spki string) error {
			return tokencleaner.Spend(ctx, p.env, user, node, spki)
		},
	}
}

// joiner is a machine that has a key and, maybe, a token or a certificate.
type joiner struct {
	*plane
	name        string // of the node
	key         crypto.Signer
	token       string            // the ID of the token that it comes with
	certificate *x509.Certificate // nil: it has only the token
}

// joiner has a token with which any machine may join.
func (p *plane) joiner(name string) *joiner {
	p.Helper()
	if !p.hasToken("abcdef") {
		p.makeToken("abcdef", nil)
	}
	return &joiner{plane: p, name: name, key: p.newKey(), token: "abcdef"}
}

func (p *plane) newKey() crypto.Signer {
	p.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p.must(err)
	return key
}

// user is whom the API server takes the machine for.
func (j *joiner) user() auth.User {
	if j.certificate == nil {
		return auth.User{Name: "system:bootstrap:" + j.token, Groups: []string{"system:bootstrappers", auth.GroupAuthenticated}}
	}
	sum := sha256.Sum256(j.certificate.Raw)
	return auth.User{
		Name: j.certificate.Subject.CommonName, Groups: append([]string{auth.GroupAuthenticated}, j.certificate.Subject.Organization...),
		Extra: map[string][]string{"authentication.kubernetes.io/credential-id": {"X509SHA256=" + hex.EncodeToString(sum[:])}},
	}
}

// request makes a request for the machine's key and returns its name.
func (j *joiner) request(signer string, addresses ...string) string {
	j.Helper()
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "system:node:" + j.name, Organization: []string{"system:nodes"}}}
	usages := []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth}
	if signer == servingSigner {
		usages[1] = certificatesv1.UsageServerAuth
		template.DNSNames = []string{j.name}
		for _, a := range addresses {
			template.IPAddresses = append(template.IPAddresses, net.ParseIP(a))
		}
	}
	return j.submit(j.user(), signer, template, j.key, usages...)
}

// submit makes a request and returns its name.
func (p *plane) submit(user auth.User, signer string, template *x509.CertificateRequest, key crypto.Signer, usages ...certificatesv1.KeyUsage) string {
	p.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	p.must(err)
	made, err := p.env.API.Create(p.ctx, api.Request{User: user, Kind: kind.CertificateSigningRequest}, &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "csr-"},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request:    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
			SignerName: signer, Usages: usages,
			Username: "system:admin", Groups: []string{"system:masters"}, // which nobody may say of himself
		},
	})
	p.must(err)
	return made.GetName()
}

// answer returns what a request is, as kubectl shows it, with the reason of the
// last condition and its certificate.
func (p *plane) answer(request string) (text string, certificate *x509.Certificate) {
	p.Helper()
	p.settle()
	r := get[*certificatesv1.CertificateSigningRequest](p, kind.CertificateSigningRequest, request)
	cells := kind.CertificateSigningRequest.Row(r, time.Now())
	text = cells[len(cells)-1].(string)
	if n := len(r.Status.Conditions); n > 0 {
		text += " " + r.Status.Conditions[n-1].Reason
	}
	if len(r.Status.Certificate) == 0 {
		return text, nil
	}
	block, _ := pem.Decode(r.Status.Certificate)
	certificate, err := x509.ParseCertificate(block.Bytes)
	p.must(err)
	return text, certificate
}

// approve decides by hand.
func (p *plane) approve(name string, t certificatesv1.RequestConditionType) {
	p.Helper()
	request := p.to(kind.CertificateSigningRequest, name)
	request.Subresource = "approval"
	_, err := p.env.API.Modify(p.ctx, request, func(obj kind.Object) error {
		r := obj.(*certificatesv1.CertificateSigningRequest)
		r.Status.Conditions = append(r.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{Type: t, Status: "True", Reason: "ByHand"})
		return nil
	})
	p.must(err)
	p.settle()
}

// join gets the machine a client certificate, or fails the test.
func (j *joiner) join() *joiner {
	j.Helper()
	text, certificate := j.answer(j.request(clientSigner))
	equal(j.plane, "join of "+j.name, text, "Approved,Issued AutoApproved")
	j.certificate = certificate
	return j
}

// remembered returns the Secret of a node's name.
func (p *plane) remembered(node string) (*corev1.Secret, bool) {
	return state.Get[*corev1.Secret](p.env.State, kind.Secret, "kube-system", node+".node-key.skiff")
}

func (p *plane) nodeAt(name, address string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}
	return p.create(n).(*corev1.Node)
}
