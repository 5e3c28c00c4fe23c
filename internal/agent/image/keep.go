package image

import (
	"context"
	"fmt"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
)

// Labels of images that a node never removes for room: one that somebody brought
// here by hand may be nowhere else. The first is what other tools go by too.
const (
	pinnedLabel   = "io.cri-containerd.pinned"
	importedLabel = "skiff.sh/imported"
)

// kept says whether the node never removes the image by itself.
func kept(i images.Image) bool {
	return i.Labels[pinnedLabel] == "pinned" || i.Labels[importedLabel] != ""
}

// Pin keeps an image from being removed for room, and no longer does where pinned
// is false: then also one that was imported may go.
func (s *Store) Pin(ctx context.Context, ref string, pinned bool) error {
	ctx = s.scope(ctx)
	found, err := s.find(ctx, ref)
	if errdefs.IsNotFound(err) {
		return fmt.Errorf("image %q: %w (skiff images ls shows the names)", ref, errdefs.ErrNotFound)
	}
	if err != nil {
		return err
	}
	labels := map[string]string{pinnedLabel: "pinned"}
	if !pinned {
		labels = map[string]string{pinnedLabel: "", importedLabel: ""}
	}
	if err := s.label(ctx, found, labels); err != nil {
		return fmt.Errorf("pin image %q: %w", ref, err)
	}
	return nil
}

// label sets labels of a record; an empty one goes.
func (s *Store) label(ctx context.Context, record images.Image, labels map[string]string) error {
	var paths []string
	record.Labels = labels
	for name := range labels {
		paths = append(paths, "labels."+name)
	}
	_, err := s.config.Client.ImageService().Update(ctx, record, paths...)
	return err
}
