package kind

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// certificateUsages are all there are, sorted as errors list them.
var certificateUsages = []certificatesv1.KeyUsage{
	certificatesv1.UsageAny, certificatesv1.UsageCertSign, certificatesv1.UsageClientAuth, certificatesv1.UsageCodeSigning,
	certificatesv1.UsageContentCommitment, certificatesv1.UsageCRLSign, certificatesv1.UsageDataEncipherment,
	certificatesv1.UsageDecipherOnly, certificatesv1.UsageDigitalSignature, certificatesv1.UsageEmailProtection,
	certificatesv1.UsageEncipherOnly, certificatesv1.UsageIPsecEndSystem, certificatesv1.UsageIPsecTunnel,
	certificatesv1.UsageIPsecUser, certificatesv1.UsageKeyAgreement, certificatesv1.UsageKeyEncipherment,
	certificatesv1.UsageMicrosoftSGC, certificatesv1.UsageNetscapeSGC, certificatesv1.UsageOCSPSigning,
	certificatesv1.UsageSMIME, certificatesv1.UsageServerAuth, certificatesv1.UsageSigning, certificatesv1.UsageTimestamping,
}

// minCertificateSeconds is the shortest life that may be asked for.
const minCertificateSeconds = 600

// legacySigner signed what named no signer before v1.
const legacySigner = "kubernetes.io/legacy-unknown"

// certificateRequestErrors checks a whole request. What old, which may be nil,
// has too is known to be good.
func certificateRequestErrors(c, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
	spec := field.NewPath("spec")
	var errs field.ErrorList
	if old == nil {
		errs = newMetaErrors(c, nil, anyName)
		if err := checkCertificateRequest(c.Spec.Request); err != nil {
			errs = append(errs, field.Invalid(spec.Child("request"), c.Spec.Request, err.Error()))
		}
	} else {
		errs = newMetaErrors(c, old, anyName)
	}
	errs = append(errs, usageErrors(c.Spec.Usages, spec.Child("usages"))...)
	errs = append(errs, signerErrors(c.Spec.SignerName, spec.Child("signerName"))...)
	if s := c.Spec.ExpirationSeconds; s != nil && *s < minCertificateSeconds {
		errs = append(errs, field.Invalid(spec.Child("expirationSeconds"), *s, "may not specify a duration less than 600 seconds (10 minutes)"))
	}
	status := field.NewPath("status")
	errs = append(errs, certificateConditionErrors(c.Status.Conditions, status.Child("conditions"))...)
	if old != nil && bytes.Equal(c.Status.Certificate, old.Status.Certificate) {
		return errs
	}
	if err := checkIssued(c.Status.Certificate); err != nil {
		errs = append(errs, field.Invalid(status.Child("certificate"), "<certificate data>", err.Error()))
	}
	return errs
}

// anyName is left to the rules that all kinds share.
func anyName(string, bool) []string { return nil }

// checkCertificateRequest also demands that whoever asks has the key.
func checkCertificateRequest(text []byte) error {
	request, err := ParseCertificateRequest(text)
	if err != nil {
		return err
	}
	return request.CheckSignature()
}

func usageErrors(usages []certificatesv1.KeyUsage, path *field.Path) field.ErrorList {
	if len(usages) == 0 {
		return field.ErrorList{field.Required(path, "")}
	}
	var errs field.ErrorList
	for i, usage := range usages {
		errs = append(errs, oneOf(path.Index(i), usage, certificateUsages...)...)
	}
	for i, usage := range usages {
		if slices.Contains(usages[:i], usage) {
			errs = append(errs, field.Duplicate(path.Index(i), usage))
		}
	}
	return errs
}

// signerErrors demands DOMAIN/PATH, as long as a domain with the namespace and
// name of an object can be.
func signerErrors(name string, path *field.Path) field.ErrorList {
	switch name {
	case "":
		return field.ErrorList{field.Required(path, "")}
	case legacySigner:
		return field.ErrorList{field.Invalid(path, name, "the legacy signerName is not allowed via this API version")}
	}
	domain, rest, ok := strings.Cut(name, "/")
	if !ok || strings.Contains(rest, "/") {
		return field.ErrorList{field.Invalid(path, name, "must be a fully qualified domain and path of the form 'example.com/signer-name'")}
	}
	var errs field.ErrorList
	const longest = validation.DNS1123SubdomainMaxLength
	if len(domain) > longest {
		errs = append(errs, field.TooLong(path, "", longest))
	}
	errs = append(errs, eachLabel(path, domain, validation.IsDNS1123Label)...)
	if !strings.Contains(domain, ".") {
		errs = append(errs, field.Invalid(path, domain, "should be a domain with at least two segments separated by dots"))
	}
	errs = append(errs, eachLabel(path, rest, validation.IsDNS1123Subdomain)...)
	const whole = longest + 1 + longest + validation.DNS1123LabelMaxLength + 1
	if len(name) > whole {
		errs = append(errs, field.TooLong(path, "", whole))
	}
	return errs
}

// eachLabel returns what is wrong with the first bad part between dots.
func eachLabel(path *field.Path, text string, check func(string) []string) field.ErrorList {
	var errs field.ErrorList
	for label := range strings.SplitSeq(text, ".") {
		for _, problem := range check(label) {
			errs = append(errs, field.Invalid(path, text, fmt.Sprintf("validating label %q: %s", label, problem)))
		}
		if len(errs) > 0 {
			break
		}
	}
	return errs
}

func certificateConditionErrors(conditions []certificatesv1.CertificateSigningRequestCondition, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := map[certificatesv1.RequestConditionType]bool{}
	for i, c := range conditions {
		at := path.Index(i)
		if c.Type == "" {
			errs = append(errs, field.Required(at.Child("type"), ""))
		}
		known := []corev1.ConditionStatus{corev1.ConditionFalse, corev1.ConditionTrue, corev1.ConditionUnknown}
		switch c.Type {
		case certificatesv1.CertificateApproved, certificatesv1.CertificateDenied, certificatesv1.CertificateFailed:
			known = []corev1.ConditionStatus{corev1.ConditionTrue}
		}
		errs = append(errs, requiredOneOf(at.Child("status"), c.Status, known...)...)
		opposite := map[certificatesv1.RequestConditionType]certificatesv1.RequestConditionType{
			certificatesv1.CertificateApproved: certificatesv1.CertificateDenied,
			certificatesv1.CertificateDenied:   certificatesv1.CertificateApproved,
		}[c.Type]
		if opposite != "" && seen[opposite] {
			errs = append(errs, field.Invalid(path, c.Type, "Approved and Denied conditions are mutually exclusive"))
		}
		if seen[c.Type] {
			errs = append(errs, field.Duplicate(at.Child("type"), c.Type))
		}
		seen[c.Type] = true
	}
	return errs
}

// checkIssued says what is wrong with an issued certificate: PEM of nothing but
// certificates. Text between the blocks is allowed.
func checkIssued(text []byte) error {
	if len(text) == 0 {
		return nil
	}
	blocks := 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("only CERTIFICATE PEM blocks are allowed, found %q", block.Type)
		}
		if len(block.Headers) > 0 {
			return errors.New("no PEM block headers are permitted")
		}
		certificates, err := x509.ParseCertificates(block.Bytes)
		if err != nil {
			return err
		}
		if len(certificates) == 0 {
			return errors.New("found CERTIFICATE PEM block containing 0 certificates")
		}
		blocks++
	}
	if blocks == 0 {
		return errors.New("must contain at least one CERTIFICATE PEM block")
	}
	return nil
}

// certificateRequestUpdateErrors checks an update of a part: approval and denial
// are the approval's to give, and what was decided stays. What else is not the part's
// was put back before.
func certificateRequestUpdateErrors(c, old *certificatesv1.CertificateSigningRequest, part string) field.ErrorList {
	errs := certificateRequestErrors(c, old)
	conditions := field.NewPath("status", "conditions")
	for _, t := range []certificatesv1.RequestConditionType{
		certificatesv1.CertificateApproved, certificatesv1.CertificateDenied, certificatesv1.CertificateFailed,
	} {
		if len(conditionsOf(c, t)) < len(conditionsOf(old, t)) {
			errs = append(errs, field.Forbidden(conditions, fmt.Sprintf("updates may not remove a condition of type %q", t)))
		}
	}
	for _, t := range []certificatesv1.RequestConditionType{certificatesv1.CertificateApproved, certificatesv1.CertificateDenied} {
		if part != "approval" && len(conditionsOf(c, t)) > len(conditionsOf(old, t)) {
			errs = append(errs, field.Forbidden(conditions, fmt.Sprintf("updates may not add a condition of type %q", t)))
		}
	}
	if len(old.Status.Certificate) > 0 && !bytes.Equal(c.Status.Certificate, old.Status.Certificate) {
		errs = append(errs, field.Forbidden(field.NewPath("status", "certificate"), "updates may not modify existing certificate content"))
	}
	return append(errs, metaUpdateErrors(c, old)...)
}
