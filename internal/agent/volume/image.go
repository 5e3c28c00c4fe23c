package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

const imagePlugin = "image"

// ImageDir is where a Pod's volume of an image is. Whoever keeps the images
// mounts it there.
func (v *Volumes) ImageDir(podUID, name string) string {
	return v.Dir(podUID, &corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{}}})
}

// Images lists a Pod's volumes of images: those that have a place on the disk,
// whether or not anything is mounted there.
func (v *Volumes) Images(podUID string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Dir(v.ImageDir(podUID, "any")))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list volumes of images: %w", err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// makeImageDir makes the place of an image. What is mounted there already
// cannot be written, nor need it be.
func makeImageDir(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("make volume directory: %w", err)
	}
	return nil
}

// Mounted says whether something is mounted at a directory.
func Mounted(dir string) (bool, error) {
	there, err := mountinfo.Mounted(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for a mount at %s: %w", dir, err)
	}
	return there, nil
}

// openDir opens a directory below root as a reference to it.
func openDir(root, path string) (int, error) {
	base, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open volume: %w", err)
	}
	defer unix.Close(base)
	// Absolute links in an image mean the image's own root.
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(base, path, &how)
	if errors.Is(err, unix.ENOTDIR) {
		return -1, fmt.Errorf("only directory subpath is supported, subpath: %q", path)
	}
	return fd, err
}
