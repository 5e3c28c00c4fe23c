package image

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/skiff-sh/skiff/internal/agent"
)

// describe tells what an image is, which is read once: what a digest names
// never changes.
func (s *Store) describe(ctx context.Context, record images.Image) (agent.Image, error) {
	s.mu.Lock()
	i, ok := s.known[record.Target.Digest]
	s.mu.Unlock()
	if !ok {
		var err error
		if i, err = s.read(ctx, record); err != nil {
			return agent.Image{}, err
		}
		s.mu.Lock()
		s.known[record.Target.Digest] = i
		s.mu.Unlock()
	}
	i.Ref, i.Names, i.Secrets = record.Name, namesOf(record), marksOf(record)
	return i, nil
}

// read reads manifest and configuration for this platform.
func (s *Store) read(ctx context.Context, record images.Image) (agent.Image, error) {
	blobs := s.config.Client.ContentStore()
	manifest, err := images.Manifest(ctx, blobs, record.Target, platforms.Default())
	if err != nil {
		return agent.Image{}, err
	}
	data, err := content.ReadBlob(ctx, blobs, manifest.Config)
	if err != nil {
		return agent.Image{}, err
	}
	// Docker's form: a superset, with what an image may say beyond OCI.
	var config ocispec.Image
	if err := json.Unmarshal(data, &config); err != nil {
		return agent.Image{}, fmt.Errorf("decode configuration: %w", err)
	}
	return agent.Image{
		ID:          manifest.Config.Digest.String(),
		Size:        sizeOf(manifest),
		Entrypoint:  config.Config.Entrypoint,
		Cmd:         config.Config.Cmd,
		Env:         config.Config.Env,
		WorkingDir:  config.Config.WorkingDir,
		User:        config.Config.User,
		StopSignal:  config.Config.StopSignal,
		Volumes:     keys(config.Config.Volumes),
		ExposedTCP:  tcpPorts(config.Config.ExposedPorts),
		RootFSChain: identity.ChainID(config.RootFS.DiffIDs).String(),
	}, nil
}

// namesOf returns the name and, for a tag, the name by digest.
func namesOf(record images.Image) []string {
	names := []string{record.Name}
	if repository := repositoryOf(record.Name); repository != "" && !strings.Contains(record.Name, "@") {
		names = append(names, repository+"@"+record.Target.Digest.String())
	}
	return names
}

func sizeOf(m ocispec.Manifest) int64 {
	size := m.Config.Size
	for _, layer := range m.Layers {
		size += layer.Size
	}
	return size
}

func keys(set map[string]struct{}) []string {
	var names []string
	for name := range set {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func tcpPorts(exposed map[string]struct{}) []int {
	var ports []int
	for name := range exposed {
		number, protocol, _ := strings.Cut(name, "/")
		if port, err := strconv.Atoi(number); err == nil && (protocol == "" || protocol == "tcp") {
			ports = append(ports, port)
		}
	}
	slices.Sort(ports)
	return ports
}

// unpack makes an image's snapshot if it is missing. Its files are on disk before
// it is recorded: after a power cut they would be there, and empty.
func (s *Store) unpack(ctx context.Context, record images.Image, i agent.Image) error {
	_, err := s.config.Client.SnapshotService(s.config.Snapshotter).Stat(ctx, i.RootFSChain)
	if errdefs.IsNotFound(err) {
		err = client.NewImage(s.config.Client, record).Unpack(ctx, s.config.Snapshotter,
			client.WithUnpackApplyOpts(diff.WithSyncFs(true)))
	}
	if err != nil {
		return fmt.Errorf("unpack image %q: %w", record.Name, err)
	}
	return nil
}
