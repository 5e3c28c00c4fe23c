package volume

import (
	"fmt"
	"os"

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
