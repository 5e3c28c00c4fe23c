package certificate

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/auth"
	"github.com/skiff-sh/skiff/internal/controller"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/pki"
	"github.com/skiff-sh/skiff/internal/state"
)

const (
	name = "certificatesigningrequest-controller"
	user = "certificate-controller" // upstream's
)

// Config is whose certificates are issued, and what no node may have.
type Config struct {
	Authority pki.Pair
	API       *pki.Identity  // of the API server: its names are its own
	Node      string         // the server's own node, whose certificate is made locally; "": none
	Ranges    []netip.Prefix // of Pods and Services
	Domain    string         // of the cluster's DNS
	Clock     pki.Clock
	// Spend, where set, is asked before the certificate of a node is approved for
	// whoever came with a token, with the hex SHA-256 of the public key: a token
	// that works once is that machine's from then on. An auth.Refusal denies it.
	Spend func(ctx context.Context, user, node, spki string) error
}

// key is a request, or a node that may have changed what is known of it.
type key struct{ Request, Node string }

// New returns the controller.
func New(env controller.Environment, c Config) controller.Runner {
	i := &issuer{Config: c, env: env, log: env.Log.Named(name)}
	return controller.Controller[key]{
		Name: name,
		Sources: []controller.Source[key]{
			{Kind: kind.CertificateSigningRequest, Keys: func(e state.Event) []key {
				return []key{{Request: e.Object.GetName()}}
			}},
			{Kind: kind.Node, Keys: i.concerned},
		},
		// What takes long is waiting for the disk, four times for each request: with
		// many at once, as when all machines join, the store joins their commits.
		Workers: 16,
		Reconcile: func(ctx context.Context, k key) (time.Duration, error) {
			if k.Node != "" {
				return 0, i.adopt(ctx, k.Node)
			}
			return i.reconcile(ctx, k.Request)
		},
	}
}

// issuer is the controller.
type issuer struct {
	Config
	env controller.Environment
	log *zap.Logger
}

// concerned returns what to look at again when a Node comes, goes, or has other
// addresses: itself, and what it has asked for in vain.
func (i *issuer) concerned(e state.Event) []key {
	node := e.Object.(*corev1.Node)
	if e.Type == state.Modified && equality.Semantic.DeepEqual(node.Status.Addresses, e.Old.(*corev1.Node).Status.Addresses) {
		return nil
	}
	keys := []key{{Node: node.Name}}
	i.env.State.Snapshot(kind.CertificateSigningRequest).Ascend(state.Interest{}, "", func(obj kind.Object) bool {
		r := obj.(*certificatesv1.CertificateSigningRequest)
		if r.Spec.Username == nodeUser+node.Name && !decided(r) {
			keys = append(keys, key{Request: r.Name})
		}
		return true
	})
	return keys
}

// reconcile takes a request as far as it goes, and says when to look again.
func (i *issuer) reconcile(ctx context.Context, requestName string) (time.Duration, error) {
	r, ok := state.Get[*certificatesv1.CertificateSigningRequest](i.env.State, kind.CertificateSigningRequest, "", requestName)
	if !ok || r.DeletionTimestamp != nil {
		return 0, nil
	}
	if end := deadline(r); !end.IsZero() && !time.Now().Before(end) {
		return 0, i.remove(ctx, r)
	}
	r, err := i.decide(ctx, r)
	if err != nil {
		return 0, err
	}
	if r, err = i.issue(ctx, r); err != nil {
		return 0, err
	}
	end := deadline(r)
	if end.IsZero() {
		return 0, nil
	}
	// A clock that was set back must not keep it for ever.
	return min(max(time.Until(end), time.Second), pendingLife), nil
}

// decide approves or denies a request that nobody has decided about, if it can.
func (i *issuer) decide(ctx context.Context, r *certificatesv1.CertificateSigningRequest) (*certificatesv1.CertificateSigningRequest, error) {
	if decided(r) || !forNodes(r.Spec.SignerName) { // sparing to parse it
		return r, nil
	}
	parsed, err := kind.ParseCertificateRequest(r.Spec.Request)
	if err != nil {
		return r, fmt.Errorf("parse request %s: %w", r.Name, err)
	}
	q := i.ask(r, parsed)
	d := q.decide()
	if d.outcome == leave {
		return r, nil
	}
	if d.outcome == approve && r.Spec.SignerName == certificatesv1.KubeAPIServerClientKubeletSignerName {
		if d, err = i.claim(ctx, q, d); err != nil {
			return r, err
		}
	}
	i.log.Info("certificate request decided", zap.String("request", r.Name), zap.String("node", q.name),
		zap.String("requester", r.Spec.Username), zap.Bool("approved", d.outcome == approve), zap.String("message", d.message))
	return i.change(ctx, r, "approval", func(r *certificatesv1.CertificateSigningRequest) {
		if !decided(r) {
			r.Status.Conditions = append(r.Status.Conditions, d.condition())
		}
	})
}

// claim makes first the token and then the name that machine's whose request is
// about to be approved: of those that race one wins, and a crash costs it neither.
func (i *issuer) claim(ctx context.Context, q question, d decision) (decision, error) {
	spki := spkiOf(q.parsed)
	if i.Spend != nil {
		err := i.Spend(ctx, q.request.Spec.Username, q.name, spki)
		var refusal auth.Refusal
		if errors.As(err, &refusal) {
			return denied(reasonTokenRefused, "%s", refusal.Error()), nil
		}
		if err != nil {
			return d, fmt.Errorf("spend token of %s: %w", q.request.Spec.Username, err)
		}
	}
	err := i.remember(ctx, q, func(k *nodeKey) {
		k.spki = spki
		if shown := q.credential(); q.itself() && shown != "" && len(k.certificates) == 0 {
			k.certificates = []string{shown} // its Node was deleted while it ran on: until it has the next, this counts
		}
	})
	if err != nil {
		return d, fmt.Errorf("remember key of node %s: %w", q.name, err)
	}
	return d, nil
}

// decided says whether somebody has decided about a request.
func decided(r *certificatesv1.CertificateSigningRequest) bool {
	return len(r.Status.Certificate) > 0 || slices.ContainsFunc([]certificatesv1.RequestConditionType{
		certificatesv1.CertificateApproved, certificatesv1.CertificateDenied, certificatesv1.CertificateFailed,
	}, func(t certificatesv1.RequestConditionType) bool { return kind.CertificateCondition(r, t) != nil })
}

// forNodes says whether a signer's requests are decided here.
func forNodes(signer string) bool {
	return signer == certificatesv1.KubeAPIServerClientKubeletSignerName || signer == certificatesv1.KubeletServingSignerName
}

// ask gathers what bears on a request.
func (i *issuer) ask(r *certificatesv1.CertificateSigningRequest, parsed *x509.CertificateRequest) question {
	q := question{Config: i.Config, request: r, parsed: parsed, name: nodeOf(parsed), api: i.API.Pair().Certificate}
	if q.name == "" {
		return q
	}
	q.node, _ = state.Get[*corev1.Node](i.env.State, kind.Node, "", q.name)
	q.known = i.known(q.name, q.node)
	if r.Spec.SignerName == certificatesv1.KubeletServingSignerName {
		q.nodes = state.List[*corev1.Node](i.env.State, kind.Node, state.Interest{})
	}
	return q
}

// change changes a part of the very request that was looked at.
func (i *issuer) change(ctx context.Context, r *certificatesv1.CertificateSigningRequest, part string, change func(*certificatesv1.CertificateSigningRequest)) (*certificatesv1.CertificateSigningRequest, error) {
	request := i.request(kind.CertificateSigningRequest, "", r.Name)
	request.Subresource = part
	out, err := i.env.API.Modify(ctx, request, func(obj kind.Object) error {
		if obj.GetUID() != r.UID {
			return apierrors.NewConflict(kind.CertificateSigningRequest.GroupResource(), r.Name, errChanged)
		}
		change(obj.(*certificatesv1.CertificateSigningRequest))
		return nil
	})
	if err != nil {
		return r, err
	}
	return out.(*certificatesv1.CertificateSigningRequest), nil
}

func (i *issuer) request(k *kind.Kind, namespace, objectName string) api.Request {
	return api.Request{
		User: controller.User(user), FieldManager: controller.FieldManager,
		Kind: k, Namespace: namespace, Name: objectName,
	}
}

// remove deletes a request whose time is over.
func (i *issuer) remove(ctx context.Context, r *certificatesv1.CertificateSigningRequest) error {
	_, _, err := i.env.API.Delete(ctx, i.request(kind.CertificateSigningRequest, "", r.Name), metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &r.UID, ResourceVersion: &r.ResourceVersion},
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
