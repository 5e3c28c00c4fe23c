package agent

import (
	"context"
	"slices"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/agent/volume"
)

// prepare sets up the sandbox.
func (w *worker) prepare(ctx context.Context) {
	w.mu.Lock()
	pod := w.pod
	fresh, news := !w.box.Stale, w.news
	w.mu.Unlock()
	w.objects.Acquire(pod)
	began := time.Now()
	box, err := w.setUp(ctx, pod)
	observe(w.durations.sandbox, began)
	if ctx.Err() != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.boxWait = min(max(2*w.boxWait, 500*time.Millisecond), time.Minute)
		w.box.RetryAt = time.Now().Add(w.boxWait)
		if w.news != news { // what it failed for may have come since
			w.box.RetryAt, w.boxWait = time.Time{}, 0
		}
		w.failedSetUp(err)
		return
	}
	w.boxWait = 0
	w.box = box
	w.podMade(pod)
	w.keepSizes()
	if fresh {
		for name, r := range w.records {
			// What ran in an earlier sandbox is history: init containers run
			// again, and so do main ones unless they are done for good.
			if r.Current.exited() && w.rerun(name, r) {
				r.Last, r.NextAttempt = r.Current, r.Current.Attempt+1
				r.Current, r.Ready, r.Started = nil, false, false
			}
		}
	}
}

// spare has namespaces made for the next Pod, beside what goes on.
func (w *worker) spare() {
	w.pods.wg.Go(w.guarded(func() {
		if err := w.Namespaces.Spare(); err != nil {
			w.log.Debug("the next pod makes its namespaces itself", zap.Error(err))
		}
	}))
}

// retryNow tries at once what failed and may have waited for this object.
func (w *worker) retryNow(r volume.Ref) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Contains(volume.Refs(w.pod), r) {
		return
	}
	w.news++
	woken := !w.box.Ready && !w.box.RetryAt.IsZero()
	w.box.RetryAt, w.boxWait = time.Time{}, 0
	for _, one := range w.records {
		if one.Wait.Reason == "CreateContainerConfigError" {
			one.RetryAt, one.Retry, woken = time.Time{}, 0, true
		}
	}
	if woken {
		w.poke()
	}
}

func (w *worker) failedSetUp(err error) {
	if _, ok := err.(mountError); ok {
		w.eventPod(corev1.EventTypeWarning, "FailedMount", "%v", err)
	} else {
		w.eventPod(corev1.EventTypeWarning, "FailedCreatePodSandBox", "Failed to create pod sandbox: %v", err)
	}
	w.log.Debug("set up pod", zap.Error(err))
}

func (w *worker) rerun(name string, r *record) bool {
	for i := range w.pod.Spec.InitContainers {
		if w.pod.Spec.InitContainers[i].Name == name {
			return true
		}
	}
	if ephemeral(&w.pod.Spec, name) != nil {
		return false
	}
	c := findContainer(w.pod, name)
	return c != nil && shouldRestart(w.pod, c, false, r.Current.ExitCode)
}
