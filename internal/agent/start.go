package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
)

// startRetry is how long to wait before a container that could not be made is
// tried again; it doubles.
const startRetry = time.Second

// start brings up the next attempt of a container: image, configuration,
// container, process, postStart hook.
func (w *worker) start(ctx context.Context, name string) {
	w.mu.Lock()
	news := w.news
	w.mu.Unlock()
	pod, box := w.livePod()
	c := findContainer(pod, name)
	err := w.imageVolumes(ctx, pod, box, c)
	var image Image
	if err == nil {
		image, err = w.image(ctx, pod, wish{Ref: c.Image, Policy: c.ImagePullPolicy, Container: c})
	}
	if err == nil {
		err = w.launch(ctx, pod, box, c, image)
	}
	if ctx.Err() != nil {
		return
	}
	w.change(name, func(r *record) {
		if err == nil {
			r.Wait, r.RetryAt, r.Retry = corev1.ContainerStateWaiting{}, time.Time{}, 0
			return
		}
		reason := "CreateContainerError"
		var wait waitError
		if errors.As(err, &wait) {
			reason = wait.Reason
		}
		if reason != r.Wait.Reason && !strings.HasSuffix(reason, "BackOff") {
			w.log.Debug("start container", zap.String("container", name), zap.Error(err))
		}
		if wait.Reason != "ImageInspectError" && wait.Reason != reasonStarted {
			w.event(c, corev1.EventTypeWarning, "Failed", "Error: %s", failureText(reason, err))
		}
		if reason == reasonStarted {
			return // the run itself tells what happened
		}
		r.Wait = corev1.ContainerStateWaiting{Reason: reason, Message: err.Error()}
		r.Retry = min(max(2*r.Retry, startRetry), crashMaxDelay)
		r.RetryAt = time.Now().Add(r.Retry)
		switch reason {
		case "CreateContainerConfigError":
			if w.news != news { // what it failed for may have come since
				r.RetryAt, r.Retry = time.Time{}, 0
			}
		case "ErrImagePull", "RegistryUnavailable":
			// Soon it says that it waits, and after the back-off it pulls.
			r.RetryAt, r.Retry = time.Now().Add(startRetry), 0
		case "ImagePullBackOff":
			r.RetryAt, r.Retry = wait.Until, 0
		}
	})
}

// reasonStarted marks failures after which the container's own state tells all.
const reasonStarted = "started"

// failureText is what the Failed event says: pulls by their reason alone,
// everything else in full.
func failureText(reason string, err error) string {
	switch reason {
	case "ErrImagePull", "RegistryUnavailable", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName":
		return reason
	}
	return err.Error()
}

// launch makes and starts the container.
func (w *worker) launch(ctx context.Context, pod *corev1.Pod, box sandbox, c *corev1.Container, image Image) error {
	w.mu.Lock()
	old := w.peek(c.Name)
	w.mu.Unlock()
	attempt := old.NextAttempt
	config, err := w.build(ctx, pod, box, c, attempt, image)
	if err == nil && config.Pod.PIDNS == "" {
		config.Pod.PIDNS, err = w.processes(pod, c)
	}
	if err != nil {
		if errors.As(err, new(waitError)) {
			return err
		}
		return waitError{Reason: "CreateContainerConfigError", Err: err}
	}
	if err := w.clear(ctx, pod, c, old); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(config.LogPath), 0o755); err != nil {
		return err
	}
	began := time.Now()
	err = w.Runtime.Create(ctx, config)
	observe(w.durations.create, began)
	if err != nil && !errors.As(err, new(RunError)) {
		return waitError{Reason: "CreateContainerError", Err: err}
	}
	w.event(c, corev1.EventTypeNormal, "Created", "Container created")
	w.mu.Lock()
	now := time.Now()
	r := w.record(c.Name)
	if r.Current != nil {
		if !r.Current.Replaced {
			r.Crash = r.Crash.next(r.Current.seenEnd(), now)
		}
		r.Last = r.Current
	}
	r.Current = &run{Image: c.Image, Given: giveOf(pod, c), ContainerState: ContainerState{
		ID: config.ID, Name: c.Name, Attempt: attempt, Phase: ContainerCreated, CreatedAt: now,
		ImageRef: c.Image, ImageID: imageID(image), LogPath: config.LogPath,
	}}
	r.NextAttempt, r.Started, r.Ready, r.Condemned, r.Grace = attempt+1, false, false, "", nil
	w.exits[config.ID] = make(chan struct{})
	w.keepSizes()
	w.mu.Unlock()

	if err == nil {
		err = w.startTask(ctx, config.ID)
	}
	if err != nil {
		w.setRun(c.Name, config.ID, func(r *record) {
			w.setEnded(r, ContainerState{ID: config.ID, ExitCode: 128, FinishedAt: time.Now()})
			failed := *r.Current
			failed.Reason, failed.Message = "StartError", err.Error()
			r.Current = &failed
			r.Wait = corev1.ContainerStateWaiting{Reason: "RunContainerError", Message: err.Error()}
		})
		w.event(c, corev1.EventTypeWarning, "Failed", "Error: %v", err)
		return waitError{Reason: reasonStarted, Err: err}
	}
	w.Logs.Add(config.ID, config.LogPath)
	w.spare()
	return w.started(ctx, pod, c, config.ID)
}

// startPatience bounds the start of a container that is made.
const startPatience = time.Minute

// startTask starts the made container's process. That is not left half done: a short one
// may have ended, and with it the Pod, before its start has been answered.
func (w *worker) startTask(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startPatience)
	defer cancel()
	defer observe(w.durations.start, time.Now())
	return w.Runtime.Start(ctx, id)
}

// started notes the running process and runs the postStart hook: until that
// has succeeded the container does not count as started.
func (w *worker) started(ctx context.Context, pod *corev1.Pod, c *corev1.Container, id string) error {
	state, ok, err := w.Runtime.State(ctx, id)
	began := time.Now()
	if err != nil || !ok {
		state = ContainerState{StartedAt: began}
	}
	w.setRun(c.Name, id, func(r *record) {
		r.Wait = corev1.ContainerStateWaiting{}
		if r.Current.exited() {
			return
		}
		running := *r.Current
		running.Phase, running.StartedAt, running.PID = ContainerRunning, w.Time.Theirs(state.StartedAt), state.PID
		running.Began, running.User = began, state.User
		r.Current = &running
		if state.Phase == ContainerExited {
			w.setEnded(r, state)
		}
	})
	w.event(c, corev1.EventTypeNormal, "Started", "Container started")
	if c.Lifecycle != nil && c.Lifecycle.PostStart != nil {
		if err := w.hook(ctx, pod, c, id, c.Lifecycle.PostStart); err != nil && ctx.Err() == nil {
			w.event(c, corev1.EventTypeWarning, "FailedPostStartHook", "PostStartHook failed")
			w.log.Debug("postStart hook", zap.String("container", c.Name), zap.Error(err))
			w.kill(ctx, c.Name, "FailedPostStartHook", nil, nil)
			return waitError{Reason: reasonStarted, Err: err}
		}
	}
	w.setRun(c.Name, id, func(r *record) {
		if r.Current.running() {
			r.Started = r.Started || c.StartupProbe == nil
			r.Ready = r.Ready || c.ReadinessProbe == nil
		}
	})
	return nil
}

// setRun changes a record if its latest run is still the one named.
func (w *worker) setRun(name, id string, fn func(*record)) {
	w.change(name, func(r *record) {
		if r.Current != nil && r.Current.ID == id {
			fn(r)
		}
	})
}

// clear removes what earlier attempts left: their containers, and the logs and
// termination messages of those that are not to be kept: the last one always is.
func (w *worker) clear(ctx context.Context, pod *corev1.Pod, c *corev1.Container, old record) error {
	for _, id := range w.leftovers {
		if err := w.Runtime.Remove(ctx, id); err != nil {
			return err
		}
	}
	w.leftovers = nil
	for _, r := range []*run{old.Last, old.Current} {
		if r != nil && r.ID != "" {
			w.Logs.Remove(r.ID)
			if err := w.Runtime.Remove(ctx, r.ID); err != nil {
				return err
			}
		}
	}
	oldest := old.NextAttempt - max(w.Kubelet.Dead.PerContainer, 1)
	removeBefore(filepath.Dir(w.logPath(pod, c.Name, 0)), oldest)
	removeBefore(filepath.Dir(w.terminationFile(w.uid, c.Name, 0)), oldest)
	return nil
}

// removeBefore deletes the files of attempts before the one given, whose names
// begin with their number.
func removeBefore(dir string, attempt int) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if n, ok := attemptOf(e.Name()); ok && n < attempt {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// imageID is what the status says: the digest the image was pulled by, where
// it has one.
func imageID(i Image) string {
	for _, name := range i.Names {
		if strings.Contains(name, "@sha256:") {
			return name
		}
	}
	return i.ID
}
