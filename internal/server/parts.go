package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"strconv"

	"github.com/skiff-sh/skiff/embed/openapi"
	"github.com/skiff-sh/skiff/internal/admission"
	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/auth"
	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/controller"
	"github.com/skiff-sh/skiff/internal/controller/bootstrap"
	"github.com/skiff-sh/skiff/internal/controller/certificate"
	"github.com/skiff-sh/skiff/internal/controller/deployment"
	"github.com/skiff-sh/skiff/internal/controller/endpointslice"
	"github.com/skiff-sh/skiff/internal/controller/eventttl"
	"github.com/skiff-sh/skiff/internal/controller/garbage"
	"github.com/skiff-sh/skiff/internal/controller/namespace"
	"github.com/skiff-sh/skiff/internal/controller/nodeipam"
	"github.com/skiff-sh/skiff/internal/controller/nodelifecycle"
	"github.com/skiff-sh/skiff/internal/controller/podgc"
	"github.com/skiff-sh/skiff/internal/controller/replicaset"
	"github.com/skiff-sh/skiff/internal/controller/rootca"
	"github.com/skiff-sh/skiff/internal/controller/serviceaccount"
	"github.com/skiff-sh/skiff/internal/controller/tainteviction"
	"github.com/skiff-sh/skiff/internal/controller/tokencleaner"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/node"
	"github.com/skiff-sh/skiff/internal/pki"
	"github.com/skiff-sh/skiff/internal/rest"
	"github.com/skiff-sh/skiff/internal/scheduler"
	"github.com/skiff-sh/skiff/internal/uplink"
	"github.com/skiff-sh/skiff/internal/version"
)

// openAPI opens what stands between HTTP and the state.
func (s *server) openAPI(context.Context) error {
	tokens, err := auth.NewTokens(auth.TokensConfig{
		Issuer: "https://kubernetes.default.svc." + s.settings.ClusterDomain,
		Key:    s.keys.serviceAccount, State: s.state,
	})
	if err != nil {
		return err
	}
	s.env = controller.Environment{State: s.state, Log: s.log, Panics: &s.panics}
	s.env.API = api.New(api.Config{
		State:        s.state,
		Admission:    admission.New(s.state),
		Tokens:       tokens,
		ServiceCIDRs: s.settings.ServiceCIDRs,
		NodePorts:    s.settings.ServiceNodePortRange,
		Log:          s.log.Named("api"),
	})
	s.events = s.env.API.NewRecorder("skiff-server", controller.User("skiff-server"))
	host := net.JoinHostPort(s.advertised().String(), strconv.Itoa(s.settings.HTTPSListenPort))
	way, err := s.openTunnels(rest.Direct{TLS: clientTLS(s.keys.toNodes, s.keys.authority.Pool(), s.clock)})
	if err != nil {
		return err
	}
	s.handler = rest.New(rest.Config{
		API: s.env.API, Kinds: kind.All, Log: s.log.Named("rest"),
		Authenticator: auth.Union{auth.NewMachines(s.state, auth.NewCertificates(s.keys.authority.Pool(), s.clock.Latest)), auth.NewBootstrap(s.state, s.keys.token, s.keys.clock.Now), tokens},
		Authorizer:    auth.NewAuthorizer(s.state),
		Tokens:        tokens.Review,
		Nodes:         way,
		Inside:        way.Inside,
		Tunnel:        s.tunnels.Serve,
		OpenAPI:       openapi.New(),
		Version:       version.API(),
		Checks: []rest.Check{
			{Name: "store", Live: true, Ask: s.askStore},
			{Name: "scheduler", Ask: s.started},
			{Name: "controllers", Ask: s.started},
		},
		Metrics:             s.metrics.handler(s.log.Named("metrics")),
		JWKS:                tokens.JWKS,
		CACerts:             func() ([]byte, error) { return s.keys.authority.CertificatePEM(), nil },
		OpenIDConfiguration: func() ([]byte, error) { return tokens.OpenIDConfiguration(host) },
		Panicked:            func(any, []byte) { s.panics.Add(1) },
	})
	s.metrics.count("apiserver_request_panics_total", "Requests that panicked and were recovered.", s.handler.Panics)
	return nil
}

func clientTLS(identity *pki.Identity, roots *x509.CertPool, clock pki.Clock) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, GetClientCertificate: identity.GetClientCertificate, RootCAs: roots, Time: clock.Latest,
	}
}

// controllers are all that run. Their order says nothing: each follows the
// state on its own.
func (s *server) controllers() []controller.Runner {
	return []controller.Runner{
		bootstrap.New(s.env, s.bootstrapConfig()),
		serviceaccount.New(s.env),
		rootca.New(s.env, s.keys.authority.CertificatePEM()),
		certificate.New(s.env, s.certificateConfig()),
		namespace.New(s.env, kind.All),
		garbage.New(s.env, kind.All),
		deployment.New(s.env),
		replicaset.New(s.env),
		endpointslice.New(s.env),
		nodeipam.New(s.env, s.settings.ClusterCIDRs),
		nodelifecycle.New(s.env),
		tainteviction.New(s.env),
		podgc.New(s.env),
		eventttl.New(s.env),
		s.followPodCIDRs(),
		tokencleaner.New(s.env),
	}
}

func (s *server) certificateConfig() certificate.Config {
	return certificate.Config{
		Authority: s.keys.authority, API: s.keys.serving, Clock: s.keys.clock,
		Node: s.settings.NodeName, Domain: s.settings.ClusterDomain,
		Ranges: slices.Concat(s.settings.ClusterCIDRs, s.settings.ServiceCIDRs),
		Spend: func(ctx context.Context, user, node, spki string) error {
			return tokencleaner.Spend(ctx, s.env, user, node, spki)
		},
	}
}

// schedule runs the scheduler.
func (s *server) schedule(ctx context.Context) error {
	return scheduler.New(scheduler.Config{
		State: s.state, API: s.env.API, Log: s.log.Named("scheduler"), Panics: &s.panics,
	}).Run(ctx)
}

// runNode runs this machine's node. It is a client of the API like any other.
func (s *server) runNode(ctx context.Context) error {
	up, err := uplink.New(uplink.Config{
		Servers: []string{s.localURL()}, Authority: s.keys.authority.Pool(), Identity: s.keys.node, Clock: s.clock.Alone(),
	})
	if err != nil {
		return err
	}
	return node.Run(ctx, node.Config{
		Settings:      s.settings.Node,
		Host:          config.NewHost(s.settings.DataDir),
		Addresses:     s.addresses,
		Moved:         s.move,
		Uplink:        up,
		Authority:     s.keys.authority.Certificate,
		Serving:       s.keys.nodeServing,
		ClusterCIDRs:  s.settings.ClusterCIDRs,
		ServiceCIDRs:  s.settings.ServiceCIDRs,
		ClusterDNS:    s.settings.ClusterDNS,
		ClusterDomain: s.settings.ClusterDomain,
		Packets:       s.tunnels.Attach(s.settings.NodeName),
		Log:           s.log,
	})
}

// askStore says whether the store still takes writes.
func (s *server) askStore(context.Context) error { return s.engine.Err() }

// watchStore fails when the store does: what is on disk then, only a new start
// can tell.
func (s *server) watchStore(ctx context.Context) error {
	select {
	case <-s.engine.Failed():
		return s.engine.Err()
	case <-ctx.Done():
		return nil
	}
}

// started says that controllers and scheduler run.
func (s *server) started(context.Context) error {
	if !s.running.Load() {
		return errors.New("not started yet")
	}
	return nil
}
