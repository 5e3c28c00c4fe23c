package agent

import (
	"context"
	"fmt"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/agent/oom"
)

// watchMemory tells by events of the Node when the machine's memory ran out, from now
// until the context ends. Where the kernel's log must not be read nobody is told.
func (a *Agent) watchMemory(ctx context.Context) {
	if err := a.Victims(ctx, a.tellOOM); err != nil {
		a.log.Warn("nobody will be told when the machine's memory runs out", zap.Error(err))
	}
}

// tellOOM tells of a victim of the machine's own shortage; limits of Pods are told of
// with their containers.
func (a *Agent) tellOOM(v oom.Victim) {
	ref := a.nodeRef()
	if v.Limit != "/" || ref == nil {
		return
	}
	text := "System OOM encountered"
	if v.Process != "" && v.PID != 0 {
		text += fmt.Sprintf(", victim process: %s, pid: %d", v.Process, v.PID)
	}
	a.recorder.Eventf(ref, corev1.EventTypeWarning, "SystemOOM", "%s", text)
}
