package auth

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

// What package controller/certificate remembers of the machine that has a node's
// name: the Secret NAME.node-key.skiff in kube-system, which belongs to the Node.
const (
	nodeKeySuffix    = ".node-key.skiff"
	nodeKeyData      = "spki-sha256"
	certificatesData = "certificate-sha256" // separated by spaces
)

// Machines authenticates by certificates, but for a node whose name is another
// machine's by now: a certificate cannot be revoked, and two machines under one
// name would both run its Pods. It is told so in a Refusal.
type Machines struct {
	certificates *Certificates
	state        *state.State
}

// NewMachines returns the authenticator.
func NewMachines(s *state.State, certificates *Certificates) Machines {
	return Machines{certificates: certificates, state: s}
}

// Authenticate tells whose the client certificate is.
func (m Machines) Authenticate(r *http.Request) (User, bool, error) {
	user, ok, err := m.certificates.Authenticate(r)
	if !ok || err != nil {
		return user, ok, err
	}
	node, is := strings.CutPrefix(user.Name, nodeUser)
	if is && user.in(GroupNodes) && m.replaced(node, r.TLS.PeerCertificates[0]) {
		return User{}, false, Refusal(fmt.Sprintf("NodeNameTaken: the name of node %q is another machine's by now: join again under another name with --node-name and a token, or, if that machine is gone, after \"kubectl delete node %s\"", node, node))
	}
	return user, true, nil
}

// replaced says whether a node's certificate is neither for the key that has the
// name nor one that was issued to who has it.
func (m Machines) replaced(node string, c *x509.Certificate) bool {
	known, ok := state.Get[*corev1.Secret](m.state, kind.Secret, metav1.NamespaceSystem, node+nodeKeySuffix)
	if !ok || len(known.Data[nodeKeyData]) == 0 || m.void(known, node) {
		return false
	}
	return string(known.Data[nodeKeyData]) != digestOf(c.RawSubjectPublicKeyInfo) &&
		!slices.Contains(strings.Fields(string(known.Data[certificatesData])), digestOf(c.Raw))
}

// void says whether what is remembered is of a Node that is gone.
func (m Machines) void(known *corev1.Secret, node string) bool {
	now, ok := state.Get[*corev1.Node](m.state, kind.Node, "", node)
	return slices.ContainsFunc(known.OwnerReferences, func(ref metav1.OwnerReference) bool {
		return ref.Kind == "Node" && (!ok || now.UID != ref.UID)
	})
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
