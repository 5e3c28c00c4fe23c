package server

import (
	"context"
	"path/filepath"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/pki"
	"github.com/skiff-sh/skiff/internal/version"
)

// openClock opens what is known of time. The clock of the server's machine is the
// cluster's: others are compared with it, and learn the time from it.
func (s *server) openClock(context.Context) (err error) {
	file := filepath.Join(config.NewHost(s.settings.DataDir).ServerDir(), "clock")
	if s.clock, err = pki.OpenServerClock(file, version.Date()); err != nil {
		return err
	}
	if s.clock.Slow() {
		s.log.Warn("this machine's clock shows a time that is past: set it; or, if the later one was wrong, remove the file that says so",
			zap.Time("clock", s.clock.Now()), zap.Time("later", s.clock.Latest()), zap.String("file", file))
	}
	s.closers = append(s.closers, s.clock.Past.Save)
	return nil
}

// renewCertificates keeps the server's certificates from ending, until the context
// ends.
func (s *server) renewCertificates(ctx context.Context) error {
	log := s.log.Named("certificates")
	group, ctx := errgroup.WithContext(ctx)
	for _, leaf := range s.keys.leaves() {
		renewal := s.keys.renewal(leaf, log)
		if leaf.identity == &s.keys.admin {
			renewal.Obtain = s.withKubeconfig(renewal.Obtain)
		}
		group.Go(func() error { return renewal.Run(ctx) })
	}
	group.Go(func() error { return s.keys.watchAuthorities(ctx, log) })
	return group.Wait()
}

func (k *keys) renewal(l leaf, log *zap.Logger) pki.Renewal {
	moved := make(chan struct{}, 1)
	k.mu.Lock()
	k.moved = append(k.moved, moved)
	k.mu.Unlock()
	return pki.Renewal{
		Changed: moved, Name: l.name, Identity: *l.identity, Clock: k.clock, Until: l.authority.Certificate.NotAfter, Log: log,
		Obtain:   func(context.Context) (pki.Pair, error) { return k.files.Reissue(l.name, *l.authority, l.subject()) },
		Outdated: func(p pki.Pair) bool { return !k.files.Fits(p, *l.authority, l.subject()) },
	}
}

// withKubeconfig writes what is obtained into the administrator's kubeconfig too:
// only then it is of use.
func (s *server) withKubeconfig(obtain func(context.Context) (pki.Pair, error)) func(context.Context) (pki.Pair, error) {
	return func(ctx context.Context) (pki.Pair, error) {
		p, err := obtain(ctx)
		if err == nil {
			err = s.kubeconfig(p)
		}
		return p, err
	}
}

// How long before its end an authority is complained about, and how often.
const (
	authorityPatience = 365 * 24 * time.Hour
	authorityRepeat   = 30 * 24 * time.Hour
)

// watchAuthorities warns of the end of the authorities. They are not renewed:
// everyone who knows the cluster trusts it by them, so all would have to be told.
// What they sign does not outlive them.
func (k *keys) watchAuthorities(ctx context.Context, log *zap.Logger) error {
	for {
		jumped := k.clock.Jumped()
		wait := 24 * time.Hour // a timer does not see this machine's clock being set
		for name, authority := range map[string]pki.Pair{"ca": k.authority, "front-proxy-ca": k.frontProxy} {
			end := authority.Certificate.NotAfter
			if end.Sub(k.clock.Latest()) > authorityPatience {
				continue
			}
			wait = authorityRepeat
			log.Warn("the cluster's certificate authority ends; before that, stop the server, move its two files away and start it: it makes a new one, for which every agent joins anew with a new token, and copies of the kubeconfig are made anew",
				zap.Time("ends", end), zap.String("files", filepath.Join(k.settings.DataDir, "server", "tls", name+".{crt,key}")))
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-jumped:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}
