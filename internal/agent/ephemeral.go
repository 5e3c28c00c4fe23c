package agent

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// Ephemeral containers (`kubectl debug`) come to a Pod that runs already. Each runs
// once, whatever the state of the others; how it ends means nothing to the Pod.

// ephemeral returns the ephemeral container of that name, or nil.
func ephemeral(spec *corev1.PodSpec, name string) *corev1.EphemeralContainer {
	for i := range spec.EphemeralContainers {
		if e := &spec.EphemeralContainers[i]; e.Name == name {
			return e
		}
	}
	return nil
}

// asContainer is an ephemeral container in the shape of the others, which it shares.
func asContainer(e *corev1.EphemeralContainer) *corev1.Container {
	return (*corev1.Container)(&e.EphemeralContainerCommon)
}

// debug starts an ephemeral container that has not run yet, or notes when it may. It
// says whether there is something to do now.
func (p *plan) debug(v view, e *corev1.EphemeralContainer) bool {
	r := v.Records[e.Name]
	if r.Current != nil || r.Last != nil || r.Wait.Reason == reasonUnsupported {
		return false
	}
	return p.startAt(v, e.Name, r.RetryAt)
}

// refuseEphemeral finds, among the ephemeral containers that are new, those that this
// node does not implement: the Pod goes on without them. w.mu is held.
func (w *worker) refuseEphemeral() {
	for i := range w.pod.Spec.EphemeralContainers {
		e := &w.pod.Spec.EphemeralContainers[i]
		if _, known := w.records[e.Name]; known {
			continue
		}
		if why := w.unsupportedContainer(fmt.Sprintf("spec.ephemeralContainers[%d](%s)", i, e.Name), w.pod, asContainer(e)); why != "" {
			w.record(e.Name).Wait = corev1.ContainerStateWaiting{Reason: reasonUnsupported, Message: why}
			w.event(asContainer(e), corev1.EventTypeWarning, reasonUnsupported, "%s", why)
		}
	}
}

// processes is the process namespace of the container that c, an ephemeral one, asks to
// share; "" if it asks for none.
func (w *worker) processes(pod *corev1.Pod, c *corev1.Container) (string, error) {
	e := ephemeral(&pod.Spec, c.Name)
	if e == nil || e.TargetContainerName == "" {
		return "", nil
	}
	w.mu.Lock()
	target := w.peek(e.TargetContainerName).Current
	w.mu.Unlock()
	switch {
	case target == nil:
		return "", waitError{Reason: "CreateContainerConfigError", Err: fmt.Errorf("unable to find target container %v", e.TargetContainerName)}
	case !target.running():
		return "", waitError{Reason: "CreateContainerError", Err: fmt.Errorf("invalid target container: container %q is not running - it is in state %q", target.ID, target.Phase)}
	}
	return fmt.Sprintf("/proc/%d/ns/pid", target.PID), nil
}
