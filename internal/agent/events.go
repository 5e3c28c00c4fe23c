package agent

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// reasonUnsupported is the reason of events and statuses about fields that
// this node does not implement.
const reasonUnsupported = "UnsupportedField"

// eventPod tells of the Pod as a whole.
func (w *worker) eventPod(kind, reason, format string, args ...any) {
	w.recorder.Eventf(w.ref(""), kind, reason, format, args...)
}

// event tells of one container.
func (w *worker) event(c *corev1.Container, kind, reason, format string, args ...any) {
	if c == nil {
		w.eventPod(kind, reason, format, args...)
		return
	}
	path := "spec.containers{" + c.Name + "}"
	for i := range w.initNames {
		if w.initNames[i] == c.Name {
			path = fmt.Sprintf("spec.initContainers{%s}", c.Name)
		}
	}
	w.recorder.Eventf(w.ref(path), kind, reason, format, args...)
}

func (w *worker) ref(path string) *corev1.ObjectReference {
	r := w.reference
	r.FieldPath = path
	return &r
}
