package containerd

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/internal/agent"
)

// specDevices returns a container's device nodes and the cgroup's rules. runc
// adds those that every container has (null, zero, tty …).
func specDevices(c agent.Container) ([]specs.LinuxDevice, []specs.LinuxDeviceCgroup, error) {
	if c.Privileged {
		devices, err := hostDevices()
		return devices, []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}, err
	}
	rules := []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	var devices []specs.LinuxDevice
	for _, text := range c.Devices {
		source, target, access := parseDevice(text)
		d, err := device(source)
		if err != nil {
			return nil, nil, fmt.Errorf("device %s: %w", text, err)
		}
		d.Path = target
		devices = append(devices, d)
		rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: d.Type, Major: &d.Major, Minor: &d.Minor, Access: access})
	}
	return devices, rules, nil
}

// parseDevice reads HOST[:CONTAINER[:ACCESS]].
func parseDevice(text string) (source, target, access string) {
	parts := strings.SplitN(text, ":", 3)
	source, target, access = parts[0], parts[0], "rwm"
	if len(parts) > 1 && parts[1] != "" {
		target = parts[1]
	}
	if len(parts) > 2 {
		access = parts[2]
	}
	return source, target, access
}

var errNoDevice = errors.New("not a device node")

func device(path string) (specs.LinuxDevice, error) {
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return specs.LinuxDevice{}, err
	}
	kind := ""
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFBLK:
		kind = "b"
	case unix.S_IFCHR:
		kind = "c"
	default:
		return specs.LinuxDevice{}, errNoDevice
	}
	mode := fs.FileMode(stat.Mode &^ unix.S_IFMT)
	return specs.LinuxDevice{
		Path: path, Type: kind, Major: int64(unix.Major(stat.Rdev)), Minor: int64(unix.Minor(stat.Rdev)),
		FileMode: &mode, UID: &stat.Uid, GID: &stat.Gid,
	}, nil
}

// hostDevices returns every device node below /dev, for privileged containers.
func hostDevices() ([]specs.LinuxDevice, error) {
	var devices []specs.LinuxDevice
	others := []string{"/dev/pts", "/dev/shm", "/dev/fd", "/dev/mqueue", "/dev/.lxc", "/dev/.lxd-mounts", "/dev/.udev"}
	err := filepath.WalkDir("/dev", func(path string, entry fs.DirEntry, err error) error {
		if err != nil { // devices come and go
			return nil
		}
		if entry.IsDir() && slices.Contains(others, path) {
			return fs.SkipDir
		}
		if entry.Type()&fs.ModeDevice == 0 || path == "/dev/console" {
			return nil
		}
		if d, err := device(path); err == nil {
			devices = append(devices, d)
		}
		return nil
	})
	return devices, err
}
