package controller_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/admission"
	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/auth"
	"github.com/skiff-sh/skiff/internal/kind"
)

func TestNodeJoins(t *testing.T) {
	inPlane(t, func(p *plane) {
		a := p.joiner("a").join()
		c := a.certificate
		if c.Subject.String() != "CN=system:node:a,O=system:nodes" || !a.key.Public().(*ecdsa.PublicKey).Equal(c.PublicKey) || c.IsCA ||
			len(c.ExtKeyUsage) != 1 || c.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth {
			t.Errorf("certificate: %+v", c)
		}
		if !c.NotBefore.Equal(time.Unix(0, 0)) || !c.NotAfter.Equal(time.Now().AddDate(0, 0, 365)) {
			t.Errorf("it is valid from %s to %s", c.NotBefore, c.NotAfter)
		}
		p.must(c.CheckSignatureFrom(p.ca.Certificate))

		text, serving := a.answer(a.request(servingSigner, "198.51.100.7"))
		equal(p, "serving certificate", text, "Approved,Issued AutoApproved")
		p.must(serving.VerifyHostname("198.51.100.7"))
		secret, _ := p.remembered("a")
		if len(secret.OwnerReferences) != 0 {
			t.Errorf("the Secret is owned by %v", secret.OwnerReferences)
		}
		node := p.nodeAt("a", "198.51.100.7")
		if secret, _ = p.remembered("a"); len(secret.OwnerReferences) != 1 || secret.OwnerReferences[0].UID != node.UID {
			t.Errorf("the Secret is owned by %v", secret.OwnerReferences)
		}
		a.key = p.newKey()
		a.join() // renewed, with another key
		a.join()
		secret, _ = p.remembered("a")
		spki := sha256.Sum256(a.certificate.RawSubjectPublicKeyInfo)
		equal(p, "remembered key", string(secret.Data["spki-sha256"]), hex.EncodeToString(spki[:]))
	})
}

func TestNamesAreNotTakenOver(t *testing.T) {
	inPlane(t, func(p *plane) {
		a := p.joiner("a").join()
		p.nodeAt("a", "198.51.100.7")
		thief := p.joiner("a")
		text, _ := p.answer(thief.request(clientSigner))
		equal(p, "the name of another", text, "Denied NodeNameTaken")
		again := &joiner{plane: p, name: "a", key: a.key, token: a.token} // has lost its certificate
		again.join()

		p.delete(kind.Node, "a", metav1.DeletePropagationBackground)
		if _, ok := p.remembered("a"); ok {
			t.Error("the key is remembered after the Node was deleted")
		}
		thief.join() // now it is the rightful owner
		p.nodeAt("a", "198.51.100.8")
		for _, signer := range []string{clientSigner, servingSigner} {
			text, _ = p.answer(a.request(signer, "198.51.100.8"))
			equal(p, "the former owner's "+signer, text, "Denied NodeNameTaken")
		}
		thief.join()
	})
}

// A node whose Node is deleted while it runs on registers anew: it goes on, with
// what it has and with what it gets next.
func TestNodeIsDeletedByMistake(t *testing.T) {
	inPlane(t, func(p *plane) {
		a := p.joiner("a").join()
		p.nodeAt("a", "198.51.100.7")
		p.delete(kind.Node, "a", metav1.DeletePropagationBackground)
		p.nodeAt("a", "198.51.100.7")
		text, _ := p.answer(p.joiner("a").request(clientSigner))
		equal(p, "another machine", text, "Denied NodeNameTaken")
		before := a.certificate
		a.key = p.newKey()
		a.join()
		secret, ok := p.remembered("a")
		if !ok {
			t.Fatal("nothing is remembered")
		}
		for _, c := range []*x509.Certificate{before, a.certificate} {
			sum := sha256.Sum256(c.Raw)
			if !strings.Contains(string(secret.Data["certificate-sha256"]), hex.EncodeToString(sum[:])) {
				t.Errorf("a certificate that it may still use is forgotten: %s", secret.Data["certificate-sha256"])
			}
		}
		a.certificate = before // the new one was lost on its way
		a.join()
	})
}

// The server's own node has its certificates from elsewhere, and they must stay
// the only ones.
func TestServersNodeIsNotRemembered(t *testing.T) {
	inPlane(t, func(p *plane) {
		box := p.joiner("box")
		request := box.request(clientSigner)
		text, _ := p.answer(request)
		equal(p, "its name", text, "Denied NodeNameTaken")
		byHand := p.submit(auth.User{Name: "admin"}, clientSigner, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "system:node:box", Organization: []string{"system:nodes"}}},
			box.key, "client auth", "digital signature")
		p.approve(byHand, certificatesv1.CertificateApproved)
		text, _ = p.answer(byHand)
		equal(p, "approved by hand", text, "Approved,Issued ByHand")
		if _, ok := p.remembered("box"); ok {
			t.Error("its key is remembered")
		}
	})
}

// Whatever happens between remembering a key and approving it, the name goes to
// that key.
func TestKeyIsRememberedFirst(t *testing.T) {
	fail := true
	broken := admission.Step{Name: "broken", Validate: func(_ context.Context, r *admission.Request) error {
		if fail && r.Subresource == "approval" {
			return errors.New("the disk is full")
		}
		return nil
	}}
	inPlane(t, func(p *plane) {
		first, second := p.joiner("a"), p.joiner("a")
		request := first.request(clientSigner)
		text, _ := p.answer(request)
		equal(p, "request", text, "Pending")
		if _, ok := p.remembered("a"); !ok {
			t.Error("the key is not remembered")
		}
		fail = false
		text, _ = p.answer(second.request(clientSigner))
		equal(p, "second", text, "Denied NodeNameTaken")
		p.pass(time.Minute)
		text, _ = p.answer(request)
		equal(p, "first", text, "Approved,Issued AutoApproved")
	}, broken)
}

// Of many that want one name at once, one gets it.
func TestRaceForAName(t *testing.T) {
	inPlane(t, func(p *plane) {
		var requests []string
		for range 10 {
			requests = append(requests, p.joiner("a").request(clientSigner))
		}
		p.pass(time.Minute)
		won := 0
		for _, r := range requests {
			if text, _ := p.answer(r); strings.HasPrefix(text, "Approved,Issued") {
				won++
			}
		}
		equal(p, "winners", won, 1)
	})
}

// A node that has moved gets its certificate when its Node says so.
func TestServingWaitsForTheNode(t *testing.T) {
	inPlane(t, func(p *plane) {
		a := p.joiner("a").join()
		p.nodeAt("a", "198.51.100.7")
		p.nodeAt("b", "198.51.100.8")
		request := a.request(servingSigner, "198.51.100.9")
		text, _ := p.answer(request)
		equal(p, "before", text, "Pending")
		_, err := p.env.API.Modify(p.ctx, func() api.Request {
			r := p.to(kind.Node, "a")
			r.Subresource = "status"
			return r
		}(), func(obj kind.Object) error {
			obj.(*corev1.Node).Status.Addresses[0].Address = "198.51.100.9"
			return nil
		})
		p.must(err)
		p.settle()
		text, _ = p.answer(request)
		equal(p, "after", text, "Approved,Issued AutoApproved")
		text, _ = p.answer(a.request(servingSigner, "198.51.100.8"))
		equal(p, "another node's address", text, "Denied SubjectAltNameNotAllowed")
	})
}

func TestApprovalByHand(t *testing.T) {
	inPlane(t, func(p *plane) {
		me := auth.User{Name: "me", UID: "7", Groups: []string{"people"}, Extra: map[string][]string{"k": {"v"}}}
		template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "me", Organization: []string{"people"}}}
		ask := func(usages ...certificatesv1.KeyUsage) string {
			return p.submit(me, userSigner, template, p.newKey(), usages...)
		}
		good, bad, refused := ask("client auth"), ask("client auth", "server auth"), ask("client auth")
		spec := get[*certificatesv1.CertificateSigningRequest](p, kind.CertificateSigningRequest, good).Spec
		if spec.Username != "me" || spec.UID != "7" || strings.Join(spec.Groups, " ") != "people" || spec.Extra["k"][0] != "v" {
			t.Errorf("requester: %+v", spec)
		}
		text, _ := p.answer(good)
		equal(p, "undecided", text, "Pending")
		p.approve(good, certificatesv1.CertificateApproved)
		p.approve(bad, certificatesv1.CertificateApproved)
		p.approve(refused, certificatesv1.CertificateDenied)
		text, certificate := p.answer(good)
		equal(p, "approved", text, "Approved,Issued ByHand")
		equal(p, "subject", certificate.Subject.String(), "CN=me,O=people")
		text, _ = p.answer(bad)
		equal(p, "approved but malformed", text, "Approved,Failed SignerValidationFailure")
		text, _ = p.answer(refused)
		equal(p, "denied", text, "Denied ByHand")

		// A node that is approved by hand is one like others from then on.
		odd := p.joiner("odd")
		request := p.submit(me, clientSigner, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "system:node:odd", Organization: []string{"system:nodes"}}},
			odd.key, "client auth", "digital signature")
		p.approve(request, certificatesv1.CertificateApproved)
		if _, odd.certificate = p.answer(request); odd.certificate == nil {
			t.Fatal("no certificate")
		}
		again := &joiner{plane: p, name: "odd", key: odd.key, token: odd.token} // has lost it
		again.join()
		odd.join()
		text, _ = p.answer(p.joiner("odd").request(clientSigner))
		equal(p, "its name", text, "Denied NodeNameTaken")
	})
}

// A decision is of the request that was looked at, as it was.
func TestDecisionsThatComeTooLate(t *testing.T) {
	var meanwhile func(name string)
	slow := admission.Step{Name: "slow", Validate: func(_ context.Context, r *admission.Request) error {
		if r.Subresource == "approval" && meanwhile != nil {
			act := meanwhile
			meanwhile = nil
			act(r.Name)
		}
		return nil
	}}
	inPlane(t, func(p *plane) {
		a := p.joiner("a")
		meanwhile = func(name string) {
			request := p.to(kind.CertificateSigningRequest, name)
			request.Subresource = "approval"
			_, err := p.env.API.Modify(p.ctx, request, func(obj kind.Object) error {
				r := obj.(*certificatesv1.CertificateSigningRequest)
				r.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: certificatesv1.CertificateDenied, Status: "True", Reason: "Faster"}}
				return nil
			})
			p.must(err)
		}
		text, _ := p.answer(a.request(clientSigner))
		equal(p, "denied meanwhile", text, "Denied Faster")
		meanwhile = func(name string) {
			old := get[*certificatesv1.CertificateSigningRequest](p, kind.CertificateSigningRequest, name)
			request := p.to(kind.CertificateSigningRequest, name)
			_, _, err := p.env.API.Delete(p.ctx, request, metav1.DeleteOptions{})
			p.must(err)
			other := &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: old.Spec}
			other.Spec.SignerName = "example.com/other"
			_, err = p.env.API.Create(p.ctx, request, other)
			p.must(err)
		}
		name := a.request(clientSigner)
		p.pass(time.Minute)
		text, _ = p.answer(name)
		equal(p, "replaced meanwhile", text, "Pending")
	}, slow)
}

func TestRequestsAreCleared(t *testing.T) {
	inPlane(t, func(p *plane) {
		a := p.joiner("a").join()
		p.joiner("a").request(clientSigner) // denied
		pending := a.submit(a.user(), "example.com/other", &x509.CertificateRequest{Subject: pkix.Name{CommonName: "x"}}, p.newKey(), "client auth")
		equal(p, "requests", len(p.names(kind.CertificateSigningRequest)), 3)
		p.pass(59 * time.Minute)
		equal(p, "requests after 59 minutes", len(p.names(kind.CertificateSigningRequest)), 3)
		p.pass(2 * time.Minute)
		equal(p, "requests after an hour", strings.Join(p.names(kind.CertificateSigningRequest), " "), pending)
		p.pass(22 * time.Hour)
		equal(p, "requests after 23 hours", len(p.names(kind.CertificateSigningRequest)), 1)
		p.pass(time.Hour)
		equal(p, "requests after a day", len(p.names(kind.CertificateSigningRequest)), 0)
		if _, ok := p.remembered("a"); !ok {
			t.Error("the key was forgotten with the request")
		}
	})
}
