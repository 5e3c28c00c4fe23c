package config

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/resource"
)

// Pods is what holds for all Pods of a node.
type Pods struct {
	Max            int   // how many it takes
	SeccompDefault bool  // who says nothing of it has the runtime's profile
	LogSize        int64 // bytes from which on a container's log is put aside
	LogFiles       int   // that are kept of it, the one being written among them
	// KillOne keeps the rest of a container where one of its processes is killed for
	// want of memory, on cgroup v2; on v1 nothing else can be.
	KillOne bool
}

// DefaultPods has upstream's defaults.
func DefaultPods() Pods { return Pods{Max: 110, LogSize: 10 << 20, LogFiles: 5} }

// arguments reads those of upstream's kubelet, and its setting singleProcessOOMKill, for
// which it has none.
func (p *Pods) arguments() map[string]func(string) error {
	return map[string]func(string) error{
		"max-pods":                countInto(&p.Max, 0),
		"seccomp-default":         boolInto(&p.SeccompDefault),
		"single-process-oom-kill": boolInto(&p.KillOne),
		"container-log-max-size":  bytesInto(&p.LogSize),
		"container-log-max-files": countInto(&p.LogFiles, 2),
	}
}

func bytesInto(n *int64) func(string) error {
	return func(text string) error {
		q, err := resource.ParseQuantity(text)
		if err != nil || q.Value() <= 0 {
			return fmt.Errorf("%q: expected an amount of bytes, like 10Mi", text)
		}
		*n = q.Value()
		return nil
	}
}

// logSize is the size as a kubelet's configuration has it.
func (p Pods) logSize() string { return resource.NewQuantity(p.LogSize, resource.BinarySI).String() }
