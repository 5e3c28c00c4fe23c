package agent

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// run is one attempt of a container and why it ended.
type run struct {
	// ContainerState has times of the servers' clock, unlike the runtime's.
	ContainerState
	// Began is when the process started, on this machine's monotonic clock.
	Began   time.Time
	Reason  string // of the end: Completed, Error, OOMKilled, StartError, …
	Message string // termination message
	// SeenEnd is when we learnt of the end: waits count from then, since
	// FinishedAt, of the machine's clock, may lie in the future once that is set.
	SeenEnd time.Time
	// Image is what the Pod said when the run began, "" if that is not known.
	Image string
	Given given // its resources
	// Replaced says that the run was ended for another image to run: that one
	// starts whatever the restart policy.
	Replaced bool
}

// outdated says whether the container runs what the Pod does not want any more.
func (r *run) outdated(c *corev1.Container) bool {
	return r.running() && c != nil && r.Image != "" && r.Image != c.Image
}

func (r *run) seenEnd() time.Time {
	if r.SeenEnd.IsZero() {
		return r.FinishedAt
	}
	return r.SeenEnd
}

func (r *run) running() bool { return r != nil && r.Phase == ContainerRunning }
func (r *run) exited() bool  { return r != nil && r.Phase == ContainerExited }

// record is what a worker knows of one container of its Pod. The worker hands
// copies to decide and podStatus; runs are not changed once they are in it.
type record struct {
	Current *run // the latest attempt; nil before the first
	Last    *run // the attempt before it
	// NextAttempt is the number the next run gets, and what of it has been
	// counted as restarts.
	NextAttempt int
	Crash       crashBackoff

	// Why the next run could not be started, and when to try again.
	Wait    corev1.ContainerStateWaiting
	RetryAt time.Time
	Retry   time.Duration

	Started bool // running, and its startup probe and postStart hook have succeeded
	Ready   bool // its readiness probe, if any, has succeeded
	// Condemned says why the running attempt must be killed and, by policy,
	// restarted: its liveness or startup probe failed. Grace overrides the
	// Pod's grace period.
	Condemned string
	Grace     *int64
	// Announced is the attempt for which the BackOff event was sent.
	Announced int
}

func (r record) restarts() int32 {
	if r.Current != nil {
		return int32(r.Current.Attempt)
	}
	return int32(r.NextAttempt)
}

// endReason says in upstream's words how a container ended.
func endReason(s ContainerState) string {
	switch {
	case s.OOMKilled:
		return "OOMKilled"
	case s.ExitCode == 0:
		return "Completed"
	}
	return "Error"
}
