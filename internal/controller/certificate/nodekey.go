package certificate

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

// What is remembered of a node is in the Secret NAME.node-key.skiff.
const (
	keyNamespace     = metav1.NamespaceSystem
	keySuffix        = ".node-key.skiff"
	keyType          = corev1.SecretType("skiff.sh/node-key")
	spkiData         = "spki-sha256"
	certificatesData = "certificate-sha256" // separated by spaces, the newest first
)

// maxCertificates is how many certificates of a node are remembered: one that was
// issued may be lost on its way, and the node asks again with the one before.
const maxCertificates = 4

// errChanged ends an attempt that was based on what is not so any more.
var errChanged = errors.New("it has changed meanwhile")

// nodeKey is what is remembered of who has a node's name.
type nodeKey struct {
	spki         string   // SHA-256 of the public key, hexadecimal
	certificates []string // SHA-256 of those that were issued to it, the newest first
}

func secretName(node string) string { return node + keySuffix }

func spkiOf(parsed *x509.CertificateRequest) string {
	sum := sha256.Sum256(parsed.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// add remembers a certificate that was issued on the strength of another, which
// stays good until the new one has arrived.
func (k *nodeKey) add(certificate, strength string) {
	list := []string{certificate}
	if slices.Contains(k.certificates, strength) {
		list = append(list, strength)
	}
	for _, c := range k.certificates {
		if len(list) < maxCertificates && !slices.Contains(list, c) {
			list = append(list, c)
		}
	}
	k.certificates = list
}

func readKey(s *corev1.Secret) nodeKey {
	return nodeKey{spki: string(s.Data[spkiData]), certificates: strings.Fields(string(s.Data[certificatesData]))}
}

func (k nodeKey) write(s *corev1.Secret) {
	s.Data = map[string][]byte{spkiData: []byte(k.spki)}
	if len(k.certificates) > 0 {
		s.Data[certificatesData] = []byte(strings.Join(k.certificates, " "))
	}
}

// void says whether what a Secret remembers is of a Node that is gone, even if
// nobody has cleared it away yet.
func void(s *corev1.Secret, node *corev1.Node) bool {
	return slices.ContainsFunc(s.OwnerReferences, func(ref metav1.OwnerReference) bool {
		return ref.Kind == "Node" && (node == nil || node.UID != ref.UID)
	})
}

// own makes a Secret go with the Node.
func own(s *corev1.Secret, node *corev1.Node) {
	s.OwnerReferences = nil
	if node != nil {
		s.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}}
	}
}

// known returns what is remembered of a name, or nil.
func (i *issuer) known(name string, node *corev1.Node) *nodeKey {
	s, ok := state.Get[*corev1.Secret](i.env.State, kind.Secret, keyNamespace, secretName(name))
	if !ok || len(s.Data) == 0 || void(s, node) {
		return nil
	}
	k := readKey(s)
	return &k
}

// remember changes what is remembered of the name that a question is about. It is
// a conflict if that is another's key than the question's by now: then the
// question is to be asked anew.
func (i *issuer) remember(ctx context.Context, q question, change func(*nodeKey)) error {
	request := i.request(kind.Secret, keyNamespace, secretName(q.name))
	_, err := i.env.API.Modify(ctx, request, func(obj kind.Object) error {
		return q.rewrite(obj.(*corev1.Secret), change)
	})
	if !apierrors.IsNotFound(err) || q.known != nil {
		return err
	}
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: keyNamespace, Name: secretName(q.name)}, Type: keyType}
	if err := q.rewrite(s, change); err != nil {
		return err
	}
	_, err = i.env.API.Create(ctx, request, s)
	return err
}

// rewrite changes what a Secret remembers, if it is still what the question was
// asked about. What it remembers of a Node that is gone counts as nothing.
func (q question) rewrite(s *corev1.Secret, change func(*nodeKey)) error {
	k := readKey(s)
	fresh := len(s.Data) == 0 || void(s, q.node)
	if fresh != (q.known == nil) || !fresh && k.spki != q.known.spki {
		return apierrors.NewConflict(kind.Secret.GroupResource(), s.Name, errChanged)
	}
	if fresh {
		k = nodeKey{}
	}
	change(&k)
	k.write(s)
	own(s, q.node)
	return nil
}

// adopt makes what is remembered of a node go with the Node.
func (i *issuer) adopt(ctx context.Context, name string) error {
	node, ok := state.Get[*corev1.Node](i.env.State, kind.Node, "", name)
	if !ok {
		return nil
	}
	s, ok := state.Get[*corev1.Secret](i.env.State, kind.Secret, keyNamespace, secretName(name))
	if !ok || len(s.OwnerReferences) > 0 {
		return nil
	}
	_, err := i.env.API.Modify(ctx, i.request(kind.Secret, keyNamespace, s.Name), func(obj kind.Object) error {
		if s := obj.(*corev1.Secret); len(s.OwnerReferences) == 0 {
			own(s, node)
		}
		return nil
	})
	return err
}
