package certificate

import (
	"crypto/x509"
	"encoding/pem"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/skiff-sh/skiff/internal/kind"
)

// How long a request stays, as upstream's csrcleaner keeps it: after its certificate was
// issued, it failed or was denied, and before.
const (
	doneLife    = time.Hour
	pendingLife = 24 * time.Hour
)

// deadline is when a request is to be deleted; zero for never.
func deadline(r *certificatesv1.CertificateSigningRequest) time.Time {
	if len(r.Status.Conditions) == 0 {
		return after(r.CreationTimestamp.Time, pendingLife)
	}
	var first time.Time
	consider := func(t time.Time) {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	for _, t := range []certificatesv1.RequestConditionType{certificatesv1.CertificateDenied, certificatesv1.CertificateFailed} {
		if c := kind.CertificateCondition(r, t); c != nil {
			consider(after(c.LastUpdateTime.Time, doneLife))
		}
	}
	if c := kind.CertificateCondition(r, certificatesv1.CertificateApproved); c != nil {
		if len(r.Status.Certificate) == 0 {
			consider(after(c.LastUpdateTime.Time, pendingLife))
			return first
		}
		consider(after(c.LastUpdateTime.Time, doneLife))
		consider(endOf(r.Status.Certificate))
	}
	return first
}

// after is a time after another, if that is known.
func after(t time.Time, d time.Duration) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Add(d)
}

// endOf returns when the first certificate of a PEM text ends.
func endOf(text []byte) time.Time {
	block, _ := pem.Decode(text)
	if block == nil {
		return time.Time{}
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return time.Time{}
	}
	return certificate.NotAfter
}
