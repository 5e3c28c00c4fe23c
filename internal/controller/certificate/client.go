package certificate

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/skiff-sh/skiff/internal/kind"
)

// Well-known users and groups.
const (
	nodeUser            = "system:node:"
	groupNodes          = "system:nodes"
	groupBootstrappers  = "system:bootstrappers"
	credentialExtra     = "authentication.kubernetes.io/credential-id"
	credentialOfPeer    = "X509SHA256="
	reasonAutoApproved  = "AutoApproved"             // upstream's
	reasonNameTaken     = "NodeNameTaken"            // the name is another machine's
	reasonNameInvalid   = "NodeNameInvalid"          // no Node can have the name
	reasonTokenRefused  = "TokenRefused"             // it worked once, for another machine, or has gone
	reasonNotItsAddress = "SubjectAltNameNotAllowed" // what the node may not serve as
)

// outcome is what becomes of a request.
type outcome uint8

const (
	leave   outcome = iota // to a person, or until something changes
	approve                // and sign
	deny
)

// decision is an outcome, and for whoever asked, why.
type decision struct {
	outcome         outcome
	reason, message string
}

func approved(message string) decision { return decision{approve, reasonAutoApproved, message} }

func denied(reason, format string, args ...any) decision {
	return decision{deny, reason, fmt.Sprintf(format, args...)}
}

// condition is how a request tells of the decision.
func (d decision) condition() certificatesv1.CertificateSigningRequestCondition {
	c := certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue,
		Reason: d.reason, Message: d.message, LastUpdateTime: kind.Now(),
	}
	if d.outcome == deny {
		c.Type = certificatesv1.CertificateDenied
	}
	return c
}

// question is one request for a node's certificate, with all that bears on it.
type question struct {
	Config
	request *certificatesv1.CertificateSigningRequest
	parsed  *x509.CertificateRequest
	name    string            // of the node that it is for; "": of none
	node    *corev1.Node      // of that name, or nil
	known   *nodeKey          // what is remembered of the name, or nil
	nodes   []*corev1.Node    // all, where addresses are at stake
	api     *x509.Certificate // the API server's
}

// nodeOf returns the name of the node that a request is for, "" for none.
func nodeOf(parsed *x509.CertificateRequest) string {
	name, ok := strings.CutPrefix(parsed.Subject.CommonName, nodeUser)
	if !ok {
		return ""
	}
	return name
}

// nodeName says whether a Node can have a name, and be remembered by it.
func nodeName(name string) bool { return len(validation.IsDNS1123Subdomain(secretName(name))) == 0 }

// decide is the plan. What is not well-formed for its signer is left alone, as
// upstream does: a person who approves it will see why it fails.
func (q question) decide() decision {
	if q.name == "" || !forNodes(q.request.Spec.SignerName) || wellFormed(q.request.Spec.SignerName, q.parsed, q.request.Spec.Usages) != nil {
		return decision{}
	}
	if q.request.Spec.SignerName == certificatesv1.KubeletServingSignerName {
		return q.decideServing()
	}
	switch {
	case !q.itself() && !q.in(groupBootstrappers):
		return decision{}
	case !nodeName(q.name):
		return denied(reasonNameInvalid, "%q cannot be the name of a node: choose a shorter or simpler one with --node-name", q.name)
	case q.name == q.Node: // nothing is remembered of it, or its own certificates would count for nothing
		return denied(reasonNameTaken, "node name %q is the server's own: choose another with --node-name", q.name)
	case q.itself():
		return q.decideRenewal()
	}
	return q.decideNewcomer()
}

func (q question) in(group string) bool { return slices.Contains(q.request.Spec.Groups, group) }

// itself says whether the node asks that the certificate is for.
func (q question) itself() bool {
	return q.request.Spec.Username == q.parsed.Subject.CommonName && q.in(groupNodes)
}

// decideRenewal: a node's own certificate is proof enough, unless the name is
// another's by now.
func (q question) decideRenewal() decision {
	if q.outdated() && q.known.spki != spkiOf(q.parsed) {
		return q.denyOutdated()
	}
	return approved("Auto approving self kubelet client certificate after SubjectAccessReview.")
}

// outdated says whether the certificate that the node shows is not one of those
// who have the name now.
func (q question) outdated() bool {
	return q.known != nil && !slices.Contains(q.known.certificates, q.credential())
}

func (q question) denyOutdated() decision {
	return denied(reasonNameTaken,
		"the certificate that asks is not one of those of node %q as it is now: join again with a token, under another name with --node-name, "+
			"or, if node %q is gone, after \"kubectl delete node %s\"", q.name, q.name, q.name)
}

// credential returns the SHA-256 of the certificate that the requester has
// shown, in hexadecimal; "" if it was something else.
func (q question) credential() string {
	for _, value := range q.request.Spec.Extra[credentialExtra] {
		if sum, ok := strings.CutPrefix(value, credentialOfPeer); ok {
			return sum
		}
	}
	return ""
}

// decideNewcomer: a name is free, or it goes with the key that it was given to.
func (q question) decideNewcomer() decision {
	if q.reservedName(q.name) {
		return denied(reasonNameTaken, "%q is a name of the API server or of the cluster's DNS: choose another with --node-name", q.name)
	}
	switch {
	case q.known == nil && q.node == nil, q.known != nil && q.known.spki == spkiOf(q.parsed):
		return approved("Auto approving kubelet client certificate after SubjectAccessReview.")
	case q.node == nil: // its machine was given the name, and never came
		return denied(reasonNameTaken,
			"node name %q is another machine's: choose another with --node-name, or, if that machine is gone, run \"kubectl delete secret -n %s %s\" (there is no Node to delete)",
			q.name, keyNamespace, secretName(q.name))
	}
	return denied(reasonNameTaken,
		"node name %q is another machine's: choose another with --node-name, or, if that machine is gone, run \"kubectl delete node %s\"", q.name, q.name)
}
