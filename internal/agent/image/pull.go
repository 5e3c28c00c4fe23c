package image

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
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

// pull fetches and unpacks under the image's lease, so that nothing of a new image
// is collected before it is whole.
func (s *Store) pull(ctx context.Context, p *pull, credential agent.Credential) (_ agent.Image, err error) {
	name := p.name
	ctx, done, err := s.lease(ctx, name)
	if err != nil {
		return agent.Image{}, err
	}
	defer func() { done(err) }()
	ctx, progress := watchProgress(ctx, &p.received)
	defer progress.stop()
	hosts, err := s.hosts(credential, progress)
	if err != nil {
		return agent.Image{}, fmt.Errorf("failed to pull image %q: %w", name, err)
	}
	pulled, err := s.config.Client.Pull(ctx, name,
		client.WithResolver(docker.NewResolver(docker.ResolverOptions{Hosts: hosts})), client.WithMaxConcurrentDownloads(downloads))
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

// leaseTime is how long what a pull that failed has fetched waits for the next one.
const leaseTime = 24 * time.Hour

// lease keeps what is fetched of an image from being collected until done. After an
// error that is not at once: the next pull goes on where this one was cut.
func (s *Store) lease(ctx context.Context, name string) (_ context.Context, done func(error), err error) {
	manager := s.config.Client.LeasesService()
	l := leases.Lease{ID: "pull-" + digest.FromString(name).Encoded()}
	// What is there of a pull that was cut goes on.
	if _, err = manager.Create(ctx, leases.WithID(l.ID), leases.WithExpiration(leaseTime)); err != nil && !errdefs.IsAlreadyExists(err) {
		return ctx, nil, fmt.Errorf("pull image %q: %w", name, err)
	}
	return leases.WithLease(ctx, l.ID), func(err error) {
		ctx := context.WithoutCancel(ctx)
		switch {
		case errdefs.IsFailedPrecondition(err): // what came is not what was asked for
			err = s.forgetPart(ctx, l)
		case err != nil:
			return
		}
		if err = errors.Join(err, manager.Delete(ctx, l)); err != nil && !errdefs.IsNotFound(err) {
			s.config.Log.Warn("cannot end the lease of a pull; it ends by itself within a day", zap.String("image", name), zap.Error(err))
		}
	}, nil
}

// forgetPart has nobody go on with what was fetched in part under a lease.
func (s *Store) forgetPart(ctx context.Context, l leases.Lease) error {
	held, err := s.config.Client.LeasesService().ListResources(ctx, l)
	for _, r := range held {
		if r.Type != "ingests" {
			continue
		}
		if e := s.config.Client.ContentStore().Abort(ctx, r.ID); e != nil && !errdefs.IsNotFound(e) {
			err = errors.Join(err, e)
		}
	}
	return err
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
