package kind

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// asked returns the PEM of a request and of a certificate of the same key.
func asked() (request, certificate []byte) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "me"}}, key)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Unix(1, 0)}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed})
}

func certificateRequest(change ...func(*certificatesv1.CertificateSigningRequest)) *certificatesv1.CertificateSigningRequest {
	request, _ := asked()
	c := &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: "me"},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request: request, SignerName: "example.com/signer", Usages: []certificatesv1.KeyUsage{"client auth"}, Username: "me",
		},
	}
	for _, f := range change {
		f(c)
	}
	return c
}

func certified(t certificatesv1.RequestConditionType, status corev1.ConditionStatus) certificatesv1.CertificateSigningRequestCondition {
	return certificatesv1.CertificateSigningRequestCondition{Type: t, Status: status, Reason: "R"}
}

func TestCertificateRequest(t *testing.T) {
	type request = certificatesv1.CertificateSigningRequest
	_, certificate := asked()
	const usages = `supported values: "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment", "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel", "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime", "server auth", "signing", "timestamping"`
	signer := func(name string) func(*request) { return func(c *request) { c.Spec.SignerName = name } }
	issued := func(text string) func(*request) {
		return func(c *request) { c.Status.Certificate = []byte(text) }
	}
	for name, c := range map[string]struct {
		change func(*request)
		want   []string
	}{
		"good":                {func(*request) {}, nil},
		"no request":          {func(c *request) { c.Spec.Request = nil }, []string{`spec.request: Invalid value: null: PEM block type must be CERTIFICATE REQUEST`}},
		"no usages":           {func(c *request) { c.Spec.Usages = nil }, []string{"spec.usages: Required value"}},
		"unknown usage":       {func(c *request) { c.Spec.Usages = []certificatesv1.KeyUsage{"all"} }, []string{`spec.usages[0]: Unsupported value: "all": ` + usages}},
		"a usage twice":       {func(c *request) { c.Spec.Usages = []certificatesv1.KeyUsage{"any", "any"} }, []string{`spec.usages[1]: Duplicate value: "any"`}},
		"nine minutes":        {func(c *request) { c.Spec.ExpirationSeconds = ptr(int32(540)) }, []string{"spec.expirationSeconds: Invalid value: 540: may not specify a duration less than 600 seconds (10 minutes)"}},
		"ten minutes":         {func(c *request) { c.Spec.ExpirationSeconds = ptr(int32(600)) }, nil},
		"no signer":           {signer(""), []string{"spec.signerName: Required value"}},
		"old signer":          {signer("kubernetes.io/legacy-unknown"), []string{`spec.signerName: Invalid value: "kubernetes.io/legacy-unknown": the legacy signerName is not allowed via this API version`}},
		"signer without path": {signer("example.com"), []string{`spec.signerName: Invalid value: "example.com": must be a fully qualified domain and path of the form 'example.com/signer-name'`}},
		"two paths":           {signer("example.com/a/b"), []string{`spec.signerName: Invalid value: "example.com/a/b": must be a fully qualified domain and path of the form 'example.com/signer-name'`}},
		"short domain":        {signer("example/a"), []string{`spec.signerName: Invalid value: "example": should be a domain with at least two segments separated by dots`}},
		"long path":           {signer("example.com/" + strings.Repeat("a", 200) + "." + strings.Repeat("a", 200)), nil},
		"bad path": {signer("example.com/A.B"), []string{
			`spec.signerName: Invalid value: "A.B": validating label "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')`}},
		"issued":         {issued(string(certificate)), nil},
		"issued a chain": {issued("first\n" + string(certificate) + "then\n" + string(certificate)), nil},
		"issued nothing": {issued("x"), []string{`status.certificate: Invalid value: "<certificate data>": must contain at least one CERTIFICATE PEM block`}},
		"issued a key":   {issued("-----BEGIN KEY-----\nAAAA\n-----END KEY-----\n"), []string{`status.certificate: Invalid value: "<certificate data>": only CERTIFICATE PEM blocks are allowed, found "KEY"`}},
		"issued with notes": {issued(strings.Replace(string(certificate), "-----\n", "-----\nA: b\n\n", 1)), []string{
			`status.certificate: Invalid value: "<certificate data>": no PEM block headers are permitted`}},
		"issued an empty one": {issued("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"), []string{`status.certificate: Invalid value: "<certificate data>": found CERTIFICATE PEM block containing 0 certificates`}},
		"both": {func(c *request) {
			c.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{certified("Approved", "True"), certified("Denied", "True")}
		}, []string{`status.conditions: Invalid value: "Denied": Approved and Denied conditions are mutually exclusive`}},
		"conditions": {func(c *request) {
			c.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{
				certified("Approved", "False"), certified("", "True"), certified("Mine", "Maybe"), certified("Mine", ""), certified("Other", "Unknown")}
		}, []string{
			`status.conditions[0].status: Unsupported value: "False": supported values: "True"`,
			`status.conditions[1].type: Required value`,
			`status.conditions[2].status: Unsupported value: "Maybe": supported values: "False", "True", "Unknown"`,
			`status.conditions[3].status: Required value`,
			`status.conditions[3].type: Duplicate value: "Mine"`,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			sameErrors(t, CertificateSigningRequest.Validate(certificateRequest(c.change)), c.want...)
		})
	}
	forged := certificateRequest()
	block, _ := pem.Decode(forged.Spec.Request)
	block.Bytes[len(block.Bytes)-1] ^= 1
	forged.Spec.Request = pem.EncodeToMemory(block)
	if errs := CertificateSigningRequest.Validate(forged); len(errs) != 1 || errs[0].Field != "spec.request" {
		t.Errorf("a bad signature: %v", errs)
	}
	for name, want := range map[string]int{"A b": 0, "a/b": 1, "..": 1} {
		named := certificateRequest()
		named.Name = name
		if errs := CreateErrors(CertificateSigningRequest, nil, named); len(errs) != want {
			t.Errorf("name %q: %v", name, errs)
		}
	}
}

// What was decided stays, and each part of a request changes its own alone.
func TestCertificateRequestUpdates(t *testing.T) {
	type request = certificatesv1.CertificateSigningRequest
	_, certificate := asked()
	decide := func(types ...certificatesv1.RequestConditionType) func(*request) {
		return func(c *request) {
			for _, t := range types {
				c.Status.Conditions = append(c.Status.Conditions, certified(t, "True"))
			}
		}
	}
	issue := func(c *request) { c.Status.Certificate = certificate }
	const conditions = "status.conditions: Forbidden: updates may not "
	for name, c := range map[string]struct {
		part     string
		old, new []func(*request)
		want     []string
		state    string
	}{
		"approve":                   {"approval", nil, []func(*request){decide("Approved")}, nil, "Approved"},
		"deny":                      {"approval", nil, []func(*request){decide("Denied")}, nil, "Denied"},
		"take back":                 {"approval", []func(*request){decide("Approved")}, nil, []string{conditions + `remove a condition of type "Approved"`}, "Pending"},
		"change one's mind":         {"approval", []func(*request){decide("Denied")}, []func(*request){decide("Approved")}, []string{conditions + `remove a condition of type "Denied"`}, "Approved"},
		"approve and issue":         {"approval", nil, []func(*request){decide("Approved"), issue}, nil, "Approved"},
		"issue":                     {"status", []func(*request){decide("Approved")}, []func(*request){decide("Approved"), issue}, nil, "Approved,Issued"},
		"issue and forget approval": {"status", []func(*request){decide("Approved")}, []func(*request){issue}, []string{conditions + `remove a condition of type "Approved"`}, "Pending,Issued"},
		"approve by issuing":        {"status", nil, []func(*request){decide("Approved"), issue}, []string{conditions + `add a condition of type "Approved"`}, "Approved,Issued"},
		"issue another": {"status", []func(*request){decide("Approved"), issue}, []func(*request){decide("Approved"), func(c *request) { _, c.Status.Certificate = asked() }},
			[]string{"status.certificate: Forbidden: updates may not modify existing certificate content"}, "Approved,Issued"},
		"fail":         {"status", []func(*request){decide("Approved")}, []func(*request){decide("Approved", "Failed")}, nil, "Approved,Failed"},
		"fail no more": {"status", []func(*request){decide("Failed")}, nil, []string{conditions + `remove a condition of type "Failed"`}, "Pending"},
		"main":         {"", []func(*request){decide("Approved"), issue}, []func(*request){decide("Denied")}, nil, "Approved,Issued"},
	} {
		t.Run(name, func(t *testing.T) {
			old, now := certificateRequest(c.old...), certificateRequest(c.new...)
			now.Spec = certificateRequest().Spec
			now.Spec.Username, now.Spec.SignerName = "root", "example.com/other"
			prepare, validate := CertificateSigningRequest.PrepareUpdate, CertificateSigningRequest.ValidateUpdate
			if s := CertificateSigningRequest.Subresource(c.part); s != nil {
				prepare, validate = s.PrepareUpdate, s.ValidateUpdate
			}
			prepare(now, old)
			if now.Spec.Username != "me" || now.Spec.SignerName != "example.com/signer" {
				t.Errorf("spec was changed: %+v", now.Spec)
			}
			sameErrors(t, validate(now, old), c.want...)
			if got := certificateRequestState(now); got != c.state {
				t.Errorf("it is %s, want %s", got, c.state)
			}
		})
	}
}

func TestCertificateRequestTimes(t *testing.T) {
	before := metav1.NewTime(time.Unix(1700000000, 0))
	old := certificateRequest()
	old.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{certified("Mine", "True")}
	old.Status.Conditions[0].LastTransitionTime, old.Status.Conditions[0].LastUpdateTime = before, before
	now := certificateRequest()
	now.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{certified("Mine", "True"), certified("Approved", "True")}
	CertificateSigningRequest.Subresource("approval").PrepareUpdate(now, old)
	mine, approved := now.Status.Conditions[0], now.Status.Conditions[1]
	if mine.LastTransitionTime != before || !mine.LastUpdateTime.After(before.Time) ||
		!approved.LastTransitionTime.After(before.Time) || approved.LastUpdateTime != approved.LastTransitionTime {
		t.Errorf("times: %+v", now.Status.Conditions)
	}
	// The approval's own words cannot be changed by whoever issues.
	forged := now.DeepCopy()
	forged.Status.Conditions[1].Message = "I said so"
	CertificateSigningRequest.Subresource("status").PrepareUpdate(forged, now)
	if forged.Status.Conditions[1].Message != "" {
		t.Errorf("approval: %+v", forged.Status.Conditions[1])
	}
}

func TestCertificateRequestRow(t *testing.T) {
	c := certificateRequest(func(c *certificatesv1.CertificateSigningRequest) { c.Spec.ExpirationSeconds = ptr(int32(86400)) })
	c.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{certified("Approved", "True")}
	rowOf(t, CertificateSigningRequest, c, "me", "3h", "example.com/signer", "me", "24h", "Approved")
	CertificateSigningRequest.PrepareCreate(c)
	c.Spec.ExpirationSeconds = nil
	rowOf(t, CertificateSigningRequest, c, "me", "3h", "example.com/signer", "me", "<none>", "Pending")
	if got := CertificateSigningRequest.Fields(c).Get("spec.signerName"); got != "example.com/signer" {
		t.Errorf("field %q", got)
	}
}
