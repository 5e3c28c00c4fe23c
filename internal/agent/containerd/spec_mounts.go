package containerd

import (
	"cmp"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/skiff-sh/skiff/internal/agent"
)

// specMounts returns what every container has and the container's own mounts,
// which win over those, parents before what is mounted in them.
func specMounts(c agent.Container, m machine) []specs.Mount {
	var own []specs.Mount
	for _, mount := range c.Mounts {
		s := specMount(mount)
		if s.Type == "bind" { // what the Pod's root writes there is root's on the machine
			s.UIDMappings, s.GIDMappings = idMappings(c.Pod), idMappings(c.Pod)
		}
		own = append(own, s)
	}
	mounts := slices.DeleteFunc(standardMounts(c, m), func(s specs.Mount) bool {
		return slices.ContainsFunc(own, func(o specs.Mount) bool { return o.Destination == s.Destination })
	})
	mounts = append(mounts, own...)
	slices.SortStableFunc(mounts, func(a, b specs.Mount) int {
		return cmp.Compare(depth(a.Destination), depth(b.Destination))
	})
	return mounts
}

func depth(path string) int {
	return strings.Count(strings.TrimSuffix(filepath.Clean(path), "/"), "/")
}

func standardMounts(c agent.Container, m machine) []specs.Mount {
	access := "ro"
	if c.Privileged {
		access = "rw"
	}
	mounts := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", access}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", access}},
	}
	if c.Pod.IPCNS == "" { // the host's, with what programs share there
		mounts[3] = specs.Mount{Destination: "/dev/shm", Type: "bind", Source: "/dev/shm", Options: []string{"rbind", "rprivate", "rw"}}
	}
	return mounts
}

func specMount(m agent.Mount) specs.Mount {
	access := "rw"
	switch {
	case m.ReadOnly && m.Recursive:
		access = "rro"
	case m.ReadOnly:
		access = "ro"
	}
	if m.Source == "tmpfs" {
		return specs.Mount{
			Destination: m.Target, Type: "tmpfs", Source: "tmpfs",
			Options: append([]string{"nosuid", "nodev", access}, m.Options...),
		}
	}
	propagation := "rprivate"
	if m.Propagation == "rslave" || m.Propagation == "rshared" {
		propagation = m.Propagation
	}
	return specs.Mount{
		Destination: m.Target, Type: "bind", Source: m.Source,
		Options: append([]string{"rbind", propagation, access}, m.Options...),
	}
}

// rootPropagation is what the widest of the mounts needs of the root.
func rootPropagation(mounts []agent.Mount) string {
	root := ""
	for _, m := range mounts {
		switch m.Propagation {
		case "rshared":
			return "rshared"
		case "rslave":
			root = "rslave"
		}
	}
	return root
}
