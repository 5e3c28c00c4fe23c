package containerd

import (
	"os"
	"slices"
	"strconv"
	"strings"
)

// capabilities are all of the kernel's, by number (linux/capability.h).
var capabilities = [...]string{
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
	"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
	"SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
	"SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
	"MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
	"CHECKPOINT_RESTORE",
}

// defaultCapabilities are what every container runtime gives a container that
// says nothing.
var defaultCapabilities = []string{
	"CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP",
	"NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
}

// grantedCapabilities applies adds and drops, where "ALL" comes before single
// names, and leaves out what this process could not pass on.
func grantedCapabilities(privileged bool, add, drop []string, held uint64) []string {
	var granted []string
	switch {
	case privileged || has(add, "ALL"):
		granted = capabilities[:]
	case !has(drop, "ALL"):
		granted = defaultCapabilities
	}
	if !privileged {
		granted = slices.Concat(granted, add)
		granted = slices.DeleteFunc(granted, func(name string) bool { return has(drop, name) })
	}
	var out []string
	for number, name := range capabilities {
		if held&(1<<number) != 0 && has(granted, name) {
			out = append(out, "CAP_"+name)
		}
	}
	return out
}

// has accepts names with and without CAP_, in any case.
func has(names []string, name string) bool {
	return slices.ContainsFunc(names, func(n string) bool {
		return strings.TrimPrefix(strings.ToUpper(n), "CAP_") == name
	})
}

// heldCapabilities returns this process's bounding set.
func heldCapabilities() uint64 {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return ^uint64(0)
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, "CapBnd:"); ok {
			if set, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64); err == nil {
				return set
			}
		}
	}
	return ^uint64(0)
}
