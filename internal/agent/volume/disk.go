package volume

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// Disk is where volumes are: the machine's own, or Nowhere.
type Disk interface {
	// prepare makes a Pod's volume at dir, without what comes from the API; of one
	// on the host it looks whether that is there.
	prepare(ctx context.Context, dir string, pod *corev1.Pod, vol *corev1.Volume) error
	// write makes dir show exactly files.
	write(dir string, files map[string]file, group *int64) error
	// bind mounts a part of a volume at target, if there is anything to mount.
	bind(target string, s SubPath) error
	// share lets what is mounted in a volume be seen by all who have mounted it.
	share(dir string) error
	// remove unmounts all below dir and deletes it.
	remove(dir string) error
}

// Nowhere is a Disk for Pods that read nothing: what their volumes would show is
// gathered from the API, and then neither mounted nor written.
type Nowhere struct{}

func (Nowhere) prepare(context.Context, string, *corev1.Pod, *corev1.Volume) error { return nil }
func (Nowhere) write(string, map[string]file, *int64) error                        { return nil }
func (Nowhere) bind(string, SubPath) error                                         { return nil }
func (Nowhere) share(string) error                                                 { return nil }
func (Nowhere) remove(dir string) error                                            { return os.RemoveAll(dir) }

// kernel is the machine's own.
type kernel struct{ memory int64 } // what Pods may have of it, in bytes

func (k kernel) prepare(ctx context.Context, dir string, pod *corev1.Pod, vol *corev1.Volume) error {
	switch {
	case vol.HostPath != nil:
		return checkHostPath(vol.HostPath)
	case vol.ConfigMap != nil:
		return makeDir(dir)
	case vol.Image != nil:
		return makeImageDir(dir)
	case vol.NFS != nil:
		return mountNFS(ctx, dir, vol.NFS)
	case fromAPI(vol):
		// What may be secret never reaches a disk.
		_, err := mountTmpfs(dir, "mode=777", "noswap")
		return err
	}
	return setUpEmptyDir(dir, pod, vol.EmptyDir, k.memory)
}

func (kernel) write(dir string, files map[string]file, group *int64) error {
	return writeAtomic(dir, files, group)
}

func (kernel) remove(dir string) error { return removeTree(dir) }

func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("make volume directory: %w", err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		return fmt.Errorf("open up volume directory: %w", err)
	}
	return nil
}

// mountTmpfs mounts a tmpfs unless one is there; fresh is whether it did. Kernels
// before 6.4 do not know the option that is wished for.
func mountTmpfs(dir, options, wish string) (fresh bool, err error) {
	if wish != "" {
		fresh, err := mountMemory(dir, "tmpfs", options+","+wish)
		if !errors.Is(err, unix.EINVAL) {
			return fresh, err
		}
	}
	return mountMemory(dir, "tmpfs", options)
}

// mountMemory mounts a file system in memory unless something is mounted there
// already; fresh is whether it did.
func mountMemory(dir, kind, options string) (fresh bool, err error) {
	if there, err := Mounted(dir); err != nil || there {
		return false, err
	}
	if err := makeDir(dir); err != nil {
		return false, err
	}
	if err := unix.Mount(kind, dir, kind, unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return false, fmt.Errorf("mount %s at %s: %w", kind, dir, err)
	}
	return true, nil
}

// removeTree unmounts all below dir, the innermost first, and deletes it.
func removeTree(dir string) error {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return fmt.Errorf("read mounts: %w", err)
	}
	for i := len(mounts) - 1; i >= 0; i-- {
		err := unix.Unmount(mounts[i].Mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if err != nil && err != unix.EINVAL && err != unix.ENOENT {
			return fmt.Errorf("unmount %s: %w", mounts[i].Mountpoint, err)
		}
	}
	// A mount that somebody put here since must not be emptied with the rest.
	left, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return fmt.Errorf("read mounts: %w", err)
	}
	if len(left) > 0 {
		return fmt.Errorf("remove %s: %s is still mounted", dir, left[0].Mountpoint)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove volumes: %w", err)
	}
	return nil
}

// Tmpfs mounts a tmpfs for shared memory at dir, unless one is there.
func Tmpfs(dir string, size int64) error {
	_, err := mountTmpfs(dir, fmt.Sprintf("mode=1777,size=%d", size), "")
	return err
}
