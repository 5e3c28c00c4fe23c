package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	corev1 "k8s.io/api/core/v1"
)

// checkHostPath makes or checks what the volume's type says is there.
func checkHostPath(s *corev1.HostPathVolumeSource) error {
	kind := corev1.HostPathUnset
	if s.Type != nil {
		kind = *s.Type
	}
	info, err := os.Stat(s.Path)
	if errors.Is(err, fs.ErrNotExist) {
		switch kind {
		case corev1.HostPathUnset, corev1.HostPathDirectoryOrCreate:
			// Of no type, nothing becomes a directory, as other runtimes have it.
			return os.MkdirAll(s.Path, 0o755)
		case corev1.HostPathFileOrCreate: // where there is a directory for it
			return os.WriteFile(s.Path, nil, 0o644)
		}
	}
	noun, is := hostPathKind(kind)
	if is == nil {
		return fmt.Errorf("%s is an invalid volume type", kind)
	}
	if kind != corev1.HostPathUnset && (err != nil || !is(info.Mode())) {
		return fmt.Errorf("hostPath type check failed: %s is not %s", s.Path, noun)
	}
	return nil
}

// hostPathKind is what a type asks for, in words and as a test.
func hostPathKind(t corev1.HostPathType) (noun string, is func(fs.FileMode) bool) {
	switch t {
	case corev1.HostPathUnset:
		return "anything", func(fs.FileMode) bool { return true }
	case corev1.HostPathDirectory, corev1.HostPathDirectoryOrCreate:
		return "a directory", fs.FileMode.IsDir
	case corev1.HostPathFile, corev1.HostPathFileOrCreate:
		return "a file", fs.FileMode.IsRegular
	case corev1.HostPathSocket:
		return "a socket file", func(m fs.FileMode) bool { return m&fs.ModeSocket != 0 }
	case corev1.HostPathCharDev:
		return "a character device", func(m fs.FileMode) bool { return m&fs.ModeCharDevice != 0 }
	case corev1.HostPathBlockDev:
		return "a block device", func(m fs.FileMode) bool { return m&fs.ModeDevice != 0 && m&fs.ModeCharDevice == 0 }
	}
	return "", nil
}
