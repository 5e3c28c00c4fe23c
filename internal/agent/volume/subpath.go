package volume

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// SubPath is a part of a volume that a container mounts.
type SubPath struct {
	PodUID, Volume, Container string
	Index                     int    // of the mount in the container
	Root                      string // the volume on the host
	Path                      string // below Root
	Image                     bool   // a directory of an image: it must be there
}

// Bind pins the part with a bind mount of its own and returns where. The part
// is opened without leaving the volume, whatever links the Pod put there, and
// what was opened is what is mounted. A directory that does not exist is made.
func (v *Volumes) Bind(s SubPath) (string, error) {
	if !filepath.IsLocal(s.Path) {
		return "", fmt.Errorf("subPath %q lies outside the volume", s.Path)
	}
	target := filepath.Join(v.Root, s.PodUID, "volume-subpaths", s.Volume, s.Container, strconv.Itoa(s.Index))
	return target, v.Disk.bind(target, s)
}

func (kernel) bind(target string, s SubPath) error {
	open := openBeneath
	if s.Image {
		open = openDir
	}
	fd, err := open(s.Root, s.Path)
	if inside := withoutLinks(s.Root, s.Path); err == unix.EXDEV && inside != "" {
		fd, err = open(s.Root, inside)
	}
	if err != nil {
		return fmt.Errorf("failed to prepare subPath for volumeMount %q of container %q: %w", s.Volume, s.Container, err)
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return fmt.Errorf("stat subPath %s: %w", s.Path, err)
	}
	if there, err := mountinfo.Mounted(target); err == nil && there {
		// The last run's: the volume may show another file by now.
		if err := unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("unmount old subPath: %w", err)
		}
	}
	if err := makeTarget(target, stat.Mode&unix.S_IFMT == unix.S_IFDIR); err != nil {
		return err
	}
	source := "/proc/self/fd/" + strconv.Itoa(fd)
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind subPath %s: %w", s.Path, err)
	}
	return nil
}

// withoutLinks is the path below root to which the links on the way lead, "" if that is
// elsewhere. A link may be absolute, as people make them on their machines; what it
// leads to may be another thing by the time that it is opened, beneath root again.
func withoutLinks(root, path string) string {
	base, err := filepath.EvalSymlinks(root)
	if err != nil {
		return ""
	}
	full, err := filepath.EvalSymlinks(filepath.Join(base, path))
	if err != nil {
		return ""
	}
	inside, err := filepath.Rel(base, full)
	if err != nil || !filepath.IsLocal(inside) {
		return ""
	}
	return inside
}

func makeTarget(target string, dir bool) error {
	if info, err := os.Stat(target); err == nil && info.IsDir() != dir {
		if err := os.Remove(target); err != nil {
			return fmt.Errorf("replace subPath target: %w", err)
		}
	}
	if dir {
		if err := os.MkdirAll(target, 0o750); err != nil {
			return fmt.Errorf("make subPath target: %w", err)
		}
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return fmt.Errorf("make subPath target: %w", err)
	}
	f, err := os.OpenFile(target, os.O_CREATE, 0o640)
	if err != nil {
		return fmt.Errorf("make subPath target: %w", err)
	}
	return f.Close()
}

// openBeneath opens path below root as a reference to it, making missing
// directories.
func openBeneath(root, path string) (int, error) {
	base, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open volume: %w", err)
	}
	defer unix.Close(base)
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(base, path, &how)
	if err != unix.ENOENT {
		return fd, err
	}
	var stat unix.Stat_t
	if err := unix.Fstat(base, &stat); err != nil {
		return -1, err
	}
	parent := base
	if up := filepath.Dir(filepath.Clean(path)); up != "." {
		if parent, err = openBeneath(root, up); err != nil {
			return -1, err
		}
		defer unix.Close(parent)
	}
	if err := unix.Mkdirat(parent, filepath.Base(path), stat.Mode&0o7777); err != nil && err != unix.EEXIST {
		return -1, fmt.Errorf("make %s: %w", path, err)
	}
	fd, err = unix.Openat2(base, path, &how)
	if err != nil {
		return -1, err
	}
	// The mask of this process must not narrow what the volume allows, nor its
	// group be lost.
	if err := unix.Fchownat(fd, "", -1, int(stat.Gid), unix.AT_EMPTY_PATH); err != nil {
		return fd, nil
	}
	mode := os.FileMode(stat.Mode & 0o777)
	if stat.Mode&unix.S_ISGID != 0 { // what is made inside is the group's as well
		mode |= os.ModeSetgid
	}
	_ = os.Chmod("/proc/self/fd/"+strconv.Itoa(fd), mode)
	return fd, nil
}
