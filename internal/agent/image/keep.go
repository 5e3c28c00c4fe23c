package image

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"

	"github.com/skiff-sh/skiff/internal/agent"
)

// Labels of images that a node never removes for room: one that somebody brought
// here by hand may be nowhere else. The first is what other tools go by too.
const (
	pinnedLabel   = "io.cri-containerd.pinned"
	importedLabel = "skiff.sh/imported"
)

// pulledWith begins labels of an image that came with somebody's credentials: what
// follows is a mark of them.
const pulledWith = "skiff.sh/pulled-with."

// marksOf are those of an image's labels.
func marksOf(i images.Image) []string {
	var marks []string
	for name := range i.Labels {
		if mark, ok := strings.CutPrefix(name, pulledWith); ok {
			marks = append(marks, mark)
		}
	}
	slices.Sort(marks)
	return marks
}

// pulledLabels are the labels of an image after it was pulled with a credential: those
// that it had, and the credential's marks. What comes without credentials is
// everybody's, and what was stays so.
func (s *Store) pulledLabels(ctx context.Context, name string, with agent.Credential) map[string]string {
	before, err := s.config.Client.ImageService().Get(ctx, name)
	labels := maps.Clone(before.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	marks := with.Marks()
	if len(marks) == 0 || err == nil && len(marksOf(before)) == 0 {
		maps.DeleteFunc(labels, func(name, _ string) bool { return strings.HasPrefix(name, pulledWith) })
		return labels
	}
	for _, mark := range marks {
		labels[pulledWith+mark] = "true"
	}
	return labels
}

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
