package containerd

import (
	"context"
	"fmt"
)

// LayerUsage implements agent.Runtime.
func (r *Runtime) LayerUsage(ctx context.Context, id string) (bytes, inodes int64, err error) {
	u, err := r.store.client.SnapshotService(r.store.snapshotter).Usage(r.scope(ctx), id)
	if err != nil {
		return 0, 0, fmt.Errorf("read what container %s has written: %w", id, err)
	}
	return u.Size, u.Inodes, nil
}
