package containerd

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/skiff-sh/skiff/internal/agent"
)

// defaultPath is PATH for images that set none.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// specVersion is the oldest version of the specification that has what we say:
// distributions' runtimes refuse those that are newer than themselves.
const specVersion = "1.0.2"

// machine is what a spec depends on besides the container.
type machine struct {
	capabilities   uint64 // bounding set
	unifiedCgroups bool
	swapLimit      bool // the kernel can limit swap
	oomScoreAdj    int  // the lowest value this process may give
	processors     int
	hugePages      bool // cgroups limit them
}

func inspectMachine() machine {
	m := machine{capabilities: heldCapabilities(), oomScoreAdj: -1000, processors: runtime.NumCPU()}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		m.unifiedCgroups = true
		found, _ := filepath.Glob("/sys/fs/cgroup/*/memory.swap.max")
		m.swapLimit = len(found) > 0
	} else if _, err := os.Stat("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes"); err == nil {
		m.swapLimit = true
	}
	m.hugePages = limitsHugePages()
	const sysResource = 24 // its number in capability.h
	if m.capabilities&(1<<sysResource) == 0 {
		if data, err := os.ReadFile("/proc/self/oom_score_adj"); err == nil {
			m.oomScoreAdj, _ = strconv.Atoi(strings.TrimSpace(string(data)))
		}
	}
	return m
}

// limitsHugePages says whether the kernel's cgroups have the controller, in
// either version.
func limitsHugePages() bool {
	if _, err := os.Stat("/sys/fs/cgroup/hugetlb"); err == nil {
		return true
	}
	data, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
	return err == nil && slices.Contains(strings.Fields(string(data)), "hugetlb")
}

// newSpec translates a container into the OCI runtime specification.
func newSpec(c agent.Container, m machine) (*specs.Spec, error) {
	filter, err := seccompProfile(c, m)
	if err != nil {
		return nil, err
	}
	devices, rules, err := specDevices(c)
	if err != nil {
		return nil, err
	}
	s := &specs.Spec{
		Version:  specVersion,
		Root:     &specs.Root{Path: RootFS, Readonly: c.ReadOnlyRootfs},
		Hostname: c.Hostname,
		Process:  specProcess(c, m),
		Mounts:   specMounts(c, m),
		Linux: &specs.Linux{
			Namespaces:        specNamespaces(c, m),
			CgroupsPath:       "/" + filepath.Join(c.Pod.CgroupParent, c.ID),
			Sysctl:            c.Sysctls,
			Devices:           devices,
			Resources:         specResources(c.Resources, m),
			Seccomp:           filter,
			RootfsPropagation: rootPropagation(c.Mounts),
		},
	}
	s.Linux.Resources.Devices = rules
	if ids := idMappings(c.Pod); ids != nil {
		s.Linux.UIDMappings, s.Linux.GIDMappings = ids, ids
	}
	if c.Pod.UTSNS == "" {
		s.Hostname = "" // the host's, which a container must not change
	}
	if c.MaskedPaths && !c.Privileged {
		s.Linux.MaskedPaths = maskedPaths(m)
		s.Linux.ReadonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
	}
	return s, nil
}

func specProcess(c agent.Container, m machine) *specs.Process {
	granted := grantedCapabilities(c.Privileged, c.CapAdd, c.CapDrop, m.capabilities)
	score := max(c.Resources.OOMScoreAdj, m.oomScoreAdj)
	p := &specs.Process{
		Terminal:        c.TTY,
		User:            specs.User{UID: uint32(c.User.UID), GID: uint32(c.User.GID)},
		Args:            c.Args,
		Env:             environment(c),
		Cwd:             cmp.Or(c.WorkingDir, "/"),
		NoNewPrivileges: c.NoNewPrivs,
		OOMScoreAdj:     &score,
		Capabilities:    &specs.LinuxCapabilities{Bounding: granted, Effective: granted, Permitted: granted},
	}
	for _, gid := range c.User.Groups {
		p.User.AdditionalGids = append(p.User.AdditionalGids, uint32(gid))
	}
	return p
}

// environment adds what programs expect and the image does not set.
func environment(c agent.Container) []string {
	env := slices.Clone(c.Env)
	add := func(name, value string) {
		if value != "" && !slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") }) {
			env = append(env, name+"="+value)
		}
	}
	add("PATH", defaultPath)
	add("HOSTNAME", c.Hostname)
	if c.TTY {
		add("TERM", "xterm")
	}
	return env
}

func specNamespaces(c agent.Container, m machine) []specs.LinuxNamespace {
	spaces := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	join := func(kind specs.LinuxNamespaceType, path string) {
		if path != "" {
			spaces = append(spaces, specs.LinuxNamespace{Type: kind, Path: path})
		}
	}
	switch c.Pod.PIDNS {
	case "":
		spaces = append(spaces, specs.LinuxNamespace{Type: specs.PIDNamespace})
	case "host":
	default:
		join(specs.PIDNamespace, c.Pod.PIDNS)
	}
	join(specs.UserNamespace, c.Pod.UserNS)
	join(specs.NetworkNamespace, c.Pod.NetNS)
	join(specs.IPCNamespace, c.Pod.IPCNS)
	join(specs.UTSNamespace, c.Pod.UTSNS)
	if m.unifiedCgroups && !c.Privileged {
		spaces = append(spaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	return spaces
}

func specResources(r agent.Resources, m machine) *specs.LinuxResources {
	out := &specs.LinuxResources{CPU: &specs.LinuxCPU{}, Memory: &specs.LinuxMemory{}}
	if r.CPUShares != 0 {
		out.CPU.Shares = &r.CPUShares
	}
	if r.CPUQuota != 0 {
		out.CPU.Quota = &r.CPUQuota
	}
	if r.CPUPeriod != 0 {
		out.CPU.Period = &r.CPUPeriod
	}
	if r.MemoryLimit != 0 {
		out.Memory.Limit = &r.MemoryLimit
		if m.swapLimit && !m.unifiedCgroups { // the limit includes swap: a container has none
			out.Memory.Swap = &r.MemoryLimit
		}
	}
	if m.unifiedCgroups {
		out.Unified = map[string]string{}
		if r.OOMGroup {
			out.Unified["memory.oom.group"] = "1"
		}
		if m.swapLimit {
			out.Unified["memory.swap.max"] = strconv.FormatInt(r.Swap, 10)
		}
	}
	if m.hugePages {
		for _, size := range slices.Sorted(maps.Keys(r.HugePages)) {
			out.HugepageLimits = append(out.HugepageLimits, specs.LinuxHugepageLimit{Pagesize: size, Limit: uint64(r.HugePages[size])})
		}
	}
	if r.PidsLimit != 0 {
		out.Pids = &specs.LinuxPids{Limit: &r.PidsLimit}
	}
	return out
}

// maskedPaths are those of /proc and /sys that tell of or change the host.
func maskedPaths(m machine) []string {
	paths := []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi",
		"/sys/firmware", "/sys/devices/virtual/powercap",
	}
	for cpu := range m.processors {
		path := fmt.Sprintf("/sys/devices/system/cpu/cpu%d/thermal_throttle", cpu)
		if _, err := os.Stat(path); err == nil {
			paths = append(paths, path)
		}
	}
	return paths
}
