// Package server opens, runs and closes a control plane: keys, store, state,
// API, controllers and scheduler, and this machine's node beside them.
//
// Run is the whole life of `skiff server`. The invariant: parts are opened from
// the ground up and closed in reverse, and a part that fails ends the process.
// The package decides nothing; what a part does is the part's own affair.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/controller"
	"github.com/skiff-sh/skiff/internal/controller/bootstrap"
	"github.com/skiff-sh/skiff/internal/join"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/node"
	"github.com/skiff-sh/skiff/internal/pki"
	"github.com/skiff-sh/skiff/internal/rest"
	"github.com/skiff-sh/skiff/internal/state"
	"github.com/skiff-sh/skiff/internal/store/bolt"
	"github.com/skiff-sh/skiff/internal/tunnel"
	"github.com/skiff-sh/skiff/internal/version"
)

// drainTime is how long requests under way may take after the end was asked
// for.
const drainTime = 500 * time.Millisecond

// Run opens a server, serves until the context ends, and closes it. Pods run
// on. It returns the first failure of a part.
func Run(ctx context.Context, settings config.Server, log *zap.Logger) (err error) {
	limitMemory()
	s, err := open(ctx, settings, log)
	defer func() { err = errors.Join(err, s.close()) }()
	if err != nil {
		return err
	}
	return s.run(ctx)
}

// server is what Run has opened.
type server struct {
	settings  config.Server
	log       *zap.Logger
	addresses []netip.Addr // of this machine when it was opened
	moved     atomic.Pointer[[]netip.Addr]
	clock     pki.Clock
	keys      *keys
	metrics   *metrics
	disk      *diskWatch
	engine    *bolt.Engine
	state     *state.State
	env       controller.Environment
	events    *api.Recorder // what the server itself has to tell
	handler   *rest.Handler
	tunnels   *tunnel.Hub
	listener  net.Listener
	panics    atomic.Int64
	running   atomic.Bool
	closers   []func() error // in the order of opening
}

// open prepares every part. What it opened is closed by close, also after an
// error.
func open(ctx context.Context, settings config.Server, log *zap.Logger) (*server, error) {
	s := &server{settings: settings, log: log, metrics: newMetrics(), disk: newDiskWatch()}
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"find addresses", s.findAddresses},
		{"open store", s.openStore}, // before the keys: its lock guards the data directory
		{"open clock", s.openClock},
		{"open keys", s.openKeys},
		{"open API", s.openAPI},
		{"make system objects", s.bootstrap},
		{"listen", s.listen},
		{"write kubeconfig", s.writeKubeconfig},
	} {
		if err := step.do(ctx); err != nil {
			return s, fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return s, nil
}

func (s *server) close() error {
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i]())
	}
	s.closers = nil
	return errors.Join(errs...)
}

func (s *server) findAddresses(context.Context) (err error) {
	s.addresses = s.settings.NodeIPs
	if len(s.addresses) == 0 {
		s.addresses, err = node.Addresses()
	}
	return err
}

func (s *server) openKeys(context.Context) (err error) {
	s.keys, err = openKeys(s.settings, s.addresses, s.clock)
	return err
}

func (s *server) openStore(ctx context.Context) error {
	if err := join.RefuseMember(config.NewHost(s.settings.DataDir)); err != nil {
		return err
	}
	engine, err := bolt.Open(config.NewHost(s.settings.DataDir).StorePath(), bolt.Options{
		LazyWindow:  window(s.settings.Store.LazyWindow),
		LazyWindows: map[string]time.Duration{kind.Event.Bucket(): s.settings.Store.EventsWindow},
		Observe:     s.observe,
		Log:         s.log.Named("store"),
	})
	if err != nil {
		return err
	}
	s.engine = engine
	s.metrics.follow(engine)
	s.closers = append(s.closers, engine.Close)
	s.state, err = state.Open(ctx, engine, kind.All, state.Options{})
	if err != nil {
		return err
	}
	s.closers = append(s.closers, s.state.Close)
	return nil
}

// window says durable as the store's options do, where 0 is their default.
func window(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

// bootstrap makes what clients expect before any of them can look.
func (s *server) bootstrap(ctx context.Context) error {
	return bootstrap.Ensure(ctx, s.env, s.bootstrapConfig())
}

func (s *server) bootstrapConfig() bootstrap.Config {
	return bootstrap.Config{
		ServiceAddresses: s.settings.APIServiceAddresses(),
		DNSAddresses:     s.settings.ClusterDNS,
		Port:             uint16(s.settings.HTTPSListenPort),
		ClientCA:         s.keys.authority.CertificatePEM(),
		FrontProxyCA:     s.keys.frontProxy.CertificatePEM(),
		FrontProxyNames:  []string{frontProxyClient},
		Node:             s.settings.NodeName,
		ClusterCIDRs:     s.settings.ClusterCIDRs,
		ServiceCIDRs:     s.settings.ServiceCIDRs,
		ClusterDomain:    s.settings.ClusterDomain,
		Version:          version.Git(),
		Address:          s.advertised,
		Servers:          s.apiURLs,
	}
}

func (s *server) listen(ctx context.Context) error {
	address := netip.AddrPortFrom(s.settings.BindAddress, uint16(s.settings.HTTPSListenPort))
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address.String())
	if err != nil {
		return fmt.Errorf("%w (choose another with --https-listen-port or --bind-address)", err)
	}
	s.listener = listener
	s.closers = append(s.closers, func() error {
		_ = listener.Close() // it is, where serving has ended
		return nil
	})
	return nil
}

// localURL is where this machine's own clients reach the API.
func (s *server) localURL() string {
	host := s.settings.BindAddress
	if host.IsUnspecified() {
		host = loopback
	}
	return "https://" + net.JoinHostPort(host.String(), strconv.Itoa(s.settings.HTTPSListenPort))
}

func (s *server) writeKubeconfig(context.Context) error { return s.kubeconfig(s.keys.admin.Pair()) }

// kubeconfig writes the administrator's.
func (s *server) kubeconfig(admin pki.Pair) error {
	return pki.Kubeconfig{
		Server: s.localURL(), Authority: s.keys.authority, Client: admin, User: "skiff-admin",
	}.Write(s.settings.WriteKubeconfig, s.settings.WriteKubeconfigMode)
}

// run runs the parts until the context ends or one of them fails.
func (s *server) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.serve(ctx) })
	group.Go(func() error { return s.watchStore(ctx) })
	group.Go(func() error { return s.disk.run(ctx, s.reportSlowDisk) })
	group.Go(func() error { return s.serveLocal(ctx) })
	group.Go(func() error { return s.takeSnapshots(ctx) })
	group.Go(func() error { return s.renewCertificates(ctx) })
	group.Go(func() error { return s.clock.Past.FollowSets(ctx) })
	if !s.settings.DisableControllers {
		for _, c := range s.controllers() {
			group.Go(func() error { return c.Run(ctx, s.env) })
		}
	}
	if !s.settings.DisableScheduler {
		group.Go(func() error { return s.schedule(ctx) })
	}
	if !s.settings.DisableAgent {
		group.Go(func() error { return s.runNode(ctx) })
	}
	s.running.Store(true)
	s.log.Info("server started", zap.String("address", s.listener.Addr().String()),
		zap.String("kubeconfig", s.settings.WriteKubeconfig), zap.String("data-dir", s.settings.DataDir))
	err := group.Wait()
	s.log.Info("server stopped")
	return err
}

// serve answers HTTP until the context ends, then lets what is under way
// finish.
func (s *server) serve(ctx context.Context) error {
	requests := newDrain()
	web := &http.Server{
		ConnState: requests.note,
		Handler:   s.handler,
		TLSConfig: s.tlsConfig(),
		ErrorLog:  zap.NewStdLog(s.log.Named("http").WithOptions(zap.IncreaseLevel(zap.ErrorLevel))),
	}
	door := rest.Listener(s.listener)
	door.Guard(web)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := web.ServeTLS(door, "", ""); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve API: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		s.handler.Close()
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
		defer cancel()
		return requests.end(drain, web)
	})
	return group.Wait()
}

func (s *server) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: s.keys.certificate,
		Time:           s.clock.Latest,
		// The handler verifies client certificates itself: a missing or foreign
		// one is an anonymous or refused request, not a broken connection.
		ClientAuth: tls.RequestClientCert,
		ClientCAs:  s.keys.authority.Pool(),
		NextProtos: []string{"h2", "http/1.1"},
	}
}
