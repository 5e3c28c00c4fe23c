package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
)

// readyFile marks, beside an emptyDir, that its group has been set.
func readyFile(dir string) string { return dir + ".ready" }

// setUpEmptyDir makes an emptyDir: a directory, or a file system in memory. What
// a Pod has put into it stays.
func setUpEmptyDir(dir string, pod *corev1.Pod, s *corev1.EmptyDirVolumeSource, memory int64) error {
	fresh, err := makeMedium(dir, pod, s, memory)
	if err != nil {
		return err
	}
	if _, err := os.Stat(readyFile(dir)); err == nil && !fresh {
		return nil
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		return fmt.Errorf("open up emptyDir: %w", err)
	}
	if group := fsGroup(pod); group != nil {
		if err := os.Chown(dir, -1, int(*group)); err != nil {
			return fmt.Errorf("give emptyDir to the group: %w", err)
		}
		if err := os.Chmod(dir, 0o777|os.ModeSetgid); err != nil {
			return fmt.Errorf("set group of emptyDir: %w", err)
		}
	}
	return os.WriteFile(readyFile(dir), nil, 0o600)
}

// makeMedium makes an emptyDir's directory and mounts what its medium asks for;
// fresh is whether it mounted something.
func makeMedium(dir string, pod *corev1.Pod, s *corev1.EmptyDirVolumeSource, memory int64) (fresh bool, err error) {
	switch {
	case s == nil || s.Medium == corev1.StorageMediumDefault:
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return false, fmt.Errorf("make emptyDir: %w", err)
		}
		return false, nil
	case s.Medium == corev1.StorageMediumMemory:
		options := "mode=777"
		if size := memorySize(memory, pod, s); size > 0 {
			options += fmt.Sprintf(",size=%d", size)
		}
		return mountTmpfs(dir, options, "noswap")
	case isHugePages(s.Medium):
		size, err := pageSize(s.Medium, pod)
		if err != nil {
			return false, err
		}
		return mountMemory(dir, "hugetlbfs", fmt.Sprintf("pagesize=%d", size))
	}
	return false, fmt.Errorf("unknown storage medium %q", s.Medium)
}

// checkHostPath makes or checks what the volume's type says is there.
func checkHostPath(s *corev1.HostPathVolumeSource) error {
	kind := corev1.HostPathUnset
	if s.Type != nil {
		kind = *s.Type
	}
	switch kind {
	case corev1.HostPathUnset:
		// Anything will do; nothing becomes a directory, as other runtimes have it.
		if _, err := os.Stat(s.Path); errors.Is(err, fs.ErrNotExist) {
			if err := os.MkdirAll(s.Path, 0o755); err != nil {
				return fmt.Errorf("hostPath: %w", err)
			}
		}
		return nil
	case corev1.HostPathDirectoryOrCreate:
		if _, err := os.Stat(s.Path); errors.Is(err, fs.ErrNotExist) {
			if err := os.MkdirAll(s.Path, 0o755); err != nil {
				return fmt.Errorf("hostPath: %w", err)
			}
		}
	case corev1.HostPathFileOrCreate:
		if _, err := os.Stat(s.Path); errors.Is(err, fs.ErrNotExist) {
			if err := os.MkdirAll(filepath.Dir(s.Path), 0o755); err != nil {
				return fmt.Errorf("hostPath: %w", err)
			}
			if err := os.WriteFile(s.Path, nil, 0o644); err != nil {
				return fmt.Errorf("hostPath: %w", err)
			}
		}
	}
	info, err := os.Stat(s.Path)
	if err != nil {
		return fmt.Errorf("hostPath type check failed: %s is not %s", s.Path, hostPathNoun(kind))
	}
	mode := info.Mode()
	ok := false
	switch kind {
	case corev1.HostPathDirectory, corev1.HostPathDirectoryOrCreate:
		ok = mode.IsDir()
	case corev1.HostPathFile, corev1.HostPathFileOrCreate:
		ok = mode.IsRegular()
	case corev1.HostPathSocket:
		ok = mode&fs.ModeSocket != 0
	case corev1.HostPathCharDev:
		ok = mode&fs.ModeCharDevice != 0
	case corev1.HostPathBlockDev:
		ok = mode&fs.ModeDevice != 0 && mode&fs.ModeCharDevice == 0
	}
	if !ok {
		return fmt.Errorf("hostPath type check failed: %s is not %s", s.Path, hostPathNoun(kind))
	}
	return nil
}

func hostPathNoun(t corev1.HostPathType) string {
	switch t {
	case corev1.HostPathDirectory, corev1.HostPathDirectoryOrCreate:
		return "a directory"
	case corev1.HostPathFile, corev1.HostPathFileOrCreate:
		return "a file"
	case corev1.HostPathSocket:
		return "a socket file"
	case corev1.HostPathCharDev:
		return "a character device"
	}
	return "a block device"
}
