package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/skiff-sh/skiff/internal/agent"
)

// Import reads an OCI or docker archive, compressed or not, and returns the
// images it holds for this platform, ready to run. After an error nothing of it stays,
// and what had its names has them.
func (s *Store) Import(ctx context.Context, from io.Reader) (_ []agent.Image, err error) {
	ctx, done, err := s.config.Client.WithLease(s.scope(ctx))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, done(context.WithoutCancel(ctx))) }()
	plain, err := compression.DecompressStream(from)
	if err != nil {
		return nil, fmt.Errorf("read archive: %w", err)
	}
	defer plain.Close()
	records, err := s.readArchive(ctx, plain)
	if errdefs.IsNotFound(err) {
		return nil, fmt.Errorf("read archive: it holds nothing for this machine's platform: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("read archive: %w (expected an OCI or docker archive)", explainFull(err))
	}
	if len(records) == 0 {
		return nil, errors.New("the archive does not name its images: write it with a full name, as docker save NAME:TAG does")
	}
	var imported []agent.Image
	for _, record := range records {
		i, err := s.describe(ctx, record)
		if err == nil {
			err = s.unpack(ctx, record, i)
		}
		if err != nil {
			return nil, fmt.Errorf("import image %q: %w", record.Name, explainFull(err))
		}
		imported = append(imported, i)
	}
	for _, record := range records {
		if err := s.save(ctx, record); err != nil {
			return nil, fmt.Errorf("import image %q: %w", record.Name, err)
		}
	}
	return imported, nil
}

// readArchive stores an archive's content and returns records of the images that it
// names, which are not in the store yet.
func (s *Store) readArchive(ctx context.Context, plain io.Reader) ([]images.Image, error) {
	blobs := s.config.Client.ContentStore()
	index, err := archive.ImportIndex(ctx, blobs, plain)
	if err != nil {
		return nil, err
	}
	children := func(ctx context.Context, d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		if err := modest(d); err != nil {
			return nil, err
		}
		found, err := images.Children(ctx, blobs, d)
		if errdefs.IsNotFound(err) && d.Digest != index.Digest { // of another platform
			return nil, images.ErrSkipDesc
		}
		return found, err
	}
	kept := images.SetChildrenLabels(blobs, images.FilterPlatforms(images.HandlerFunc(children), platforms.Default()))
	if err := images.WalkNotEmpty(ctx, kept, index); err != nil {
		return nil, err
	}
	return namedIn(ctx, blobs, index)
}

// namedIn are the images that an index names.
func namedIn(ctx context.Context, blobs content.Provider, index ocispec.Descriptor) ([]images.Image, error) {
	data, err := content.ReadBlob(ctx, blobs, index)
	if err != nil {
		return nil, err
	}
	var all ocispec.Index
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, err
	}
	var records []images.Image
	for _, m := range all.Manifests {
		name := m.Annotations[images.AnnotationImageName]
		if name == "" {
			name = archiveName(m.Annotations[ocispec.AnnotationRefName])
		}
		if name == "" {
			continue
		}
		if name, err = Normalize(name); err != nil {
			return nil, err
		}
		records = append(records, images.Image{Name: name, Target: m, Labels: map[string]string{importedLabel: "true"}})
	}
	return records, nil
}

// archiveName drops what an OCI archive says of a name where that is a tag
// alone; the whole archive is then nameless.
func archiveName(name string) string {
	if !strings.ContainsAny(name, "/:") {
		return ""
	}
	return name
}

// save creates the record or moves its name to this image, which keeps the name's
// labels but those of who may use it: what is imported is for all.
func (s *Store) save(ctx context.Context, record images.Image) error {
	service := s.config.Client.ImageService()
	_, err := service.Create(ctx, record)
	if errdefs.IsAlreadyExists(err) {
		labels := s.pulledLabels(ctx, record.Name, agent.Credential{})
		maps.Copy(labels, record.Labels)
		record.Labels = labels
		_, err = service.Update(ctx, record, "target", "labels")
	}
	return err
}
