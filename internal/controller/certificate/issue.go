package certificate

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/kind"
)

// How long a certificate lasts if nobody asks for less, and at least, as
// upstream's.
const (
	defaultLife = 365 * 24 * time.Hour
	minLife     = 10 * time.Minute
)

// errNotOurs is of a request to a signer that somebody else is.
var errNotOurs = errors.New("another signer's")

// issue signs a request that is approved, or says in it why it cannot be.
func (i *issuer) issue(ctx context.Context, r *certificatesv1.CertificateSigningRequest) (*certificatesv1.CertificateSigningRequest, error) {
	if len(r.Status.Certificate) > 0 || kind.CertificateCondition(r, certificatesv1.CertificateApproved) == nil ||
		kind.CertificateCondition(r, certificatesv1.CertificateFailed) != nil {
		return r, nil
	}
	parsed, err := kind.ParseCertificateRequest(r.Spec.Request)
	if err != nil {
		return r, fmt.Errorf("parse request %s: %w", r.Name, err)
	}
	switch err := wellFormed(r.Spec.SignerName, parsed, r.Spec.Usages); {
	case errors.Is(err, errNotOurs):
		return r, nil
	case err != nil:
		i.log.Info("certificate request failed", zap.String("request", r.Name), zap.Error(err))
		return i.fail(ctx, r, err)
	}
	signed, err := i.Authority.Certify(parsed.PublicKey, template(parsed, r.Spec.Usages), life(r.Spec.ExpirationSeconds), i.Clock)
	if err != nil {
		return r, fmt.Errorf("issue certificate for request %s: %w", r.Name, err)
	}
	if err := i.note(ctx, r, parsed, signed); err != nil {
		return r, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed.Raw})
	return i.change(ctx, r, "status", func(r *certificatesv1.CertificateSigningRequest) {
		if len(r.Status.Certificate) == 0 {
			r.Status.Certificate = text
		}
	})
}

// fail says in a request why it cannot be signed.
func (i *issuer) fail(ctx context.Context, r *certificatesv1.CertificateSigningRequest, why error) (*certificatesv1.CertificateSigningRequest, error) {
	return i.change(ctx, r, "status", func(r *certificatesv1.CertificateSigningRequest) {
		if kind.CertificateCondition(r, certificatesv1.CertificateFailed) != nil {
			return
		}
		r.Status.Conditions = append(r.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
			Type: certificatesv1.CertificateFailed, Status: corev1.ConditionTrue,
			Reason: "SignerValidationFailure", Message: why.Error(), LastUpdateTime: kind.Now(),
		})
	})
}

// note remembers a node's new certificate before the node has it: with it, the
// node will ask for the next. Where somebody approved the request by hand, this is
// also when its key is first heard of.
func (i *issuer) note(ctx context.Context, r *certificatesv1.CertificateSigningRequest, parsed *x509.CertificateRequest, signed *x509.Certificate) error {
	q := i.ask(r, parsed)
	if r.Spec.SignerName != certificatesv1.KubeAPIServerClientKubeletSignerName || !nodeName(q.name) || q.name == q.Node {
		return nil
	}
	err := i.remember(ctx, q, func(k *nodeKey) {
		if k.spki == "" {
			k.spki = spkiOf(parsed)
		}
		sum := sha256.Sum256(signed.Raw)
		k.add(hex.EncodeToString(sum[:]), q.credential())
	})
	if err != nil {
		return fmt.Errorf("remember certificate of node %s: %w", q.name, err)
	}
	return nil
}

// life is how long a certificate lasts for which a time is asked.
func life(seconds *int32) time.Duration {
	if seconds == nil {
		return defaultLife
	}
	return min(max(time.Duration(*seconds)*time.Second, minLife), defaultLife)
}

// template is what a certificate says. Of the request's subject only what has a
// name of its own in X.509 is taken over, and none of its extensions.
func template(parsed *x509.CertificateRequest, usages []certificatesv1.KeyUsage) x509.Certificate {
	t := x509.Certificate{
		Subject:  parsed.Subject,
		DNSNames: parsed.DNSNames, IPAddresses: parsed.IPAddresses, EmailAddresses: parsed.EmailAddresses, URIs: parsed.URIs,
		BasicConstraintsValid: true,
	}
	for _, usage := range usages {
		switch usage { // others are not well-formed for any of our signers
		case certificatesv1.UsageDigitalSignature:
			t.KeyUsage |= x509.KeyUsageDigitalSignature
		case certificatesv1.UsageKeyEncipherment:
			t.KeyUsage |= x509.KeyUsageKeyEncipherment
		case certificatesv1.UsageClientAuth:
			t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
		case certificatesv1.UsageServerAuth:
			t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		}
	}
	return t
}

// wellFormed says what is wrong with a request to one of our signers, in
// upstream's words.
func wellFormed(signer string, parsed *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
	switch signer {
	case certificatesv1.KubeAPIServerClientKubeletSignerName:
		return nodeClientForm(parsed, usages)
	case certificatesv1.KubeletServingSignerName:
		return nodeServingForm(parsed, usages)
	case certificatesv1.KubeAPIServerClientSignerName:
		return clientForm(usages)
	}
	return errNotOurs
}

var (
	errOrganization = errors.New("subject organization is not system:nodes")
	errCommonName   = errors.New("subject common name does not begin with system:node:")
	errNamesNeeded  = errors.New("DNS or IP subjectAltName is required")
	errDNSNames     = errors.New("DNS subjectAltNames are not allowed")
	errEmails       = errors.New("Email subjectAltNames are not allowed") //nolint:staticcheck // upstream's text
	errAddresses    = errors.New("IP subjectAltNames are not allowed")
	errURIs         = errors.New("URI subjectAltNames are not allowed")
)

func nodeClientForm(parsed *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
	switch {
	case !slices.Equal(parsed.Subject.Organization, []string{groupNodes}):
		return errOrganization
	case len(parsed.DNSNames) > 0:
		return errDNSNames
	case len(parsed.EmailAddresses) > 0:
		return errEmails
	case len(parsed.IPAddresses) > 0:
		return errAddresses
	case len(parsed.URIs) > 0:
		return errURIs
	case !strings.HasPrefix(parsed.Subject.CommonName, nodeUser):
		return errCommonName
	}
	return nodeUsages(usages, certificatesv1.UsageClientAuth)
}

func nodeServingForm(parsed *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
	switch {
	case !slices.Equal(parsed.Subject.Organization, []string{groupNodes}):
		return errOrganization
	case len(parsed.DNSNames)+len(parsed.IPAddresses) == 0:
		return errNamesNeeded
	case len(parsed.EmailAddresses) > 0:
		return errEmails
	case len(parsed.URIs) > 0:
		return errURIs
	}
	if err := nodeUsages(usages, certificatesv1.UsageServerAuth); err != nil {
		return err
	}
	if !strings.HasPrefix(parsed.Subject.CommonName, nodeUser) {
		return errCommonName
	}
	return nil
}

// nodeUsages demands exactly the usages of a node's certificate; keys other than
// RSA encipher none.
func nodeUsages(usages []certificatesv1.KeyUsage, purpose certificatesv1.KeyUsage) error {
	want := []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment, purpose}
	slices.Sort(want)
	have := slices.Sorted(slices.Values(usages))
	have = slices.Compact(have)
	plain := slices.DeleteFunc(slices.Clone(want), func(u certificatesv1.KeyUsage) bool { return u == certificatesv1.UsageKeyEncipherment })
	if !slices.Equal(have, want) && !slices.Equal(have, plain) {
		return fmt.Errorf("usages did not match %v", want)
	}
	return nil
}

func clientForm(usages []certificatesv1.KeyUsage) error {
	for _, usage := range usages {
		switch usage {
		case certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment, certificatesv1.UsageClientAuth:
		default:
			return fmt.Errorf("invalid usage for client certificate: %s", usage)
		}
	}
	if !slices.Contains(usages, certificatesv1.UsageClientAuth) {
		return fmt.Errorf("missing required usage for client certificate: %s", certificatesv1.UsageClientAuth)
	}
	return nil
}
