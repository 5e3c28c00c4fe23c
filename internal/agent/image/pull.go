package image

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"go.uber.org/zap"

	"github.com/skiff-sh/skiff/internal/agent"
)

// What a pull that fails can be told by, with errors.Is.
var (
	ErrNotFound     = errors.New("the registry has no such image")
	ErrUnauthorized = errors.New("the registry refuses these credentials")
	ErrUnreachable  = errors.New("the registry cannot be reached")
)

// downloads is how many layers of one image are fetched at once.
const downloads = 3

// pull is one that runs; all who ask for the same wait for it.
type pull struct {
	name     string
	cancel   context.CancelFunc
	waiters  int // under Store.mu; the last to give up cancels
	received atomic.Int64
	done     chan struct{}
	image    agent.Image
	err      error
}

// Pull implements agent.Images. Each credential is tried in turn until one
// lets us in; with none, the pull is anonymous. A pull that receives nothing
// for a while fails. Errors are ErrNotFound, ErrUnauthorized, ErrUnreachable
// or another.
func (s *Store) Pull(ctx context.Context, ref string, credentials []agent.Credential) (agent.Image, error) {
	name, err := Normalize(ref)
	if err != nil {
		return agent.Image{}, err
	}
	// Who may not log in must not get what another is fetching.
	key := fmt.Sprintf("%s %q", name, credentials)
	s.mu.Lock()
	p, ok := s.pulls[key]
	if !ok {
		p = s.begin(key, name, credentials)
	}
	p.waiters++
	s.mu.Unlock()
	select {
	case <-p.done:
		return p.image, p.err
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.waiters--; p.waiters == 0 {
		p.cancel()
		if s.pulls[key] == p {
			delete(s.pulls, key) // whoever comes now begins anew
		}
	}
	return agent.Image{}, ctx.Err()
}

// begin starts a pull; the caller holds s.mu.
func (s *Store) begin(key, name string, credentials []agent.Credential) *pull {
	ctx, cancel := context.WithCancel(context.Background())
	p := &pull{name: name, cancel: cancel, done: make(chan struct{})}
	s.pulls[key] = p
	s.running.Go(func() {
		defer close(p.done)
		defer cancel()
		began := time.Now()
		p.image, p.err = s.attempt(s.scope(ctx), p, credentials)
		if p.err == nil {
			s.config.Log.Info("pulled an image", zap.String("image", name), zap.Duration("took", time.Since(began)))
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.pulls[key] == p {
			delete(s.pulls, key)
		}
	})
	return p
}

// Received returns how many bytes the pull of an image that runs has received.
func (s *Store) Received(ref string) int64 {
	name, err := Normalize(ref)
	if err != nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := int64(0)
	for _, p := range s.pulls {
		if p.name == name {
			sum += p.received.Load()
		}
	}
	return sum
}

func (s *Store) attempt(ctx context.Context, p *pull, credentials []agent.Credential) (agent.Image, error) {
	if len(credentials) == 0 {
		return s.pull(ctx, p, agent.Credential{})
	}
	var errs []error
	for _, c := range credentials {
		i, err := s.pull(ctx, p, c)
		if err == nil {
			return i, nil
		}
		errs = append(errs, err)
		if !errors.Is(err, ErrUnauthorized) && !errors.Is(err, ErrNotFound) {
			break // other credentials would not help
		}
	}
	return agent.Image{}, errors.Join(errs...)
}

// pull fetches and unpacks under one lease, so that nothing of a new image is
// collected before it is whole.
func (s *Store) pull(ctx context.Context, p *pull, credential agent.Credential) (agent.Image, error) {
	name := p.name
	ctx, done, err := s.config.Client.WithLease(ctx)
	if err != nil {
		return agent.Image{}, err
	}
	defer done(context.WithoutCancel(ctx))
	ctx, progress := watchProgress(ctx, &p.received)
	defer progress.stop()
	pulled, err := s.config.Client.Pull(ctx, name,
		client.WithResolver(s.resolver(credential, progress)), client.WithMaxConcurrentDownloads(downloads))
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return agent.Image{}, fmt.Errorf("failed to pull and unpack image %q: %w", name, explain(err))
	}
	progress.stop() // unpacking is not the network's fault
	i, err := s.describe(ctx, pulled.Metadata())
	if err != nil {
		return agent.Image{}, fmt.Errorf("failed to pull and unpack image %q: %w", name, err)
	}
	return i, s.unpack(ctx, pulled.Metadata(), i)
}

// newTransport returns what carries requests to registries. To a machine whose clock
// is behind, their certificates would not have begun yet.
func newTransport(latest func() time.Time) *http.Transport {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.IdleConnTimeout = 10 * time.Second // a node seldom pulls twice in a row
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, Time: latest}
	return transport
}

// resolver speaks to registries: over HTTPS, or HTTP on this machine.
func (s *Store) resolver(credential agent.Credential, progress *progress) remotes.Resolver {
	plain := &http.Client{Transport: progress.count(newTransport(s.config.Latest))}
	options := []docker.AuthorizerOpt{docker.WithAuthClient(plain)}
	if credential != (agent.Credential{}) {
		options = append(options, docker.WithAuthCreds(func(host string) (string, string, error) {
			if !sameRegistry(credential.Registry, host) {
				return "", "", nil
			}
			if credential.Token != "" {
				return "", credential.Token, nil
			}
			return credential.Username, credential.Password, nil
		}))
	}
	return docker.NewResolver(docker.ResolverOptions{Hosts: docker.ConfigureDefaultRegistries(
		docker.WithClient(plain),
		docker.WithAuthorizer(docker.NewDockerAuthorizer(options...)),
		docker.WithPlainHTTP(docker.MatchLocalhost),
	)})
}

// sameRegistry accepts what people write in a pull secret: a host, with scheme
// and path or not, and Docker Hub's several names. Empty is any.
func sameRegistry(registry, host string) bool {
	registry = strings.TrimPrefix(strings.TrimPrefix(registry, "https://"), "http://")
	registry, _, _ = strings.Cut(registry, "/")
	hub := func(name string) bool {
		return name == "docker.io" || name == "index.docker.io" || name == "registry-1.docker.io"
	}
	return registry == "" || registry == host || hub(registry) && hub(host)
}

// explain keeps an error's text and adds what it means and what to do.
func explain(err error) error {
	var unexpected remoteerrors.ErrUnexpectedStatus
	var network net.Error
	var resolution *net.DNSError
	status := 0
	if errors.As(err, &unexpected) {
		status = unexpected.StatusCode
	}
	switch {
	case errdefs.IsUnauthorized(err) || errdefs.IsPermissionDenied(err) || errors.Is(err, docker.ErrInvalidAuthorization) ||
		status == http.StatusUnauthorized || status == http.StatusForbidden:
		return fmt.Errorf("%w: %w (does the Pod need an imagePullSecret?)", err, ErrUnauthorized)
	case errdefs.IsNotFound(err) || status == http.StatusNotFound:
		return fmt.Errorf("%w: %w (is the name right? skiff images import takes archives)", err, ErrNotFound)
	case errors.As(err, &resolution) || errors.As(err, &network) || errors.Is(err, syscall.ECONNREFUSED) ||
		errors.Is(err, errNoProgress) || status >= http.StatusInternalServerError:
		return fmt.Errorf("%w: %w (without a network, skiff images import takes archives)", err, ErrUnreachable)
	}
	return err
}
