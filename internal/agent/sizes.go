package agent

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	resourcehelper "k8s.io/component-helpers/resource"
)

// sizes are what a worker knows of its Pod's resources.
type sizes struct {
	asked     *corev1.Pod // as the API has it; the worker's Pod has what is allocated
	allocated allocation
	waits     bool // what is asked for is not what is allocated
	refused   bool // there was no room for the Pod
	resizes
}

// resizes are the conditions of a Pod whose resources are to be others, and when
// the node tries again. Conditions are not changed once they are in it.
type resizes struct {
	Pending  *corev1.PodCondition
	Progress *corev1.PodCondition
	RetryAt  time.Time
	PodSize  size // what the Pod's own cgroup has; zero: that is not known
}

// take takes a newer Pod and returns it with what is allocated.
func (s *sizes) take(pod *corev1.Pod) *corev1.Pod {
	s.asked, s.waits = pod, s.allocated.differs(pod)
	if !s.waits {
		s.Pending = nil
		return pod
	}
	return s.allocated.apply(pod)
}

// recallSizes takes what an earlier run of the agent has promised the Pod; for a
// new worker, before it has adopted what runs.
func (w *worker) recallSizes() {
	pod := w.pod
	w.sizes.allocated = toldAllocation(pod)
	if r := w.readAllocation(w.uid); r != nil {
		w.sizes.allocated = r.Allocated
	}
	for i := range pod.Status.Conditions {
		switch c := &pod.Status.Conditions[i]; c.Type {
		case corev1.PodResizePending:
			w.sizes.Pending = c.DeepCopy()
		case corev1.PodResizeInProgress:
			w.sizes.Progress = c.DeepCopy()
		}
	}
	w.pod = w.sizes.take(pod)
}

// adoptSizes gives the runs that were adopted what they have.
func (w *worker) adoptSizes() {
	actual := w.sizes.allocated
	if kept := w.readAllocation(w.uid); kept != nil {
		actual = kept.running()
	}
	for name, r := range w.records {
		own, ok := actual.Containers[name]
		if !r.Current.running() || !ok {
			continue
		}
		next := *r.Current
		next.Given = given{Size: sizeOf(effective(actual.Pod, own)), Own: &own}
		r.Current = &next
	}
}

// keepSizes writes down what is allocated, and what runs with something else as
// yet; w.mu is held.
func (w *worker) keepSizes() {
	all := w.sizes.allocated
	kept := allocationRecord{Allocated: all}
	for name, r := range w.records {
		own, ok := all.Containers[name]
		if had := r.Current; had.running() && ok && had.Given.Own != nil && !apiequality.Semantic.DeepEqual(own, *had.Given.Own) {
			if kept.Actual.Containers == nil {
				kept.Actual.Containers = map[string]corev1.ResourceRequirements{}
			}
			kept.Actual.Containers[name] = *had.Given.Own
		}
	}
	if err := w.writeAllocation(w.uid, kept); err != nil {
		w.log.Warn("keep what resources a pod has", zap.Error(err))
	}
}

// podMade notes that the Pod's cgroup is as the Pod says; w.mu is held.
func (w *worker) podMade(pod *corev1.Pod) { w.sizes.PodSize = podSizeOf(pod) }

// podSizeOf is what the Pod's cgroup is set from.
func podSizeOf(pod *corev1.Pod) size {
	return sizeOf(corev1.ResourceRequirements{
		Requests: resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{}),
		Limits:   resourcehelper.PodLimits(pod, resourcehelper.PodResourcesOptions{}),
	})
}

// resources are what the status says that a run has.
func (r *run) resources(c *corev1.Container) *corev1.ResourceRequirements {
	if r.running() && r.Given.Own != nil {
		return r.Given.Own.DeepCopy()
	}
	return c.Resources.DeepCopy()
}

// restartForResize says why a container that runs is ended for a resize, "" if it
// is not: it starts again whatever its restart policy.
func (w *worker) restartForResize(r *record, name string) string {
	c := findContainer(w.pod, name)
	if c == nil || !r.Current.running() || r.Current.Given.Own == nil || !restartsFor(c, r.Current.Given.Size, giveOf(w.pod, c).Size) {
		return ""
	}
	replaced := *r.Current
	replaced.Replaced = true
	r.Current, r.Crash = &replaced, crashBackoff{}
	return fmt.Sprintf("Container %s resize requires restart", name)
}

// allocate gives Pods what they ask for by now, where it fits. It is called when a
// Pod asks for something else and when one has given something back; a.pods.mu is
// held.
func (a *Agent) allocate() {
	if !a.pods.known {
		return
	}
	var waiting []*worker
	for _, w := range a.pods.workers {
		w.mu.Lock()
		if !w.gone && !w.stopped && w.ending == nil && w.refused == "" && !terminal(w.pod) && w.sizes.waits {
			waiting = append(waiting, w)
		}
		w.mu.Unlock()
	}
	slices.SortFunc(waiting, func(x, y *worker) int {
		x.mu.Lock()
		first := x.sizes.turn()
		x.mu.Unlock()
		y.mu.Lock()
		defer y.mu.Unlock()
		return first.compare(y.sizes.turn())
	})
	for _, w := range waiting {
		others := a.claims(w)
		w.mu.Lock()
		no := fits(a.allocatable(), others, w.sizes.asked)
		if a.sharesSwap() {
			no = cmp.Or(keepsSwap(w.sizes.asked, w.sizes.allocated.apply(w.sizes.asked)), no)
		}
		w.grant(no)
		w.mu.Unlock()
		w.poke()
	}
}

// turn is what decides who of those that wait for a resize comes first.
type turn struct {
	more     bool // asks for more than it has
	priority int32
	class    int
	since    time.Time
	name     string
}

func (s *sizes) turn() turn {
	had := resourcehelper.PodRequests(s.allocated.apply(s.asked), resourcehelper.PodResourcesOptions{})
	wants := resourcehelper.PodRequests(s.asked, resourcehelper.PodResourcesOptions{})
	t := turn{name: string(s.asked.UID), more: wants.Cpu().Cmp(*had.Cpu()) > 0 || wants.Memory().Cmp(*had.Memory()) > 0}
	if p := s.asked.Spec.Priority; p != nil {
		t.priority = *p
	}
	if qosClass(s.asked) == corev1.PodQOSGuaranteed {
		t.class = -1
	}
	t.since = time.Unix(1<<40, 0) // what is new comes last
	if s.Pending != nil {
		t.since = s.Pending.LastTransitionTime.Time
	}
	return t
}

func (t turn) compare(o turn) int {
	if t.more != o.more {
		if t.more {
			return 1
		}
		return -1
	}
	return cmp.Or(cmp.Compare(o.priority, t.priority), cmp.Compare(t.class, o.class), t.since.Compare(o.since), strings.Compare(t.name, o.name))
}

// grant gives the Pod what it asks for, unless there is a reason not to; w.mu is
// held. Like upstream's kubelet of 1.36 the node then waits for room, however much is
// wanted: only what it cannot do at all is not feasible.
func (w *worker) grant(no *refusal) {
	asked, s := w.sizes.asked, &w.sizes
	now := stamp(w.Time.Theirs(time.Now()))
	if no != nil {
		reason, event := corev1.PodReasonDeferred, "ResizeDeferred"
		if no.Reason == corev1.PodReasonInfeasible {
			reason, event = no.Reason, "ResizeInfeasible"
		}
		next := corev1.PodCondition{
			Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: reason, Message: no.Message,
			ObservedGeneration: asked.Generation, LastProbeTime: now, LastTransitionTime: now,
		}
		old := s.Pending
		if old != nil && old.Reason == next.Reason {
			next.LastTransitionTime, next.LastProbeTime = old.LastTransitionTime, old.LastProbeTime
		}
		s.Pending = &next
		if old == nil || old.Reason != next.Reason || old.ObservedGeneration != next.ObservedGeneration {
			w.eventPod(corev1.EventTypeWarning, event, "%s", resizeText("Pod resize "+no.Reason, asked, asked.Generation, no.Message))
		}
		return
	}
	s.allocated = allocationOf(asked)
	w.pod = s.take(asked)
	s.RetryAt = time.Time{}
	s.Progress = &corev1.PodCondition{
		Type: corev1.PodResizeInProgress, Status: corev1.ConditionTrue,
		ObservedGeneration: asked.Generation, LastProbeTime: now, LastTransitionTime: now,
	}
	w.keepSizes()
	w.eventPod(corev1.EventTypeNormal, "ResizeStarted", "%s", resizeText("Pod resize started", asked, asked.Generation, ""))
	w.volumes.Update(w.pod)
}

// resizeText is what events say of a resize: what it is about, and all that the Pod
// asks for.
func resizeText(what string, pod *corev1.Pod, generation int64, trouble string) string {
	type container struct {
		Name      string                      `json:"name"`
		Resources corev1.ResourceRequirements `json:"resources,omitempty"`
	}
	summary := struct {
		InitContainers []container `json:"initContainers,omitempty"`
		Containers     []container `json:"containers,omitempty"`
		Generation     int64       `json:"generation"`
		Error          string      `json:"error,omitempty"`
	}{Generation: generation, Error: trouble}
	for _, c := range pod.Spec.InitContainers {
		summary.InitContainers = append(summary.InitContainers, container{c.Name, c.Resources})
	}
	for _, c := range pod.Spec.Containers {
		summary.Containers = append(summary.Containers, container{c.Name, c.Resources})
	}
	data, err := json.Marshal(summary)
	if err != nil {
		return what
	}
	return what + ": " + string(data)
}
