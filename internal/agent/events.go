package agent

import (
	"slices"

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
	w.recorder.Eventf(w.ref(fieldPath(w.spec.Load(), c.Name)), kind, reason, format, args...)
}

// fieldPath is where in a Pod a container is.
func fieldPath(spec *corev1.PodSpec, name string) string {
	named := func(c corev1.Container) bool { return c.Name == name }
	switch {
	case slices.ContainsFunc(spec.InitContainers, named):
		return "spec.initContainers{" + name + "}"
	case ephemeral(spec, name) != nil:
		return "spec.ephemeralContainers{" + name + "}"
	}
	return "spec.containers{" + name + "}"
}

func (w *worker) ref(path string) *corev1.ObjectReference {
	r := w.reference
	r.FieldPath = path
	return &r
}
