package join

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/pki"
	"github.com/skiff-sh/skiff/internal/uplink"
)

// newcomer is a machine on its way into a cluster.
type newcomer struct {
	Config
	keep  *Directory
	have  kept
	token *pki.Token  // nil: what is kept does without
	node  *Membership // nil until have has the node's certificate
}

// prepare reads what is kept and refuses, before anyone is asked, what cannot
// come to anything.
func prepare(c Config) (*newcomer, error) {
	if err := refuseServer(c.Host); err != nil {
		return nil, err
	}
	m := &newcomer{Config: c, keep: NewDirectory(c.Host)}
	var err error
	if m.have, err = m.keep.read(c.Log); err != nil {
		return nil, err
	}
	token, bad := pki.ParseToken(c.Token)
	if bad == nil && m.have.client != nil && token.Digest != "" && token.Verify(m.have.authority) != nil {
		return nil, otherCluster(m.keep)
	}
	why := m.needsToken()
	switch {
	case why == "":
		if c.Token != "" && bad != nil {
			c.Log.Warn("token not read; it is not needed any more, since this machine has joined", zap.Error(bad))
		}
		return m, nil
	case c.Token == "":
		return nil, noToken(why)
	case bad != nil:
		return nil, bad
	case token.Digest == "":
		return nil, noDigest()
	}
	m.token = &token
	m.have = kept{} // what is of another name or time is of no use
	return m, nil
}

// needsToken returns why what is kept does not do, "" if it does.
func (m *newcomer) needsToken() string {
	client := m.have.client
	switch {
	case client == nil:
		return "this machine has not joined a cluster yet"
	case client.Subject.CommonName != userOf(m.NodeName):
		return fmt.Sprintf("this machine has joined as %s, not as %s", nodeOf(client), m.NodeName)
	case !m.Clock.Latest().Before(client.NotAfter):
		return "this machine's certificate ended on " + client.NotAfter.Format(time.DateOnly)
	}
	return ""
}

// advance gets what is still missing, in order, and keeps each thing as it comes.
func (m *newcomer) advance(ctx context.Context) error {
	for _, get := range []func(context.Context) error{m.meet, m.enrol, m.open, m.learn, m.certify} {
		if err := get(ctx); err != nil {
			return err
		}
	}
	return nil
}

// meet learns the authority from the first server that proves to be the token's.
func (m *newcomer) meet(ctx context.Context) error {
	if m.have.authority != nil {
		return nil
	}
	var wrong problems
	for _, server := range m.Servers {
		authority, err := meet(ctx, server, *m.token, m.Clock)
		if err == nil {
			m.have.authority = authority
			if m.have.root, err = pki.ParseAuthority(authority); err != nil {
				return err
			}
			return m.keep.writeAuthority(authority)
		}
		wrong = append(wrong, err)
	}
	return wrong.join()
}

// enrol exchanges the token for the node's certificate.
func (m *newcomer) enrol(ctx context.Context) error {
	if m.have.client != nil {
		return nil
	}
	requests, leave, err := m.introduced()
	if err != nil {
		return err
	}
	defer leave() // who has a certificate comes with that
	pair, err := requests.get(ctx, wantClient(m.NodeName, nil))
	if err != nil {
		return err
	}
	m.Log.Info("joined the cluster", zap.String("node", m.NodeName))
	m.have.client = pair.Certificate
	return nil
}

// introduced asks in the token's name, until leave is called.
func (m *newcomer) introduced() (_ *requester, leave func(), _ error) {
	client, up, err := connect(uplink.Config{Servers: m.Servers, Authority: poolOf(m.have.root), Clock: m.Clock}, m.token.Authorization())
	if err != nil {
		return nil, nil, err
	}
	return &requester{
		requests: client.CertificatesV1().CertificateSigningRequests(), as: m.token.String(),
		keep: m.keep, root: m.have.root, clock: m.Clock, log: m.Log,
		explain: func(err error) error {
			if apierrors.IsUnauthorized(err) || apierrors.IsForbidden(err) {
				return refusedToken(*m.token, err)
			}
			return explain(err)
		},
	}, up.Close, nil
}

// open makes of what is there a membership that can ask as a node.
func (m *newcomer) open(context.Context) error {
	if m.node != nil {
		return nil
	}
	client, err := m.keep.pair(clientName, m.have.client)
	if err != nil {
		return err
	}
	node := &Membership{
		Authority: m.have.root, Client: pki.NewIdentity(client),
		name: m.NodeName, clock: m.Clock, keep: m.keep, log: m.Log,
	}
	if m.have.serving != nil {
		serving, err := m.keep.pair(servingName, m.have.serving)
		if err != nil {
			return err
		}
		node.Serving = pki.NewIdentity(serving)
	}
	node.client, node.Uplink, err = connect(uplink.Config{
		Servers: m.Servers, Authority: poolOf(m.have.root), Identity: node.Client, Clock: m.Clock,
	}, "")
	if err != nil {
		return err
	}
	node.requests = &requester{
		requests: node.client.CertificatesV1().CertificateSigningRequests(), as: userOf(m.NodeName), explain: explainToNode,
		keep: m.keep, root: m.have.root, clock: m.Clock, log: m.Log,
	}
	m.node = node
	return nil
}

// learn asks what is the same on every node.
func (m *newcomer) learn(ctx context.Context) error {
	if m.have.cluster == nil {
		cluster, err := askCluster(ctx, m.node.client)
		if err != nil {
			return err
		}
		if err := m.keep.writeCluster(cluster); err != nil {
			return err
		}
		m.have.cluster = &cluster
	}
	m.node.Cluster = *m.have.cluster
	m.node.Uplink.Learn(m.have.cluster.Servers)
	return nil
}

// certify gets the certificate of the node's own API. A Node of this name that is
// there already may list other addresses, and does until this machine runs; and an
// address may be another Node's. Then the certificate is for the name alone, and
// whoever keeps it gets another.
func (m *newcomer) certify(ctx context.Context) error {
	if m.node.Serving != nil {
		return nil
	}
	addresses, err := m.ownAddresses(ctx)
	if err != nil {
		return err
	}
	pair, err := m.node.requests.get(ctx, wantServing(m.NodeName, addresses, nil))
	if p := new(Problem); errors.As(err, &p) && p.Denied && len(addresses) > 0 {
		m.Log.Warn("no certificate for the node's addresses", zap.Error(err))
		pair, err = m.node.requests.get(ctx, wantServing(m.NodeName, nil, nil))
	}
	if err == nil {
		m.node.Serving = pki.NewIdentity(pair)
	}
	return err
}

// ownAddresses returns those addresses that are not waited for until a Node lists
// them: all, as long as there is no Node.
func (m *newcomer) ownAddresses(ctx context.Context) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	node, err := m.node.client.CoreV1().Nodes().Get(ctx, m.NodeName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return m.Addresses, nil
	}
	if err != nil {
		return nil, explainToNode(err)
	}
	return slices.DeleteFunc(slices.Clone(m.Addresses), func(a netip.Addr) bool {
		return !slices.ContainsFunc(node.Status.Addresses, func(listed corev1.NodeAddress) bool { return listed.Address == a.String() })
	}), nil
}
