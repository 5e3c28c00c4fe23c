package api

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	restclient "k8s.io/client-go/rest"

	"github.com/skiff-sh/skiff/internal/controller"
	"github.com/skiff-sh/skiff/internal/controller/certificate"
	"github.com/skiff-sh/skiff/internal/pki"
)

// requestOf makes a request that the key's owner signs.
func requestOf(key crypto.Signer, template *x509.CertificateRequest, signer string, usages ...certificatesv1.KeyUsage) *certificatesv1.CertificateSigningRequest {
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		panic(err) // a template of ours
	}
	return &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "csr-"},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), SignerName: signer, Usages: usages,
		},
	}
}

func newKey() crypto.Signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

// userRequest is what a person asks for.
func userRequest(name string, life time.Duration) *certificatesv1.CertificateSigningRequest {
	r := requestOf(newKey(), &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}},
		certificatesv1.KubeAPIServerClientSignerName, certificatesv1.UsageClientAuth)
	seconds := int32(life / time.Second)
	r.Spec.ExpirationSeconds = &seconds
	return r
}

// issue runs the controller of certificates beside the plane until the test ends.
func (p *plane) issue() {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	p.t.Cleanup(func() { cancel(); running.Wait() })
	env := controller.Environment{State: p.state, API: p.api, Log: zap.NewNop(), Panics: &atomic.Int64{}}
	c := certificate.New(env, certificate.Config{
		Authority: p.ca, API: pki.NewIdentity(p.serving), Node: "box", Domain: "cluster.local", Clock: clock,
	})
	running.Go(func() {
		if err := c.Run(ctx, env); err != nil && ctx.Err() == nil {
			p.t.Errorf("issue certificates: %v", err)
		}
		if env.Panics.Load() > 0 {
			p.t.Error("the controller panicked")
		}
	})
}

// until watches a request, as its maker may, until it is as wanted.
func until(t *testing.T, client kubernetes.Interface, name string, done func(*certificatesv1.CertificateSigningRequest) bool) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	w := must(client.CertificatesV1().CertificateSigningRequests().Watch(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String(),
	}))(t)
	defer w.Stop()
	for e := range w.ResultChan() {
		if r, ok := e.Object.(*certificatesv1.CertificateSigningRequest); ok && done(r) {
			return r
		}
	}
	t.Fatalf("request %s never became as wanted", name)
	return nil
}

func issued(r *certificatesv1.CertificateSigningRequest) bool { return len(r.Status.Certificate) > 0 }

// with returns the configuration of a client with an issued certificate.
func (p *plane) with(r *certificatesv1.CertificateSigningRequest, key crypto.Signer) *restclient.Config {
	p.t.Helper()
	encoded := must(pki.Pair{Key: key}.KeyPEM())(p.t)
	return &restclient.Config{
		Host: "https://" + p.address, QPS: -1,
		TLSClientConfig: restclient.TLSClientConfig{CAData: p.ca.CertificatePEM(), CertData: r.Status.Certificate, KeyData: encoded},
	}
}

// What kubectl certificate does: approve and deny through the subresource. The
// certificate then lets its owner in.
func TestCertificateForAPerson(t *testing.T) {
	p := start(t, nil)
	p.issue()
	admin := p.client()
	requests := admin.CertificatesV1().CertificateSigningRequests()
	key := newKey()
	asked := requestOf(key, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "jo", Organization: []string{"people"}}},
		certificatesv1.KubeAPIServerClientSignerName, certificatesv1.UsageClientAuth)
	asked.Spec.Username, asked.Spec.Groups = "somebody", []string{"system:nodes"}
	made := must(requests.Create(t.Context(), asked, metav1.CreateOptions{}))(t)
	if made.Spec.Username != "admin" || made.Spec.Groups[0] != "system:masters" || len(made.Spec.Extra["authentication.kubernetes.io/credential-id"]) != 1 {
		t.Errorf("requester: %+v", made.Spec)
	}
	forged := made.DeepCopy()
	forged.Spec.Username, forged.Labels = "root", map[string]string{"a": "b"}
	if got := must(requests.Update(t.Context(), forged, metav1.UpdateOptions{}))(t); got.Spec.Username != "admin" || got.Labels["a"] != "b" {
		t.Errorf("after an update: %+v", got)
	}
	approve := func(name string, condition certificatesv1.RequestConditionType) error {
		r := must(requests.Get(t.Context(), name, metav1.GetOptions{}))(t)
		r.Status.Conditions = append(r.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
			Type: condition, Status: corev1.ConditionTrue, Reason: "KubectlApprove", Message: "by hand", LastUpdateTime: metav1.Now(),
		})
		_, err := requests.UpdateApproval(t.Context(), name, r, metav1.UpdateOptions{})
		return err
	}
	if err := approve(made.Name, certificatesv1.CertificateApproved); err != nil {
		t.Fatal(err)
	}
	done := until(t, admin, made.Name, issued)
	if err := approve(made.Name, certificatesv1.CertificateDenied); !apierrors.IsInvalid(err) {
		t.Errorf("denied after it was approved: %v", err)
	}
	jo := must(kubernetes.NewForConfig(p.with(done, key)))(t)
	who := must(jo.AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{}))(t)
	if u := who.Status.UserInfo; u.Username != "jo" || u.Groups[0] != "people" {
		t.Errorf("the certificate's owner is %+v", u)
	}
	if _, err := jo.CertificatesV1().CertificateSigningRequests().Get(t.Context(), made.Name, metav1.GetOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("a person without rights reads requests: %v", err)
	}

	refused := must(requests.Create(t.Context(), userRequest("jim", time.Hour), metav1.CreateOptions{}))(t)
	if err := approve(refused.Name, certificatesv1.CertificateDenied); err != nil {
		t.Fatal(err)
	}
	for selector, want := range map[string]int{
		"spec.signerName=kubernetes.io/kube-apiserver-client": 2, "spec.signerName!=kubernetes.io/kube-apiserver-client": 0,
	} {
		if list := must(requests.List(t.Context(), metav1.ListOptions{FieldSelector: selector}))(t); len(list.Items) != want {
			t.Errorf("%s selects %d", selector, len(list.Items))
		}
	}
	_, err := requests.Patch(t.Context(), refused.Name, types.MergePatchType, []byte(`{"status":{"certificate":"eA=="}}`), metav1.PatchOptions{}, "status")
	if !apierrors.IsInvalid(err) {
		t.Errorf("issued something that is no certificate: %v", err)
	}
	_, err = requests.Create(t.Context(), requestOf(newKey(), &x509.CertificateRequest{Subject: pkix.Name{CommonName: "me", Organization: []string{"system:masters"}}},
		certificatesv1.KubeAPIServerClientSignerName, certificatesv1.UsageClientAuth), metav1.CreateOptions{})
	if !apierrors.IsForbidden(err) {
		t.Errorf("asked to be a master: %v", err)
	}
}

// nodeClient is what a node asks for to be a client.
func nodeClient(key crypto.Signer, name string) *certificatesv1.CertificateSigningRequest {
	return requestOf(key, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "system:node:" + name, Organization: []string{"system:nodes"}}},
		certificatesv1.KubeAPIServerClientKubeletSignerName, certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth)
}

// A machine joins, registers, serves and renews, each with what it got before.
func TestNodeJoinsOverHTTP(t *testing.T) {
	p := start(t, nil)
	p.issue()
	ask := func(as *restclient.Config, r *certificatesv1.CertificateSigningRequest) (kubernetes.Interface, string) {
		t.Helper()
		client := must(kubernetes.NewForConfig(as))(t)
		return client, must(client.CertificatesV1().CertificateSigningRequests().Create(t.Context(), r, metav1.CreateOptions{}))(t).Name
	}
	decided := func(r *certificatesv1.CertificateSigningRequest) bool {
		return issued(r) || len(r.Status.Conditions) > 0 && r.Status.Conditions[0].Type == certificatesv1.CertificateDenied
	}
	token := p.as("system:bootstrap:abcdef", "system:bootstrappers")
	key := newKey()
	client, name := ask(token, nodeClient(key, "worker"))
	joined := p.with(until(t, client, name, issued), key)

	serving := requestOf(newKey(), &x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: "system:node:worker", Organization: []string{"system:nodes"}},
		DNSNames: []string{"worker", "localhost"}, IPAddresses: []net.IP{net.ParseIP("198.51.100.7"), net.ParseIP("127.0.0.1")},
	}, certificatesv1.KubeletServingSignerName, certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth)
	client, name = ask(joined, serving)
	until(t, client, name, issued)
	must(client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "worker"}}, metav1.CreateOptions{}))(t)

	next := newKey()
	client, name = ask(joined, nodeClient(next, "worker"))
	renewed := p.with(until(t, client, name, issued), next)
	client, name = ask(renewed, nodeClient(newKey(), "worker"))
	until(t, client, name, issued)

	client, name = ask(token, nodeClient(newKey(), "worker"))
	denied := until(t, client, name, decided)
	if c := denied.Status.Conditions[0]; c.Type != certificatesv1.CertificateDenied || c.Reason != "NodeNameTaken" {
		t.Errorf("another machine under the same name: %+v", c)
	}
	_, err := must(kubernetes.NewForConfig(renewed))(t).CertificatesV1().CertificateSigningRequests().Create(t.Context(), nodeClient(newKey(), "other"), metav1.CreateOptions{})
	if !apierrors.IsForbidden(err) {
		t.Errorf("a node asks in another's name: %v", err)
	}
	denied.Status.Conditions[0].Type = certificatesv1.CertificateApproved
	if _, err := must(kubernetes.NewForConfig(renewed))(t).CertificatesV1().CertificateSigningRequests().UpdateApproval(t.Context(), name, denied, metav1.UpdateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("a node approves: %v", err)
	}
}
