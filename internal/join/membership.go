package join

import (
	"context"
	"crypto/x509"
	"net/netip"

	"go.uber.org/zap"
	"k8s.io/client-go/kubernetes"

	"github.com/skiff-sh/skiff/internal/pki"
	"github.com/skiff-sh/skiff/internal/uplink"
)

// Membership is what a node has that has joined. It is safe for concurrent use.
type Membership struct {
	Authority *x509.Certificate
	Client    *pki.Identity // this node towards the servers
	Serving   *pki.Identity // this node's own API
	Cluster   Cluster
	Uplink    *uplink.Uplink // to the servers, as Client

	name     string
	clock    pki.Clock
	client   kubernetes.Interface // over Uplink
	requests *requester           // over Uplink
	keep     *Directory
	log      *zap.Logger
}

// KeepClient keeps Client from ending until the context ends. The key stays: by
// it the cluster knows this machine.
func (m *Membership) KeepClient(ctx context.Context) error {
	return pki.Renewal{
		Name: clientName, Identity: m.Client, Clock: m.clock, Until: m.Authority.NotAfter, Log: m.log,
		Obtain: func(ctx context.Context) (pki.Pair, error) {
			return m.requests.get(ctx, wantClient(m.name, m.Client.Pair().Certificate))
		},
	}.Run(ctx)
}

// KeepServing keeps Serving from ending, and for the addresses that the node has,
// until the context ends. changed brings something when these are others.
func (m *Membership) KeepServing(ctx context.Context, addresses func() []netip.Addr, changed <-chan struct{}) error {
	return pki.Renewal{
		Name: servingName, Identity: m.Serving, Clock: m.clock, Until: m.Authority.NotAfter, Log: m.log,
		Changed:  changed,
		Outdated: func(p pki.Pair) bool { return !wantServing(m.name, addresses(), nil).isMet(p.Certificate) },
		Obtain: func(ctx context.Context) (pki.Pair, error) {
			return m.requests.get(ctx, wantServing(m.name, addresses(), m.Serving.Pair().Certificate))
		},
	}.Run(ctx)
}

// API returns a client of the cluster's API, as this node.
func (m *Membership) API() kubernetes.Interface { return m.client }
