// Package image keeps a node's images in containerd: it implements
// agent.Images, imports archives, and mounts images as volumes.
//
// Store gives every image a normalized name (docker.io/library/busybox:latest),
// fetches it for this machine's platform, and unpacks it, so that an image that
// is present can be run at once. Concurrent pulls of one image are one. What no
// name refers to is deleted by containerd; Store never deletes a name by
// itself, and never decides whether to pull.
package image

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"go.uber.org/zap"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/skiff-sh/skiff/internal/agent"
	"github.com/skiff-sh/skiff/internal/config"
)

// Config is what a Store needs.
type Config struct {
	Client      *client.Client
	Namespace   string // containerd namespace of the node
	Snapshotter string // where images are unpacked
	Log         *zap.Logger
	// Latest is optional: the latest time known to be past, by which registries'
	// certificates are judged; nil: this machine's clock.
	Latest func() time.Time
	// Registries is the path of registries.yaml (see package registries), which is
	// read anew for each pull; OnlyMirrors never asks a registry that has mirrors
	// itself. Both are optional.
	Registries  string
	OnlyMirrors bool
	Pulls       config.Pulls // how many there may be
}

// Store is a node's images. It implements agent.Images. All methods are safe
// for concurrent use.
type Store struct {
	config Config

	running sync.WaitGroup // pulls
	turns   turns
	rate    flowcontrol.RateLimiter // nil: none

	mu    sync.Mutex // of the maps
	pulls map[string]*pull
	known map[digest.Digest]agent.Image // what describe has read, by the record's target
}

var _ agent.Images = (*Store)(nil)

// New returns the image store of a containerd.
func New(c Config) *Store {
	s := &Store{config: c, turns: newTurns(c.Pulls.Limit()), pulls: map[string]*pull{}, known: map[digest.Digest]agent.Image{}}
	if c.Pulls.QPS > 0 {
		s.rate = flowcontrol.NewTokenBucketRateLimiter(float32(c.Pulls.QPS), c.Pulls.Burst)
	}
	return s
}

// Close gives up the pulls that run and waits for them. It comes before the
// end of the client.
func (s *Store) Close() error {
	s.mu.Lock()
	for _, p := range s.pulls {
		p.cancel()
	}
	s.mu.Unlock()
	s.running.Wait()
	return nil
}

func (s *Store) scope(ctx context.Context) context.Context {
	return namespaces.WithNamespace(ctx, s.config.Namespace)
}

// Normalize completes a name as in a Pod's image field: a missing registry,
// repository prefix and tag are Docker Hub's, library and latest. Of a name
// with both a tag and a digest the digest counts.
func Normalize(ref string) (string, error) {
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return "", fmt.Errorf("couldn't parse image name %q: %w", ref, err)
	}
	return named.String(), nil
}

// Get implements agent.Images. Besides names it knows images by their ID and by
// the digest of what a tag refers to.
func (s *Store) Get(ctx context.Context, ref string) (agent.Image, bool, error) {
	ctx = s.scope(ctx)
	found, err := s.find(ctx, ref)
	if err != nil {
		if errdefs.IsNotFound(err) {
			err = nil
		}
		return agent.Image{}, false, err
	}
	i, err := s.describe(ctx, found)
	if errdefs.IsNotFound(err) { // begun, or of another platform: it must be pulled
		return agent.Image{}, false, nil
	}
	if err != nil {
		return agent.Image{}, false, fmt.Errorf("image %q: %w", ref, err)
	}
	if err := s.unpack(ctx, found, i); err != nil {
		return agent.Image{}, false, err
	}
	return i, true, nil
}

// find returns the record that a name, an ID or a digest means.
func (s *Store) find(ctx context.Context, ref string) (images.Image, error) {
	service := s.config.Client.ImageService()
	if strings.HasPrefix(ref, "sha256:") {
		return s.search(ctx, func(i images.Image) bool {
			found, err := s.describe(ctx, i)
			return err == nil && found.ID == ref
		})
	}
	name, err := Normalize(ref)
	if err != nil {
		return images.Image{}, err
	}
	found, err := service.Get(ctx, name)
	if err == nil || !errdefs.IsNotFound(err) || !strings.Contains(name, "@") {
		return found, err
	}
	repository, target, _ := strings.Cut(name, "@")
	return s.search(ctx, func(i images.Image) bool {
		return i.Target.Digest.String() == target && repositoryOf(i.Name) == repository
	})
}

func (s *Store) search(ctx context.Context, match func(images.Image) bool) (images.Image, error) {
	all, err := s.config.Client.ImageService().List(ctx)
	if err != nil {
		return images.Image{}, err
	}
	if i := slices.IndexFunc(all, match); i >= 0 {
		return all[i], nil
	}
	return images.Image{}, errdefs.ErrNotFound
}

func repositoryOf(name string) string {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return ""
	}
	return named.Name()
}

// List implements agent.Images: one entry for each image, whatever the number
// of its names.
func (s *Store) List(ctx context.Context) ([]agent.Image, error) {
	ctx = s.scope(ctx)
	records, err := s.config.Client.ImageService().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	s.forget(records)
	var all []agent.Image
	for _, record := range records {
		i, err := s.describe(ctx, record)
		if errdefs.IsNotFound(err) {
			continue // being pulled or removed
		}
		if err != nil {
			return nil, fmt.Errorf("image %q: %w", record.Name, err)
		}
		i.Kept = kept(record)
		at := slices.IndexFunc(all, func(other agent.Image) bool { return other.ID == i.ID })
		if at >= 0 {
			all[at].Kept = all[at].Kept || i.Kept
		} else {
			all = append(all, i)
			continue
		}
		for _, name := range i.Names {
			if !slices.Contains(all[at].Names, name) {
				all[at].Names = append(all[at].Names, name)
			}
		}
	}
	return all, nil
}

// forget drops what is known of images that are gone.
func (s *Store) forget(present []images.Image) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.known, func(target digest.Digest, _ agent.Image) bool {
		return !slices.ContainsFunc(present, func(i images.Image) bool { return i.Target.Digest == target })
	})
}

// Remove takes a name away, or with an ID all names of an image. Containers
// keep what they use of it.
func (s *Store) Remove(ctx context.Context, ref string) error {
	ctx = s.scope(ctx)
	found, err := s.find(ctx, ref)
	if errdefs.IsNotFound(err) {
		return fmt.Errorf("image %q: %w (skiff images ls shows the names)", ref, errdefs.ErrNotFound)
	}
	if err != nil {
		return err
	}
	names := []string{found.Name}
	if strings.HasPrefix(ref, "sha256:") {
		all, err := s.config.Client.ImageService().List(ctx)
		if err != nil {
			return err
		}
		for _, other := range all {
			if other.Target.Digest == found.Target.Digest && other.Name != found.Name {
				names = append(names, other.Name)
			}
		}
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, s.config.Client.ImageService().Delete(ctx, name))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove image %q: %w", ref, err)
	}
	return nil
}
