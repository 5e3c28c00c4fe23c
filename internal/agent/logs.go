package agent

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/agent/stream"
)

// logOf finds a log file and what is closed when nothing more will come. Which attempt
// of the container it is the status says: one that waits for its next attempt shows
// its last, as its previous too.
func (a *Agent) logOf(c stream.Container, previous bool) (path string, done <-chan struct{}, err error) {
	w := a.workerOf(c.Namespace, c.Pod)
	if w == nil {
		return "", nil, fmt.Errorf("pod %q in namespace %q not found", c.Pod, c.Namespace)
	}
	pod, _ := w.livePod()
	shown, err := shownRun(pod, c.Name, previous)
	if err != nil {
		return "", nil, err
	}
	over := make(chan struct{})
	close(over)
	done = over
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.peek(c.Name)
	for _, one := range []*run{r.Current, r.Last} {
		if one != nil && one.ID == shown.id {
			shown.attempt = one.Attempt
		}
	}
	if ch := w.exits[shown.id]; ch != nil {
		done = ch
	}
	return a.logPath(w.pod, c.Name, shown.attempt), done, nil
}

// shownAttempt is an attempt of a container. Which one it is by number only holds where
// nothing else is known of it: for a Pod that ended before the agent started.
type shownAttempt struct {
	id      string
	attempt int
}

// shownRun is the attempt whose log is shown.
func shownRun(pod *corev1.Pod, name string, previous bool) (shownAttempt, error) {
	var none shownAttempt
	s := findStatus(&pod.Status, name)
	if s == nil {
		return none, fmt.Errorf("container %q in pod %q is not available", name, pod.Name)
	}
	present := shownAttempt{attempt: int(s.RestartCount)}
	last := shownAttempt{attempt: present.attempt}
	if t := s.LastTerminationState.Terminated; t != nil {
		last.id = strings.TrimPrefix(t.ContainerID, idScheme)
	}
	if s.State.Waiting == nil {
		last.attempt--
	}
	switch {
	case previous && last.id == "":
		return none, fmt.Errorf("previous terminated container %q in pod %q not found", name, pod.Name)
	case previous:
		return last, nil
	case s.State.Running != nil:
		present.id = strings.TrimPrefix(s.ContainerID, idScheme)
	case s.State.Terminated != nil && s.State.Terminated.ContainerID != "":
		present.id = strings.TrimPrefix(s.State.Terminated.ContainerID, idScheme)
	case last.id != "":
		return last, nil
	case s.State.Terminated != nil, s.LastTerminationState.Terminated != nil:
		return none, fmt.Errorf("container %q in pod %q is terminated", name, pod.Name)
	default:
		return none, fmt.Errorf("container %q in pod %q is waiting to start: %s", name, pod.Name, waitsFor(s.State.Waiting))
	}
	return present, nil
}

// idScheme is what stands before a container's ID in the API.
const idScheme = "containerd://"

// waitsFor says what a container waits for that never ran.
func waitsFor(w *corev1.ContainerStateWaiting) string {
	switch {
	case w == nil:
		return "ContainerCreating"
	case w.Reason == "ErrImagePull":
		return "image can't be pulled"
	case w.Reason == "ImagePullBackOff":
		return "trying and failing to pull image"
	}
	return w.Reason
}

// findStatus returns the status of a container, of whatever kind, or nil.
func findStatus(s *corev1.PodStatus, name string) *corev1.ContainerStatus {
	for _, list := range [][]corev1.ContainerStatus{s.ContainerStatuses, s.InitContainerStatuses, s.EphemeralContainerStatuses} {
		if i := slices.IndexFunc(list, func(c corev1.ContainerStatus) bool { return c.Name == name }); i >= 0 {
			return &list[i]
		}
	}
	return nil
}
