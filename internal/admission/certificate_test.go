package admission_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"slices"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/admission"
	"github.com/skiff-sh/skiff/internal/kind"
)

func certificateRequest(t *testing.T, signer string, subject pkix.Name) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject}, key)
	if err != nil {
		t.Fatal(err)
	}
	return &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: "r"},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			SignerName: signer, Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
		},
	}
}

// Who decides about a request needs a right on its signer: the one that it was
// made for, whatever the update says.
func TestCertificateDecisions(t *testing.T) {
	s := world(t)
	old := certificateRequest(t, "example.com/a", pkix.Name{CommonName: "me"})
	for name, c := range map[string]struct {
		part   string
		rights []admission.Permission
		change func(*certificatesv1.CertificateSigningRequest)
		want   string // "" is allowed
	}{
		"approve":                {"approval", []admission.Permission{{Verb: "approve", Name: "example.com/a"}}, nil, ""},
		"approve a domain":       {"approval", []admission.Permission{{Verb: "approve", Name: "example.com/*"}}, nil, ""},
		"approve another signer": {"approval", []admission.Permission{{Verb: "approve", Name: "example.com/b"}}, nil, `user not permitted to approve requests with signerName "example.com/a"`},
		"approve with a signature": {"approval", []admission.Permission{{Verb: "sign", Name: "example.com/a"}}, nil,
			`user not permitted to approve requests with signerName "example.com/a"`},
		"approve in disguise": {"approval", []admission.Permission{{Verb: "approve", Name: "example.com/b"}},
			func(c *certificatesv1.CertificateSigningRequest) { c.Spec.SignerName = "example.com/b" },
			`user not permitted to approve requests with signerName "example.com/a"`},
		"sign": {"status", []admission.Permission{{Verb: "sign", Name: "example.com/a"}},
			func(c *certificatesv1.CertificateSigningRequest) { c.Status.Certificate = []byte("c") }, ""},
		"sign without": {"status", []admission.Permission{{Verb: "approve", Name: "example.com/a"}},
			func(c *certificatesv1.CertificateSigningRequest) { c.Status.Certificate = []byte("c") },
			`user not permitted to sign requests with signerName "example.com/a"`},
		"fail without": {"status", nil, func(c *certificatesv1.CertificateSigningRequest) {
			c.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: "Failed"}}
		}, `user not permitted to sign requests with signerName "example.com/a"`},
		"change neither": {"status", nil, nil, ""},
		"label":          {"", nil, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			now := old.DeepCopy()
			if c.change != nil {
				c.change(now)
			}
			err := admit(s, &admission.Request{
				Operation: admission.Update, Kind: kind.CertificateSigningRequest, Subresource: c.part, Object: now, Old: old,
				May: func(_ context.Context, p admission.Permission) bool {
					if p.Group != "certificates.k8s.io" || p.Resource != "signers" {
						t.Errorf("asked for %+v", p)
					}
					return slices.Contains(c.rights, admission.Permission{Verb: p.Verb, Name: p.Name})
				},
			})
			if c.want != "" {
				wantForbidden(t, err, c.want)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestCertificateSubjects(t *testing.T) {
	s := world(t)
	node := admission.User{Name: "system:node:a", Groups: []string{"system:nodes"}}
	masters := pkix.Name{CommonName: "me", Organization: []string{"people", "system:masters"}}
	for name, c := range map[string]struct {
		user    admission.User
		signer  string
		subject pkix.Name
		want    string
	}{
		"master":                 {admission.User{}, certificatesv1.KubeAPIServerClientSignerName, masters, "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"},
		"another signer's":       {admission.User{}, "example.com/a", masters, ""},
		"user":                   {admission.User{}, certificatesv1.KubeAPIServerClientSignerName, pkix.Name{CommonName: "me"}, ""},
		"node":                   {node, certificatesv1.KubeAPIServerClientKubeletSignerName, pkix.Name{CommonName: "system:node:a"}, ""},
		"another node":           {node, certificatesv1.KubeAPIServerClientKubeletSignerName, pkix.Name{CommonName: "system:node:b"}, "can only create a node CSR with CN=system:node:a"},
		"serving as another":     {node, certificatesv1.KubeletServingSignerName, pkix.Name{CommonName: "b"}, "can only create a node CSR with CN=system:node:a"},
		"node, another signer's": {node, "example.com/a", pkix.Name{CommonName: "b"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := creation(kind.CertificateSigningRequest, certificateRequest(t, c.signer, c.subject))
			r.User = c.user
			err := admit(s, r)
			if c.want != "" {
				wantForbidden(t, err, c.want)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}
