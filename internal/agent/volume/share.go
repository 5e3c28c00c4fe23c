package volume

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"golang.org/x/sys/unix"
)

// Share lets what is mounted in a volume be seen by all who have mounted the
// volume, in other containers and on the host. It is idempotent.
func (v *Volumes) Share(dir string) error {
	if err := v.Disk.share(dir); err != nil {
		return fmt.Errorf("share mounts of volume: %w", err)
	}
	return nil
}

func (kernel) share(dir string) error {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	at, err := mount.Lookup(dir)
	if err != nil {
		return err
	}
	if shared(at) {
		return nil
	}
	if at.Mountpoint != dir { // only the volume's own mounts are to be shared
		if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %s: %w", dir, err)
		}
	}
	return unix.Mount("", dir, "", unix.MS_SHARED, "")
}

// shared says whether what is mounted below a mount appears in its copies.
func shared(m mount.Info) bool {
	return slices.ContainsFunc(strings.Fields(m.Optional), func(o string) bool { return strings.HasPrefix(o, "shared:") })
}
