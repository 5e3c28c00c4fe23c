package auth

import (
	"context"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

// ClusterSettings is the ConfigMap in kube-system that tells every node what is
// the same for the whole cluster.
const ClusterSettings = "skiff-cluster"

// Bootstrappers lets a machine that wants to join do just that: ask for a node's
// certificate, wait for it, and learn what every node has to know. Whether it
// gets the certificate is for whoever approves requests to say.
type Bootstrappers struct {
	state *state.State
}

// NewBootstrappers returns the authorizer of bootstrappers.
func NewBootstrappers(s *state.State) Bootstrappers { return Bootstrappers{state: s} }

// Authorize tells whether the request may be made.
func (b Bootstrappers) Authorize(_ context.Context, a Attributes) (Decision, string, error) {
	if !a.User.in(GroupBootstrappers) || a.Subresource != "" {
		return NoOpinion, "", nil
	}
	switch {
	case a.readsClusterSettings():
		return Allow, "", nil
	case a.Group == certificatesv1.GroupName && a.Resource == "certificatesigningrequests":
		decision, reason := b.request(a)
		return decision, reason, nil
	}
	return NoOpinion, "", nil
}

// readsClusterSettings says whether a node's or a bootstrapper's request is for
// the settings of the whole cluster and nothing else.
func (a Attributes) readsClusterSettings() bool {
	return a.Group == "" && a.Resource == "configmaps" && a.Subresource == "" && a.reads() &&
		a.Namespace == metav1.NamespaceSystem && a.selectedName() == ClusterSettings
}

// request judges what is asked about CertificateSigningRequests: to make one, and
// to see its own. To get one that is not there is allowed, so that a machine
// which comes back learns that it is not.
func (b Bootstrappers) request(a Attributes) (Decision, string) {
	name := a.selectedName()
	switch {
	case a.Verb == "create":
		return b.create(a.User.Name)
	case !a.reads() || name == "":
		return NoOpinion, "can only create certificate signing requests, and read one by its name"
	}
	request, ok := state.Get[*certificatesv1.CertificateSigningRequest](b.state, kind.CertificateSigningRequest, "", name)
	if ok && request.Spec.Username != a.User.Name || !ok && a.Verb == "watch" {
		return NoOpinion, "can only read certificate signing requests of its own"
	}
	return Allow, ""
}

// create keeps a token that is used up from filling the store: the machine that
// used it may need one more request, nobody needs more.
func (b Bootstrappers) create(user string) (Decision, string) {
	id := strings.TrimPrefix(user, BootstrapUser)
	secret, ok := state.Get[*corev1.Secret](b.state, kind.Secret, metav1.NamespaceSystem, TokenSecretPrefix+id)
	if !ok || user == ServerBootstrapper {
		return Allow, ""
	}
	t := ReadBootstrapToken(secret)
	own := func(r *certificatesv1.CertificateSigningRequest) bool { return r.Spec.Username == user }
	if t.Used != nil && slices.ContainsFunc(state.List[*certificatesv1.CertificateSigningRequest](b.state, kind.CertificateSigningRequest, state.Interest{}), own) {
		return NoOpinion, refuseToken(id, t.spent()).Error()
	}
	return Allow, ""
}
