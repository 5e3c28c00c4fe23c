package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	resourcehelper "k8s.io/component-helpers/resource"

	"github.com/skiff-sh/skiff/internal/agent/cgroup"
)

// resizeRetry is how long after a resize that failed the next one is tried.
const resizeRetry = 10 * time.Second

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
		w.grant(fits(a.allocatable(), others, w.sizes.asked))
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
// held. Like upstream's kubelet of 1.36 the node then always waits for room.
func (w *worker) grant(no *refusal) {
	asked, s := w.sizes.asked, &w.sizes
	now := stamp(w.Time.Theirs(time.Now()))
	if no != nil {
		next := corev1.PodCondition{
			Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: corev1.PodReasonDeferred, Message: no.Message,
			ObservedGeneration: asked.Generation, LastProbeTime: now, LastTransitionTime: now,
		}
		old := s.Pending
		if old != nil && old.Reason == next.Reason {
			next.LastTransitionTime, next.LastProbeTime = old.LastTransitionTime, old.LastProbeTime
		}
		s.Pending = &next
		if old == nil || old.Reason != next.Reason || old.ObservedGeneration != next.ObservedGeneration {
			w.eventPod(corev1.EventTypeWarning, "ResizeDeferred", "%s", resizeText("Pod resize "+no.Reason, asked, asked.Generation, no.Message))
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

// resizable are the running containers that have something else than they should.
func (v view) resizable() []*corev1.Container {
	var out []*corev1.Container
	for _, list := range [][]corev1.Container{v.Pod.Spec.InitContainers, v.Pod.Spec.Containers} {
		for i := range list {
			r := v.Records[list[i].Name].Current
			if r.running() && r.Given.Own != nil && r.Given.Size != giveOf(v.Pod, &list[i]).Size {
				out = append(out, &list[i])
			}
		}
	}
	return out
}

// resizing says whether something that runs has other resources than it should.
func (v view) resizing() bool {
	return len(v.resizable()) > 0 || v.Box.Ready && v.Resizes.PodSize != (size{}) && v.Resizes.PodSize != podSizeOf(v.Pod)
}

// resize finds what there is to do for a resize: containers that want to be
// restarted for it are. It says whether that is anything now.
func (p *plan) resize(v view) bool {
	if !v.resizing() {
		return false
	}
	for _, c := range v.resizable() {
		if restartsFor(c, v.Records[c.Name].Current.Given.Size, giveOf(v.Pod, c).Size) {
			p.Kill = c.Name
			return true
		}
	}
	if v.Now.Before(v.Resizes.RetryAt) {
		p.wakeBy(v.Resizes.RetryAt)
		return false
	}
	p.Resize = true
	return true
}

// restartsFor says whether a container wants to be restarted for this change.
func restartsFor(c *corev1.Container, old, next size) bool {
	for _, policy := range c.ResizePolicy {
		if policy.RestartPolicy != corev1.RestartContainer {
			continue
		}
		switch policy.ResourceName {
		case corev1.ResourceCPU:
			if old.CPURequest != next.CPURequest || old.CPULimit != next.CPULimit {
				return true
			}
		case corev1.ResourceMemory:
			if old.MemoryRequest != next.MemoryRequest || old.MemoryLimit != next.MemoryLimit {
				return true
			}
		}
	}
	return false
}

// settle notes that a resize is complete; w.mu is held.
func (w *worker) settle(v *view) {
	v.Resizes = w.sizes.resizes
	if done := w.sizes.Progress; done != nil && !v.resizing() {
		w.sizes.Progress, v.Resizes.Progress = nil, nil
		w.eventPod(corev1.EventTypeNormal, "ResizeCompleted", "%s", resizeText("Pod resize completed", w.pod, done.ObservedGeneration, ""))
	}
}

// resize gives running containers, and the Pod's cgroup around them, what is
// allocated.
func (w *worker) resize(ctx context.Context) {
	v := w.view(time.Now())
	var changes []cgroup.Change
	ids := map[string]string{}
	for _, c := range v.resizable() {
		r := v.Records[c.Name].Current
		ids[c.Name] = r.ID
		changes = append(changes, cgroup.Change{ID: r.ID, Old: r.Given.Size.limits(), New: giveOf(v.Pod, c).Size.limits()})
	}
	around := podCgroup(v.Pod)
	err := w.shrinkable(around, v, changes)
	if err == nil {
		err = w.Cgroups.Resize(around, changes)
	}
	if ctx.Err() != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.resizeFailed(err)
		return
	}
	w.sizes.RetryAt = time.Time{}
	w.podMade(v.Pod)
	for _, c := range v.resizable() {
		r := w.record(c.Name)
		if r.Current.running() && r.Current.ID == ids[c.Name] {
			next := *r.Current
			next.Given = giveOf(v.Pod, c)
			r.Current = &next
		}
	}
	w.keepSizes()
}

// resizeFailed tells why a resize cannot be completed now; w.mu is held.
func (w *worker) resizeFailed(err error) {
	w.sizes.RetryAt = time.Now().Add(resizeRetry)
	next := corev1.PodCondition{Type: corev1.PodResizeInProgress, Status: corev1.ConditionTrue, ObservedGeneration: w.sizes.asked.Generation}
	if old := w.sizes.Progress; old != nil {
		next = *old
	}
	if next.Reason != corev1.PodReasonError {
		next.LastTransitionTime = stamp(w.Time.Theirs(time.Now()))
	}
	told := next.Reason == corev1.PodReasonError && next.Message == err.Error()
	next.Reason, next.Message = corev1.PodReasonError, err.Error()
	w.sizes.Progress = &next
	if !told {
		w.eventPod(corev1.EventTypeWarning, "ResizeError", "%s", resizeText("Pod resize error", w.pod, next.ObservedGeneration, err.Error()))
	}
}

// shrinkable refuses limits of memory below what is in use: the kernel would end
// processes for them.
func (w *worker) shrinkable(around cgroup.Pod, v view, changes []cgroup.Change) error {
	less := slices.DeleteFunc(slices.Clone(changes), func(c cgroup.Change) bool {
		return c.New.MemoryLimit == 0 || c.Old.MemoryLimit != 0 && c.Old.MemoryLimit <= c.New.MemoryLimit
	})
	podLess := around.MemoryLimit > 0 && (len(less) > 0 || v.Resizes.PodSize.MemoryLimit > around.MemoryLimit)
	if len(less) == 0 && !podLess {
		return nil
	}
	pod, err := w.Cgroups.Usage(around, "")
	if err != nil {
		return fmt.Errorf("unable to read memory usage for pod %q", podName(v.Pod))
	}
	var errs []error
	if podLess && pod.Memory >= uint64(around.MemoryLimit) {
		errs = append(errs, fmt.Errorf("attempting to set pod memory limit (%d) below current usage (%d)", around.MemoryLimit, pod.Memory))
	}
	for _, c := range less {
		name := v.nameOf(c.ID)
		usage, err := w.Cgroups.Usage(around, c.ID)
		if err != nil {
			errs = append(errs, fmt.Errorf("missing container %q memory usage", name))
		} else if usage.Memory >= uint64(c.New.MemoryLimit) {
			errs = append(errs, fmt.Errorf("attempting to set container %q memory limit (%d) below current usage (%d)", name, c.New.MemoryLimit, pod.Memory))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("cannot decrease memory limits: %w", aggregate(errs))
}

func (v view) nameOf(id string) string {
	for name, r := range v.Records {
		if r.Current != nil && r.Current.ID == id {
			return name
		}
	}
	return ""
}

// aggregate says several errors the way upstream does.
func aggregate(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	var all []string
	for _, e := range errs {
		all = append(all, e.Error())
	}
	return errors.New("[" + strings.Join(all, ", ") + "]")
}

// resizeConditions brings the conditions of resizes up to date; one that is over
// has none.
func resizeConditions(out []corev1.PodCondition, r resizes, phase corev1.PodPhase) []corev1.PodCondition {
	out = slices.DeleteFunc(out, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodResizePending || c.Type == corev1.PodResizeInProgress
	})
	for _, c := range []*corev1.PodCondition{r.Pending, r.Progress} {
		if c != nil && phase != corev1.PodSucceeded && phase != corev1.PodFailed {
			out = append(out, *c)
		}
	}
	return out
}
