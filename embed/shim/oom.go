package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// oomCounter is the file in which the kernel counts the processes of a cgroup
// that it killed for memory: read once, when the container has ended.
type oomCounter string

// newOOMCounter finds the memory cgroup of a process that is alive.
func newOOMCounter(pid int) oomCounter {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cgroup"))
	if err != nil {
		return ""
	}
	unified := oomCounter("")
	for line := range strings.Lines(string(data)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		for controller := range strings.SplitSeq(fields[1], ",") {
			if controller == "memory" {
				return oomCounter(filepath.Join("/sys/fs/cgroup/memory", fields[2], "memory.oom_control"))
			}
		}
		if fields[0] == "0" {
			unified = oomCounter(filepath.Join("/sys/fs/cgroup", fields[2], "memory.events"))
		}
	}
	return unified
}

func (o oomCounter) count() int {
	data, err := os.ReadFile(string(o))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, "oom_kill "); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(value))
			return n
		}
	}
	return 0
}
