package admission

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/skiff-sh/skiff/internal/kind"
)

// Permission is a right that a request needs beyond the one to make it.
type Permission struct {
	Verb, Group, Resource, Name string
}

// may reports whether the user has a right. Where nobody can be asked, the
// request comes from the server itself.
func (r *Request) may(ctx context.Context, p Permission) bool {
	return r.May == nil || r.May(ctx, p)
}

// maySigner asks for a verb on a signer, by its name or by all of its domain.
func (r *Request) maySigner(ctx context.Context, verb, signer string) bool {
	domain, _, _ := strings.Cut(signer, "/")
	for _, name := range []string{signer, domain + "/*"} {
		if r.may(ctx, Permission{Verb: verb, Group: certificatesv1.GroupName, Resource: "signers", Name: name}) {
			return true
		}
	}
	return false
}

// certificateApproval demands the right to approve what goes to a signer of
// whoever approves or denies a request. It is the request as it was that counts.
func certificateApproval() Step {
	return Step{
		Name: "CertificateApproval",
		Validate: func(ctx context.Context, r *Request) error {
			if r.Operation != Update || !r.is(kind.CertificateSigningRequest, "approval") {
				return nil
			}
			signer := r.Old.(*certificatesv1.CertificateSigningRequest).Spec.SignerName
			if !r.maySigner(ctx, "approve", signer) {
				return r.Forbid(fmt.Errorf("user not permitted to approve requests with signerName %q", signer))
			}
			return nil
		},
	}
}

// certificateSigning demands the right to sign for a signer of whoever issues a
// certificate or gives a request up.
func certificateSigning() Step {
	return Step{
		Name: "CertificateSigning",
		Validate: func(ctx context.Context, r *Request) error {
			if r.Operation != Update || !r.is(kind.CertificateSigningRequest, "status") {
				return nil
			}
			now, before := r.Object.(*certificatesv1.CertificateSigningRequest), r.Old.(*certificatesv1.CertificateSigningRequest)
			if bytes.Equal(now.Status.Certificate, before.Status.Certificate) &&
				equality.Semantic.DeepEqual(now.Status.Conditions, before.Status.Conditions) {
				return nil
			}
			if signer := before.Spec.SignerName; !r.maySigner(ctx, "sign", signer) {
				return r.Forbid(fmt.Errorf("user not permitted to sign requests with signerName %q", signer))
			}
			return nil
		},
	}
}

// certificateSubjectRestriction keeps anyone from becoming a master by a
// certificate that somebody approves without reading it.
func certificateSubjectRestriction() Step {
	return Step{
		Name: "CertificateSubjectRestriction",
		Validate: func(_ context.Context, r *Request) error {
			if r.Operation != Create || !r.is(kind.CertificateSigningRequest, "") {
				return nil
			}
			asked := r.Object.(*certificatesv1.CertificateSigningRequest).Spec
			if asked.SignerName != certificatesv1.KubeAPIServerClientSignerName {
				return nil
			}
			parsed, err := kind.ParseCertificateRequest(asked.Request)
			if err != nil {
				return r.Forbid(fmt.Errorf("failed to parse CSR: %w", err))
			}
			if slices.Contains(parsed.Subject.Organization, "system:masters") {
				return r.Forbid(fmt.Errorf("use of %s signer with system:masters group is not allowed", asked.SignerName))
			}
			return nil
		},
	}
}

// certificateRequest: a node asks for certificates in its own name alone.
func (n restricted) certificateRequest(r *Request) error {
	if r.Operation != Create || r.Subresource != "" {
		return nil
	}
	asked := r.Object.(*certificatesv1.CertificateSigningRequest).Spec
	switch asked.SignerName {
	case certificatesv1.KubeletServingSignerName, certificatesv1.KubeAPIServerClientKubeletSignerName:
	default:
		return nil
	}
	parsed, err := kind.ParseCertificateRequest(asked.Request)
	if err != nil {
		return r.Forbid(fmt.Errorf("unable to parse csr: %w", err))
	}
	if own := "system:node:" + n.name; parsed.Subject.CommonName != own {
		return r.Forbid(fmt.Errorf("can only create a node CSR with CN=%s", own))
	}
	return nil
}
