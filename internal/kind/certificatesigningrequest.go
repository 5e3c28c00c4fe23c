package kind

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// CertificateSigningRequest describes the kind of that name. Who makes a request
// goes into its spec where it is created (package api), for no client may say.
var CertificateSigningRequest = &Kind{
	Resource:   schema.GroupVersionResource{Group: "certificates.k8s.io", Version: "v1", Resource: "certificatesigningrequests"},
	Kind:       "CertificateSigningRequest",
	Singular:   "certificatesigningrequest",
	ShortNames: []string{"csr"},
	Namespaced: false,
	New:        func() Object { return &certificatesv1.CertificateSigningRequest{} },
	NewList:    func() runtime.Object { return &certificatesv1.CertificateSigningRequestList{} },

	// Nobody makes a request that is approved already.
	PrepareCreate: func(obj Object) {
		asCertificateRequest(obj).Status = certificatesv1.CertificateSigningRequestStatus{}
	},
	PrepareUpdate: func(obj, old Object) {
		c, o := asCertificateRequest(obj), asCertificateRequest(old)
		o.Spec.DeepCopyInto(&c.Spec)
		o.Status.DeepCopyInto(&c.Status)
	},
	Validate: func(obj Object) field.ErrorList { return certificateRequestErrors(asCertificateRequest(obj), nil) },
	ValidateUpdate: func(obj, old Object) field.ErrorList {
		return certificateRequestUpdateErrors(asCertificateRequest(obj), asCertificateRequest(old), "")
	},

	Subresources: []Subresource{
		{
			Name:  "approval",
			Verbs: []string{"get", "patch", "update"},
			PrepareUpdate: func(obj, old Object) {
				prepareApproval(asCertificateRequest(obj), asCertificateRequest(old))
			},
			ValidateUpdate: func(obj, old Object) field.ErrorList {
				return certificateRequestUpdateErrors(asCertificateRequest(obj), asCertificateRequest(old), "approval")
			},
		},
		{
			Name:  "status",
			Verbs: []string{"get", "patch", "update"},
			PrepareUpdate: func(obj, old Object) {
				prepareIssue(asCertificateRequest(obj), asCertificateRequest(old))
			},
			ValidateUpdate: func(obj, old Object) field.ErrorList {
				return certificateRequestUpdateErrors(asCertificateRequest(obj), asCertificateRequest(old), "status")
			},
		},
	},

	Columns: []metav1.TableColumnDefinition{
		nameColumn,
		ageColumn,
		column("SignerName", certificatesv1beta1.CertificateSigningRequestSpec{}.SwaggerDoc()["signerName"]),
		column("Requestor", certificatesv1beta1.CertificateSigningRequestSpec{}.SwaggerDoc()["request"]),
		column("RequestedDuration", certificatesv1beta1.CertificateSigningRequestSpec{}.SwaggerDoc()["expirationSeconds"]),
		column("Condition", certificatesv1beta1.CertificateSigningRequestStatus{}.SwaggerDoc()["conditions"]),
	},
	Row: func(obj Object, now time.Time) []any { return certificateRequestRow(asCertificateRequest(obj), now) },

	FieldNames: []string{"spec.signerName"},
	Fields: func(obj Object) fields.Set {
		return fields.Set{"spec.signerName": asCertificateRequest(obj).Spec.SignerName}
	},
}

func asCertificateRequest(obj Object) *certificatesv1.CertificateSigningRequest {
	return obj.(*certificatesv1.CertificateSigningRequest)
}

// ParseCertificateRequest reads the PEM form of a request for a certificate, as
// spec.request has it. Whether its signature is good, the caller finds out.
func ParseCertificateRequest(text []byte) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("PEM block type must be CERTIFICATE REQUEST")
	}
	return x509.ParseCertificateRequest(block.Bytes)
}

// CertificateCondition returns a request's condition of a type, or nil.
func CertificateCondition(c *certificatesv1.CertificateSigningRequest, t certificatesv1.RequestConditionType) *certificatesv1.CertificateSigningRequestCondition {
	for i := range c.Status.Conditions {
		if c.Status.Conditions[i].Type == t {
			return &c.Status.Conditions[i]
		}
	}
	return nil
}

// prepareApproval leaves of an update the conditions.
func prepareApproval(c, old *certificatesv1.CertificateSigningRequest) {
	conditions := c.Status.Conditions
	old.Spec.DeepCopyInto(&c.Spec)
	old.Status.DeepCopyInto(&c.Status)
	c.Status.Conditions = conditions
	dateConditions(c, old)
}

// prepareIssue leaves of an update the status, and in that what others decide as
// it was: who adds or removes an approval or denial is told so by validation.
func prepareIssue(c, old *certificatesv1.CertificateSigningRequest) {
	old.Spec.DeepCopyInto(&c.Spec)
	for _, t := range []certificatesv1.RequestConditionType{certificatesv1.CertificateApproved, certificatesv1.CertificateDenied} {
		ours, theirs := conditionsOf(c, t), conditionsOf(old, t)
		if len(ours) != len(theirs) {
			continue
		}
		for i := range ours {
			theirs[i].DeepCopyInto(ours[i])
		}
	}
	dateConditions(c, old)
}

// conditionsOf returns all conditions of a type, in their order.
func conditionsOf(c *certificatesv1.CertificateSigningRequest, t certificatesv1.RequestConditionType) []*certificatesv1.CertificateSigningRequestCondition {
	var out []*certificatesv1.CertificateSigningRequestCondition
	for i := range c.Status.Conditions {
		if c.Status.Conditions[i].Type == t {
			out = append(out, &c.Status.Conditions[i])
		}
	}
	return out
}

// dateConditions fills in the times that the client left out.
func dateConditions(c, old *certificatesv1.CertificateSigningRequest) {
	now := Now()
	for i := range c.Status.Conditions {
		condition := &c.Status.Conditions[i]
		if condition.LastUpdateTime.IsZero() {
			condition.LastUpdateTime = now
		}
		if !condition.LastTransitionTime.IsZero() {
			continue
		}
		condition.LastTransitionTime = now
		same := slices.IndexFunc(old.Status.Conditions, func(o certificatesv1.CertificateSigningRequestCondition) bool {
			return o.Type == condition.Type && o.Status == condition.Status && !o.LastTransitionTime.IsZero()
		})
		if same >= 0 {
			condition.LastTransitionTime = old.Status.Conditions[same].LastTransitionTime
		}
	}
}

func certificateRequestRow(c *certificatesv1.CertificateSigningRequest, now time.Time) []any {
	signer, life := "<none>", "<none>"
	if c.Spec.SignerName != "" {
		signer = c.Spec.SignerName
	}
	if seconds := c.Spec.ExpirationSeconds; seconds != nil {
		life = duration.HumanDuration(time.Duration(*seconds) * time.Second)
	}
	return []any{
		c.Name, since(c.CreationTimestamp.Time, now), signer, c.Spec.Username, life, certificateRequestState(c),
	}
}

// certificateRequestState is what kubectl shows as the condition.
func certificateRequestState(c *certificatesv1.CertificateSigningRequest) string {
	text := "Pending"
	switch {
	case CertificateCondition(c, certificatesv1.CertificateDenied) != nil:
		text = "Denied"
	case CertificateCondition(c, certificatesv1.CertificateApproved) != nil:
		text = "Approved"
	}
	if CertificateCondition(c, certificatesv1.CertificateFailed) != nil {
		text += ",Failed"
	}
	if len(c.Status.Certificate) > 0 {
		text += ",Issued"
	}
	return text
}
