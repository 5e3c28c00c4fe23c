package containerd

import (
	"fmt"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/skiff-sh/skiff/internal/agent"
	"github.com/skiff-sh/skiff/internal/userns"
)

// idMappings are those of a Pod's user namespace, nil where it has none.
func idMappings(p agent.PodRef) []specs.LinuxIDMapping {
	if p.UserNS == "" {
		return nil
	}
	return []specs.LinuxIDMapping{{ContainerID: 0, HostID: p.FirstID, Size: userns.Size}}
}

// idLabels make the snapshotter show an image's files as the Pod's.
func idLabels(p agent.PodRef) []snapshots.Opt {
	if p.UserNS == "" {
		return nil
	}
	ids := fmt.Sprintf("0:%d:%d", p.FirstID, userns.Size)
	return []snapshots.Opt{snapshots.WithLabels(map[string]string{
		snapshots.LabelSnapshotUIDMapping: ids, snapshots.LabelSnapshotGIDMapping: ids,
	})}
}
