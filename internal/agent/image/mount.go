package image

import (
	"context"
	"fmt"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"

	"github.com/skiff-sh/skiff/internal/agent"
)

// keepLabel keeps a snapshot, and the layers below it, from being collected.
const keepLabel = "containerd.io/gc.root"

// viewKey is the name of the snapshot that a mount shows.
func viewKey(key string) string { return "volume/" + key }

// Mount implements agent.Images: a view of the image's layers, which containerd
// keeps as long as it is there.
func (s *Store) Mount(ctx context.Context, image agent.Image, key, dir string) error {
	ctx = s.scope(ctx)
	snapshotter := s.config.Client.SnapshotService(s.config.Snapshotter)
	mounts, err := snapshotter.View(ctx, viewKey(key), image.RootFSChain,
		snapshots.WithLabels(map[string]string{keepLabel: "volume"}))
	if errdefs.IsAlreadyExists(err) {
		mounts, err = snapshotter.Mounts(ctx, viewKey(key))
	}
	if err != nil {
		return fmt.Errorf("prepare view of image %q: %w", image.Ref, err)
	}
	if err := mount.All(mounts, dir); err != nil {
		return fmt.Errorf("mount image %q: %w", image.Ref, err)
	}
	return nil
}

// Unmount implements agent.Images.
func (s *Store) Unmount(ctx context.Context, key, dir string) error {
	ctx = s.scope(ctx)
	if err := mount.UnmountAll(dir, 0); err != nil {
		return fmt.Errorf("unmount image: %w", err)
	}
	err := s.config.Client.SnapshotService(s.config.Snapshotter).Remove(ctx, viewKey(key))
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove view of image: %w", err)
	}
	return nil
}
