package kind

import (
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var podColumns = []metav1.TableColumnDefinition{
	nameColumn,
	column("Ready", "The aggregate readiness state of this pod for accepting traffic."),
	column("Status", "The aggregate status of the containers in this pod."),
	column("Restarts", "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted."),
	ageColumn,
	wideColumn("IP", corev1.PodStatus{}.SwaggerDoc()["podIP"]),
	wideColumn("Node", corev1.PodSpec{}.SwaggerDoc()["nodeName"]),
	wideColumn("Nominated Node", corev1.PodStatus{}.SwaggerDoc()["nominatedNodeName"]),
	wideColumn("Readiness Gates", corev1.PodSpec{}.SwaggerDoc()["readinessGates"]),
}

func podRow(obj Object, now time.Time) []any {
	pod := obj.(*corev1.Pod)
	s := summarize(pod)
	restarts := strconv.Itoa(s.restarts.count)
	if s.restarts.count != 0 && !s.restarts.last.IsZero() {
		restarts = fmt.Sprintf("%d (%s ago)", s.restarts.count, since(s.restarts.last, now))
	}
	ip := ""
	if len(pod.Status.PodIPs) > 0 {
		ip = pod.Status.PodIPs[0].IP
	}
	return []any{
		pod.Name, fmt.Sprintf("%d/%d", s.ready, s.total), s.reason, restarts, since(pod.CreationTimestamp.Time, now),
		orNone(ip), orNone(pod.Spec.NodeName), orNone(pod.Status.NominatedNodeName), gatesCell(pod),
	}
}

// restarts counts how often containers were started again, and when last.
type restarts struct {
	count int
	last  time.Time
}

func (r *restarts) add(s *corev1.ContainerStatus) {
	r.count += int(s.RestartCount)
	if ended := s.LastTerminationState.Terminated; ended != nil && r.last.Before(ended.FinishedAt.Time) {
		r.last = ended.FinishedAt.Time
	}
}

// podSummary is a Pod's state in the few words of its row.
type podSummary struct {
	reason       string
	ready, total int
	restarts     restarts
}

func summarize(pod *corev1.Pod) podSummary {
	s := podSummary{reason: string(pod.Status.Phase), total: len(pod.Spec.Containers)}
	if pod.Status.Reason != "" {
		s.reason = pod.Status.Reason
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Reason == corev1.PodReasonSchedulingGated {
			s.reason = corev1.PodReasonSchedulingGated
		}
	}
	blocked, all, staying := s.initializing(pod)
	s.restarts = all
	if !blocked || hasCondition(pod, corev1.PodInitialized) {
		s.restarts = staying
		s.running(pod)
	}
	switch {
	case pod.DeletionTimestamp.IsZero():
	case pod.Status.Reason == "NodeLost":
		s.reason = "Unknown"
	case !PodFinished(pod):
		s.reason = "Terminating"
	}
	return s
}

// initializing reads the init containers up to the one that is not done and
// blocks what comes after it, if there is one. It returns the restarts of all
// that it read, and of those among them that go on running.
func (s *podSummary) initializing(pod *corev1.Pod) (blocked bool, all, staying restarts) {
	sidecars := map[string]bool{}
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; IsSidecar(c) {
			sidecars[c.Name] = true
			s.total++
		}
	}
	for i := range pod.Status.InitContainerStatuses {
		c := &pod.Status.InitContainerStatuses[i]
		all.add(c)
		if sidecars[c.Name] {
			staying.add(c)
		}
		ended := c.State.Terminated
		switch {
		case ended != nil && ended.ExitCode == 0:
			continue
		case sidecars[c.Name] && isTrue(c.Started):
			if c.Ready {
				s.ready++
			}
			continue
		case ended != nil:
			s.reason = "Init:" + endedReason(ended)
		case c.State.Waiting != nil && c.State.Waiting.Reason != "" && c.State.Waiting.Reason != "PodInitializing":
			s.reason = "Init:" + c.State.Waiting.Reason
		default:
			s.reason = fmt.Sprintf("Init:%d/%d", i, len(pod.Spec.InitContainers))
		}
		return true, all, staying
	}
	return false, all, staying
}

// running reads the regular containers; the first one's reason wins.
func (s *podSummary) running(pod *corev1.Pod) {
	running := false
	for i := len(pod.Status.ContainerStatuses) - 1; i >= 0; i-- {
		c := &pod.Status.ContainerStatuses[i]
		s.restarts.add(c)
		switch {
		case c.State.Waiting != nil && c.State.Waiting.Reason != "":
			s.reason = c.State.Waiting.Reason
		case c.State.Terminated != nil:
			s.reason = endedReason(c.State.Terminated)
		case c.Ready && c.State.Running != nil:
			running = true
			s.ready++
		}
	}
	if s.reason == "Completed" && running {
		s.reason = "NotReady"
		if hasCondition(pod, corev1.PodReady) {
			s.reason = "Running"
		}
	}
}

func endedReason(t *corev1.ContainerStateTerminated) string {
	switch {
	case t.Reason != "":
		return t.Reason
	case t.Signal != 0:
		return fmt.Sprintf("Signal:%d", t.Signal)
	}
	return fmt.Sprintf("ExitCode:%d", t.ExitCode)
}

func hasCondition(pod *corev1.Pod, kind corev1.PodConditionType) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == kind {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func gatesCell(pod *corev1.Pod) string {
	gates := pod.Spec.ReadinessGates
	if len(gates) == 0 {
		return "<none>"
	}
	open := 0
	for _, gate := range gates {
		if hasCondition(pod, gate.ConditionType) {
			open++
		}
	}
	return fmt.Sprintf("%d/%d", open, len(gates))
}

func orNone(s string) string {
	if s == "" {
		return "<none>"
	}
	return s
}
