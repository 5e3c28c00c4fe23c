package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/agent/cgroup"
)

// resizeRetry is how long after a resize that failed the next one is tried.
const resizeRetry = 10 * time.Second

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
