package join

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	certificates "k8s.io/client-go/kubernetes/typed/certificates/v1"

	"github.com/skiff-sh/skiff/internal/pki"
)

// Names of a node as the cluster has them.
const (
	nodePrefix = "system:node:"
	nodesGroup = "system:nodes"
)

func userOf(node string) string { return nodePrefix + node }

func nodeOf(c *x509.Certificate) string { return strings.TrimPrefix(c.Subject.CommonName, nodePrefix) }

// wanted is a certificate to ask for.
type wanted struct {
	file      string // clientName or servingName
	node      string
	signer    string
	usage     certificatesv1.KeyUsage
	names     []string
	addresses []netip.Addr
	replaces  *x509.Certificate // the one that this is to follow, if any
}

func wantClient(node string, replaces *x509.Certificate) wanted {
	return wanted{
		file: clientName, node: node, replaces: replaces,
		signer: certificatesv1.KubeAPIServerClientKubeletSignerName, usage: certificatesv1.UsageClientAuth,
	}
}

func wantServing(node string, addresses []netip.Addr, replaces *x509.Certificate) wanted {
	addresses = append(slices.Clone(addresses), netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	slices.SortFunc(addresses, netip.Addr.Compare)
	return wanted{
		file: servingName, node: node, replaces: replaces,
		signer: certificatesv1.KubeletServingSignerName, usage: certificatesv1.UsageServerAuth,
		names: []string{node, "localhost"}, addresses: slices.Compact(addresses),
	}
}

// isMet says whether a certificate has all the names and addresses.
func (w wanted) isMet(c *x509.Certificate) bool {
	for _, name := range w.names {
		if c.VerifyHostname(name) != nil {
			return false
		}
	}
	for _, a := range w.addresses {
		if c.VerifyHostname(a.String()) != nil {
			return false
		}
	}
	return c.Subject.CommonName == userOf(w.node)
}

// name is the request's. The same wish of the same machine has the same name, so
// that who was interrupted finds what he asked for. What was denied stays so;
// each further attempt has a name of its own.
func (w wanted) name(key crypto.Signer, as string, attempt int) (string, error) {
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return "", fmt.Errorf("encode public key: %w", err)
	}
	follows := ""
	if w.replaces != nil {
		follows = w.replaces.SerialNumber.String()
	}
	sum := sha256.Sum256(fmt.Appendf(spki, "%q %q %q %q %q %q %d", as, w.signer, w.node, w.names, w.addresses, follows, attempt))
	return "node-csr-" + hex.EncodeToString(sum[:16]), nil
}

// encode returns the request in PEM form.
func (w wanted) encode(key crypto.Signer) ([]byte, error) {
	template := x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: userOf(w.node), Organization: []string{nodesGroup}},
		DNSNames: w.names,
	}
	for _, a := range w.addresses {
		template.IPAddresses = append(template.IPAddresses, net.IP(a.AsSlice()))
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// approvalTime is how long to watch for a decision before saying that there is
// none. The cluster's own takes a moment.
const approvalTime = 10 * time.Second

// requester gets certificates signed by the cluster.
type requester struct {
	requests certificates.CertificateSigningRequestInterface
	as       string // who asks: nobody sees the requests of others
	explain  func(error) error
	keep     *Directory
	root     *x509.Certificate
	clock    pki.Clock
	log      *zap.Logger
}

// get asks for a certificate, waits for it, and keeps it beside its key. A
// *Problem says what the cluster has against it.
func (r *requester) get(ctx context.Context, w wanted) (pki.Pair, error) {
	key, err := r.keep.key(w.file)
	if err != nil {
		return pki.Pair{}, err
	}
	for attempt := 0; ; attempt++ {
		asked, fresh, err := r.submit(ctx, w, key, attempt)
		if err == nil {
			asked, err = r.await(ctx, asked)
		}
		if err != nil {
			return pki.Pair{}, r.explain(err)
		}
		certificate, err := r.outcome(asked, key)
		if err != nil && !fresh {
			continue // that was another time's
		}
		if err != nil {
			return pki.Pair{}, err
		}
		pair := pki.Pair{Certificate: certificate, Key: key}
		return pair, r.keep.writeCertificate(w.file, pair)
	}
}

// submit finds the request that is there, or makes it: then it is fresh.
func (r *requester) submit(ctx context.Context, w wanted, key crypto.Signer, attempt int) (asked *certificatesv1.CertificateSigningRequest, fresh bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	name, err := w.name(key, r.as, attempt)
	if err != nil {
		return nil, false, err
	}
	asked, err = r.requests.Get(ctx, name, metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		return asked, false, err
	}
	encoded, err := w.encode(key)
	if err != nil {
		return nil, false, err
	}
	asked, err = r.requests.Create(ctx, &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request: encoded, SignerName: w.signer,
			Usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, w.usage},
		},
	}, metav1.CreateOptions{})
	if err == nil {
		r.log.Info("certificate requested", zap.String("request", name), zap.String("signer", w.signer))
	}
	return asked, true, err
}

// await waits until the request is decided. When the watch ends before that, the
// error is a *Problem that waits.
func (r *requester) await(ctx context.Context, asked *certificatesv1.CertificateSigningRequest) (*certificatesv1.CertificateSigningRequest, error) {
	if decided(asked) {
		return asked, nil
	}
	ctx, cancel := context.WithTimeout(ctx, approvalTime)
	defer cancel()
	w, err := r.requests.Watch(ctx, metav1.ListOptions{
		FieldSelector:   fields.OneTermEqualSelector(metav1.ObjectNameField, asked.Name).String(),
		ResourceVersion: asked.ResourceVersion,
	})
	if err != nil {
		return nil, err
	}
	defer w.Stop()
	for event := range w.ResultChan() {
		if now, ok := event.Object.(*certificatesv1.CertificateSigningRequest); ok && event.Type != watch.Deleted && decided(now) {
			return now, nil
		}
	}
	if err := context.Cause(ctx); errors.Is(err, context.Canceled) {
		return nil, err
	}
	return nil, undecided(asked.Name)
}

// decided says whether more is to come of a request.
func decided(asked *certificatesv1.CertificateSigningRequest) bool {
	return len(asked.Status.Certificate) > 0 || refusal(asked) != nil
}

// refusal returns the condition that says there will be no certificate.
func refusal(asked *certificatesv1.CertificateSigningRequest) *certificatesv1.CertificateSigningRequestCondition {
	for i, c := range asked.Status.Conditions {
		if c.Type == certificatesv1.CertificateDenied || c.Type == certificatesv1.CertificateFailed {
			return &asked.Status.Conditions[i]
		}
	}
	return nil
}

// outcome returns the certificate of a decided request.
func (r *requester) outcome(asked *certificatesv1.CertificateSigningRequest, key crypto.Signer) (*x509.Certificate, error) {
	if c := refusal(asked); c != nil {
		return nil, denied(c.Reason, c.Message)
	}
	certificate, err := parseCertificate(asked.Status.Certificate)
	if err == nil {
		err = isFor(certificate, key, r.root)
	}
	if err == nil && !r.clock.Latest().Before(certificate.NotAfter) {
		err = errors.New("it has ended already")
	}
	if err != nil {
		return nil, badCertificate(asked.Name, err)
	}
	return certificate, nil
}
