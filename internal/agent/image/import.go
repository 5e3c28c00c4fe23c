package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/errdefs"

	"github.com/skiff-sh/skiff/internal/agent"
)

// Import reads an OCI or docker archive, compressed or not, and returns the
// images it holds for this platform, ready to run.
func (s *Store) Import(ctx context.Context, archive io.Reader) ([]agent.Image, error) {
	ctx, done, err := s.config.Client.WithLease(s.scope(ctx))
	if err != nil {
		return nil, err
	}
	defer done(context.WithoutCancel(ctx))
	plain, err := compression.DecompressStream(archive)
	if err != nil {
		return nil, fmt.Errorf("read archive: %w", err)
	}
	defer plain.Close()
	records, err := s.config.Client.Import(ctx, plain, client.WithImageRefTranslator(archiveName), client.WithSkipMissing())
	if errdefs.IsNotFound(err) {
		return nil, fmt.Errorf("read archive: it holds nothing for this machine's platform: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("read archive: %w (expected an OCI or docker archive)", err)
	}
	if len(records) == 0 {
		return nil, errors.New("the archive does not name its images: write it with a full name, as docker save NAME:TAG does")
	}
	var imported []agent.Image
	for _, record := range records {
		i, err := s.take(ctx, record)
		if err != nil {
			return nil, fmt.Errorf("import image %q: %w", record.Name, err)
		}
		imported = append(imported, i)
	}
	return imported, nil
}

// archiveName drops what an OCI archive says of a name where that is a tag
// alone; the whole archive is then nameless.
func archiveName(name string) string {
	if !strings.ContainsAny(name, "/:") {
		return ""
	}
	return name
}

// take gives an imported image its normalized name and unpacks it.
func (s *Store) take(ctx context.Context, record images.Image) (agent.Image, error) {
	name, err := Normalize(record.Name)
	if err != nil {
		return agent.Image{}, err
	}
	if name != record.Name {
		given := record.Name
		record.Name = name
		if err := s.save(ctx, record); err != nil {
			return agent.Image{}, err
		}
		if err := s.config.Client.ImageService().Delete(ctx, given); err != nil && !errdefs.IsNotFound(err) {
			return agent.Image{}, err
		}
	}
	if err := s.label(ctx, record, map[string]string{importedLabel: "true"}); err != nil {
		return agent.Image{}, err
	}
	i, err := s.describe(ctx, record)
	if err != nil {
		return agent.Image{}, err
	}
	return i, s.unpack(ctx, record, i)
}

// save creates the record or moves its name to this image.
func (s *Store) save(ctx context.Context, record images.Image) error {
	service := s.config.Client.ImageService()
	_, err := service.Create(ctx, record)
	if errdefs.IsAlreadyExists(err) {
		_, err = service.Update(ctx, record, "target")
	}
	return err
}
