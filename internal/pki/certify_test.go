package pki

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"strings"
	"testing"
	"time"
)

func TestCertify(t *testing.T) {
	ca, err := NewAuthority("ca", clockAt(build))
	if err != nil {
		t.Fatal(err)
	}
	key, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{Subject: pkix.Name{CommonName: "someone"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for name, c := range map[string]struct {
		now  time.Time
		life time.Duration
		end  time.Time
	}{
		"an hour":                   {build.Add(time.Hour), time.Hour, build.Add(2 * time.Hour)},
		"a clock before the build":  {time.Unix(0, 0), time.Hour, build.Add(time.Hour)},
		"longer than the authority": {build.Add(authorityLife - time.Hour), 2 * time.Hour, build.Add(authorityLife)},
		"the authority has ended":   {build.Add(authorityLife), time.Hour, time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ca.Certify(key.Public(), template, c.life, clockAt(c.now))
			if c.end.IsZero() {
				if err == nil || !strings.Contains(err.Error(), "ended at") {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !got.NotAfter.Equal(c.end) || !got.NotBefore.Equal(beginning) {
				t.Errorf("from %s to %s, want the end %s", got.NotBefore, got.NotAfter, c.end)
			}
			if !key.PublicKey.Equal(got.PublicKey) || got.CheckSignatureFrom(ca.Certificate) != nil || got.Subject.CommonName != "someone" {
				t.Errorf("certificate %+v", got.Subject)
			}
		})
	}
	if template.SerialNumber != nil {
		t.Error("the template was changed")
	}
}
