package api

import (
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/skiff-sh/skiff/internal/auth"
	"github.com/skiff-sh/skiff/internal/kind"
)

// nameRequester writes who asks into a new request for a certificate, over
// whatever the client, or admission, may have written there.
func nameRequester(obj kind.Object, u auth.User) {
	c, ok := obj.(*certificatesv1.CertificateSigningRequest)
	if !ok {
		return
	}
	c.Spec.Username, c.Spec.UID, c.Spec.Groups, c.Spec.Extra = u.Name, u.UID, slices.Clone(u.Groups), nil
	if len(u.Extra) == 0 {
		return
	}
	c.Spec.Extra = map[string]certificatesv1.ExtraValue{}
	for key, values := range u.Extra {
		c.Spec.Extra[key] = slices.Clone(values)
	}
}
