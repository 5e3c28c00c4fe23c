package agent

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// adopt takes over what an earlier run of the agent left: containers from the
// runtime, and what only the API still knows of them.
func (w *worker) adopt(left []ContainerState) {
	slices.SortFunc(left, func(a, b ContainerState) int { return a.Attempt - b.Attempt })
	for _, s := range left {
		r := w.record(s.Name)
		if s.Phase == ContainerCreated {
			// It was never started. start removes it.
			r.NextAttempt = s.Attempt
			w.leftovers = append(w.leftovers, s.ID)
			continue
		}
		r.Last, r.Current = r.Current, &run{ContainerState: s, Began: beganAt(s.StartedAt, time.Now())}
		r.Current.StartedAt = w.Time.Theirs(s.StartedAt)
		r.NextAttempt = s.Attempt + 1
		w.exits[s.ID] = make(chan struct{})
		if s.Phase == ContainerExited {
			w.setEnded(r, s)
		}
	}
	if terminal(w.pod) && len(left) == 0 {
		return // all is told
	}
	for _, statuses := range [][]corev1.ContainerStatus{w.pod.Status.InitContainerStatuses, w.pod.Status.ContainerStatuses, w.pod.Status.EphemeralContainerStatuses} {
		for i := range statuses {
			w.adoptStatus(&statuses[i])
		}
	}
	w.adoptRunning()
	if w.boxStands(w.uid) {
		// Its containers go on as if nothing had happened.
		w.box = sandbox{Ready: true, Stale: true, IPs: reportedIPs(w.pod)}
	}
}

// beganAt is when something started, on the monotonic clock of now.
func beganAt(started, now time.Time) time.Time {
	return now.Add(-max(now.Round(0).Sub(started), 0))
}

// adoptRunning completes the records of containers whose start the earlier run
// of the agent had no time to report: what no probe will tell is so.
func (w *worker) adoptRunning() {
	for name, r := range w.records {
		c := findContainer(w.pod, name)
		if c == nil || !r.Current.running() {
			continue
		}
		r.Started = r.Started || c.StartupProbe == nil
		r.Ready = r.Ready || r.Started && c.ReadinessProbe == nil
	}
}

// adoptStatus completes a record by what was last reported of the container.
func (w *worker) adoptStatus(s *corev1.ContainerStatus) {
	r := w.record(s.Name)
	if r.Current == nil {
		r.NextAttempt = max(r.NextAttempt, int(s.RestartCount))
		if t := s.LastTerminationState.Terminated; t != nil {
			r.Last = runFromStatus(s.Name, int(s.RestartCount)-1, t)
		}
		switch {
		case s.State.Waiting != nil && r.Last != nil && r.Last.Reason == reasonRestartAll:
			// It waits to begin anew with all others.
		case s.State.Waiting != nil && r.Last != nil:
			// It waited for its next attempt.
			r.Current, r.Last = runFromStatus(s.Name, int(s.RestartCount), s.LastTerminationState.Terminated), nil
			r.NextAttempt = r.Current.Attempt + 1
		case s.State.Terminated != nil:
			r.Current = runFromStatus(s.Name, int(s.RestartCount), s.State.Terminated)
			r.NextAttempt = r.Current.Attempt + 1
		case s.State.Running != nil:
			// It ran, and nothing is known of its end: the machine died.
			r.Current = runFromStatus(s.Name, int(s.RestartCount), &corev1.ContainerStateTerminated{
				ExitCode: 255, Reason: "Unknown", ContainerID: s.ContainerID,
				StartedAt: s.State.Running.StartedAt, FinishedAt: s.State.Running.StartedAt,
			})
			r.NextAttempt = r.Current.Attempt + 1
		}
		return
	}
	if s.ContainerID != "containerd://"+r.Current.ID {
		return
	}
	r.Current.ImageRef, r.Current.ImageID, r.Current.Image = s.Image, s.ImageID, s.Image
	switch { // what was told stays so, although the clock may have been set since
	case s.State.Running != nil:
		r.Current.StartedAt = s.State.Running.StartedAt.Time
	case s.State.Terminated != nil && r.Current.exited():
		r.Current.StartedAt, r.Current.FinishedAt = s.State.Terminated.StartedAt.Time, s.State.Terminated.FinishedAt.Time
	}
	if t := s.LastTerminationState.Terminated; t != nil && r.Last == nil {
		r.Last = runFromStatus(s.Name, r.Current.Attempt-1, t)
	}
	r.Started = r.Current.running() && s.Started != nil && *s.Started
	r.Ready = r.Current.running() && s.Ready
}

func runFromStatus(name string, attempt int, t *corev1.ContainerStateTerminated) *run {
	id := t.ContainerID
	if len(id) > len("containerd://") {
		id = id[len("containerd://"):]
	}
	return &run{Reason: t.Reason, Message: t.Message, ContainerState: ContainerState{
		ID: id, Name: name, Attempt: max(attempt, 0), Phase: ContainerExited, ExitCode: int(t.ExitCode),
		StartedAt: t.StartedAt.Time, FinishedAt: t.FinishedAt.Time,
	}}
}

// observe takes news of a container from the runtime.
func (w *worker) observe(s ContainerState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.records[s.Name]
	if r == nil || r.Current == nil || r.Current.ID != s.ID || r.Current.exited() {
		return
	}
	switch s.Phase {
	case ContainerExited:
		w.setEnded(r, s)
	case ContainerRunning:
		if !r.Current.running() {
			return // start says when it counts as started
		}
		next := *r.Current
		next.PID = s.PID
		r.Current = &next
	}
	w.poke()
}

// setEnded notes a container's end; w.mu is held.
func (w *worker) setEnded(r *record, s ContainerState) {
	next := *r.Current
	next.Phase, next.ExitCode, next.OOMKilled = ContainerExited, s.ExitCode, s.OOMKilled
	next.FinishedAt, next.SeenEnd = w.Time.Theirs(s.FinishedAt), time.Now()
	if !s.StartedAt.IsZero() {
		next.StartedAt = w.Time.Theirs(s.StartedAt)
	}
	if next.User == nil { // its end was told before its start
		next.User = s.User
	}
	next.Reason = endReason(s)
	next.Message = w.terminationMessage(&next)
	r.Current, r.Started, r.Ready, r.Condemned, r.Grace = &next, false, false, "", nil
	if ch := w.exits[s.ID]; ch != nil {
		close(ch)
		delete(w.exits, s.ID)
	}
}
