package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/storage"
	"github.com/containerd/containerd/v2/plugins/snapshots/native"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay/overlayutils"
	"github.com/containerd/errdefs"
	"go.uber.org/zap"
)

// openSnapshotter returns overlayfs, or plain copies where the file system
// cannot carry it.
func openSnapshotter(ctx context.Context, root string, log *zap.Logger) (string, snapshots.Snapshotter, error) {
	dir := filepath.Join(root, "overlayfs")
	if err := overlayutils.Supported(dir); err != nil {
		log.Warn("overlayfs cannot be used here: containers get copies of their images", zap.Error(err))
		dir = filepath.Join(root, "native")
		if err := removeLost(ctx, dir); err != nil {
			return "", nil, fmt.Errorf("clean up snapshots: %w", err)
		}
		s, err := native.NewSnapshotter(dir)
		if err != nil {
			return "", nil, fmt.Errorf("open native snapshotter: %w", err)
		}
		return "native", s, nil
	}
	if err := removeLost(ctx, dir); err != nil {
		return "", nil, fmt.Errorf("clean up snapshots: %w", err)
	}
	s, err := overlay.NewSnapshotter(dir, overlay.AsynchronousRemove, overlay.WithRemapIDs)
	if err != nil {
		return "", nil, fmt.Errorf("open overlayfs snapshotter: %w", err)
	}
	return "overlayfs", s, nil
}

// removeLost removes directories that a crash left without a record: the
// snapshotter would use their numbers anew, and fail.
func removeLost(ctx context.Context, dir string) error {
	entries, err := os.ReadDir(filepath.Join(dir, "snapshots"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	records, err := storage.NewMetaStore(filepath.Join(dir, "metadata.db"))
	if err != nil {
		return err
	}
	recorded := map[string]string{}
	err = records.WithTransaction(ctx, false, func(ctx context.Context) (err error) {
		recorded, err = storage.IDMap(ctx)
		return err
	})
	if err = errors.Join(err, records.Close()); err != nil && !errdefs.IsNotFound(err) { // nothing was ever recorded
		return err
	}
	for _, e := range entries {
		if _, ok := recorded[e.Name()]; !ok {
			if err := os.RemoveAll(filepath.Join(dir, "snapshots", e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
