package image

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/zap"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/skiff-sh/skiff/internal/agent"
)

// What a pull that fails can be told by, with errors.Is.
var (
	ErrNotFound     = errors.New("the registry has no such image")
	ErrUnauthorized = errors.New("the registry refuses these credentials")
	ErrUnreachable  = agent.ErrRegistryUnavailable
	ErrFull         = errors.New("the node's disk is full")
	ErrTooMany      = errors.New("pull QPS exceeded") // as upstream's kubelet says it
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

// Pull implements agent.Images. Each credential is tried in turn until one lets us in,
// and then none but what registries.yaml has: the image may be public. A pull that
// receives nothing for a while fails. Errors are ErrNotFound, ErrUnauthorized,
// ErrUnreachable, ErrFull, ErrTooMany or another.
func (s *Store) Pull(ctx context.Context, ref string, credentials []agent.Credential) (agent.Image, error) {
	return s.join(ctx, ref, credentials, s.rate)
}

// PullNow is Pull for somebody who asks for this image: how often that happens is
// their affair.
func (s *Store) PullNow(ctx context.Context, ref string) (agent.Image, error) {
	return s.join(ctx, ref, nil, nil)
}

// join waits for the pull of an image, which it begins if there is none and the rate
// allows it.
func (s *Store) join(ctx context.Context, ref string, credentials []agent.Credential, rate flowcontrol.RateLimiter) (agent.Image, error) {
	name, err := Normalize(ref)
	if err != nil {
		return agent.Image{}, err
	}
	// Who may not log in must not get what another is fetching.
	key := fmt.Sprintf("%s %q", name, credentials)
	s.mu.Lock()
	p, ok := s.pulls[key]
	if !ok && rate != nil && !rate.TryAccept() {
		s.mu.Unlock()
		return agent.Image{}, ErrTooMany
	}
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
		if p.err = s.turns.take(ctx); p.err == nil {
			began := time.Now()
			p.image, p.err = s.attempt(s.scope(ctx), p, credentials)
			p.image.Took = time.Since(began)
			s.turns.give()
		}
		if p.err == nil {
			s.config.Log.Info("pulled an image", zap.String("image", name), zap.Duration("took", p.image.Took))
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
	var errs []error
	for _, c := range slices.Concat(credentials, []agent.Credential{{}}) {
		i, err := s.pull(ctx, p, c)
		if err == nil {
			return i, nil
		}
		errs = append(errs, err)
		if !errors.Is(err, ErrUnauthorized) && !errors.Is(err, ErrNotFound) {
			break // other credentials would not help
		}
	}
	return agent.Image{}, utilerrors.NewAggregate(errs)
}

// pull fetches and unpacks under the image's lease, so that nothing of a new image
// is collected before it is whole. It gets its name last.
func (s *Store) pull(ctx context.Context, p *pull, credential agent.Credential) (_ agent.Image, err error) {
	name := p.name
	ctx, done, err := s.lease(ctx, name)
	if err != nil {
		return agent.Image{}, err
	}
	ctx, progress := watchProgress(ctx, &p.received)
	defer progress.stop()
	defer func() { done(err, progress.cut() || errors.Is(err, ErrUnreachable) || ctx.Err() != nil) }()
	hosts, err := s.hosts(credential, progress)
	if err != nil {
		return agent.Image{}, fmt.Errorf("failed to pull image %q: %w", name, err)
	}
	pulled, err := s.config.Client.Pull(ctx, name,
		client.WithResolver(docker.NewResolver(docker.ResolverOptions{Hosts: hosts})), client.WithMaxConcurrentDownloads(downloads),
		client.WithImageHandlerWrapper(strict), client.WithPullLabels(s.pulledLabels(ctx, name, credential)),
		// Files are on disk before a snapshot is recorded: after a power cut they would
		// be there, and empty.
		client.WithPullUnpack, client.WithPullSnapshotter(s.config.Snapshotter),
		client.WithUnpackOpts([]client.UnpackOpt{client.WithUnpackApplyOpts(diff.WithSyncFs(true))}))
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return agent.Image{}, fmt.Errorf("failed to pull and unpack image %q: %w", name, explain(err))
	}
	i, err := s.describe(ctx, pulled.Metadata())
	if err != nil {
		return agent.Image{}, fmt.Errorf("failed to pull and unpack image %q: %w", name, err)
	}
	return i, s.unpack(ctx, pulled.Metadata(), i) // also where its layers were those of another
}

// maxDescription is the most bytes that a manifest or a configuration may have: they
// are read into our own memory.
const maxDescription = 8 << 20

// modest refuses what would not be.
func modest(d ocispec.Descriptor) error {
	if !images.IsLayerType(d.MediaType) && d.Size > maxDescription {
		return fmt.Errorf("%s %s is said to have %d bytes: more than %d are not taken", d.MediaType, d.Digest, d.Size, maxDescription)
	}
	return nil
}

// strict fetches what is modest, and from registries alone: an image may name other
// places for its layers, whatever the machine can reach.
func strict(fetch images.Handler) images.Handler {
	return images.HandlerFunc(func(ctx context.Context, d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		if err := modest(d); err != nil {
			return nil, err
		}
		d.URLs = nil
		children, err := fetch.Handle(ctx, d)
		for i := range children {
			children[i].URLs = nil
		}
		return children, err
	})
}

// leaseTime is how long what a pull that failed has fetched waits for the next one.
const leaseTime = 24 * time.Hour

// lease keeps what is fetched of an image from being collected until done. After an
// error that may pass, that is not at once: the next pull goes on where this one was cut.
func (s *Store) lease(ctx context.Context, name string) (_ context.Context, done func(err error, passes bool), err error) {
	manager := s.config.Client.LeasesService()
	l := leases.Lease{ID: "pull-" + digest.FromString(name).Encoded()}
	// What is there of a pull that was cut goes on.
	if _, err = manager.Create(ctx, leases.WithID(l.ID), leases.WithExpiration(leaseTime)); err != nil && !errdefs.IsAlreadyExists(err) {
		return ctx, nil, fmt.Errorf("pull image %q: %w", name, err)
	}
	return leases.WithLease(ctx, l.ID), func(err error, passes bool) {
		ctx := context.WithoutCancel(ctx)
		switch {
		// What came is not what was asked for, or lies where room is needed.
		case errdefs.IsFailedPrecondition(err), errors.Is(err, ErrFull), err != nil && !passes:
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
	case errors.Is(err, syscall.ENOSPC):
		return explainFull(err)
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

// explainFull is explain for what has nothing to do with a registry.
func explainFull(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("%w: %w (skiff images ls shows what could go)", err, ErrFull)
	}
	return err
}
