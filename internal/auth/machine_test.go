package auth

import (
	"crypto/x509"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// remembered is what is remembered of the node n1, whose Node has the UID.
func remembered(key *x509.Certificate, uid string, issued ...*x509.Certificate) *corev1.Secret {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "n1.node-key.skiff", UID: "u", CreationTimestamp: metav1.Now()}}
	var digests []string
	for _, c := range issued {
		digests = append(digests, digestOf(c.Raw))
	}
	s.Data = map[string][]byte{"spki-sha256": []byte(digestOf(key.RawSubjectPublicKeyInfo)), "certificate-sha256": []byte(strings.Join(digests, " "))}
	if uid != "" {
		s.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "n1", UID: types.UID(uid)}}
	}
	return s
}

// A machine whose name another one has got is no node any more, whatever its
// certificate says.
func TestMachineThatWasReplaced(t *testing.T) {
	ours := newAuthority(t)
	nodes := []string{GroupNodes}
	own, renewed, other := ours.client("system:node:n1", nodes), ours.client("system:node:n1", nodes), ours.client("system:node:n1", nodes)
	uid := string(node("n1").UID)
	cleared := remembered(other, "")
	cleared.Data = nil
	for name, c := range map[string]struct {
		secret *corev1.Secret
		cert   *x509.Certificate
		taken  bool
	}{
		"nothing is remembered":         {nil, own, false},
		"its key":                       {remembered(own, uid), own, false},
		"its key, before it registered": {remembered(own, ""), own, false},
		"it has brought another key":    {remembered(renewed, uid, renewed, own), own, false},
		"another machine's":             {remembered(other, uid, other), own, true},
		"another machine's, newly":      {remembered(other, "", other), own, true},
		"of a Node that is gone":        {remembered(other, "gone", other), own, false},
		"cleared":                       {cleared, own, false},
		"no node, by its group":         {remembered(other, uid), ours.client("system:node:n1", nil), false},
		"another node":                  {remembered(other, uid), ours.client("system:node:n2", nodes), false},
	} {
		t.Run(name, func(t *testing.T) {
			s := stateWith(t, node("n1"))
			if c.secret != nil {
				put(t, s, c.secret)
			}
			user, ok, err := NewMachines(s, NewCertificates(ours.pool(), newClock().now)).Authenticate(over(c.cert))
			if c.taken {
				if refusal := Refusal(""); ok || err == nil || !errors.As(err, &refusal) || !strings.HasPrefix(string(refusal), `NodeNameTaken: the name of node "n1" is another machine's`) {
					t.Errorf("got %+v, %v", user, err)
				}
				return
			}
			if !ok || err != nil || user.Name != c.cert.Subject.CommonName {
				t.Errorf("got %+v, %v", user, err)
			}
		})
	}
}
