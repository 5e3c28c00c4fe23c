package agent

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/kind"
)

// view is everything a decision about a Pod depends on.
type view struct {
	Pod     *corev1.Pod
	Now     time.Time
	Clock   time.Time // now by the servers' clock, for what is reported
	Active  time.Time // when the Pod's start time was, on the clock of Now; zero: it has none
	Refused string    // the field that is not implemented, "" if all are
	Box     sandbox
	Records map[string]record
	Ending  *ending // why the Pod is being ended by the node itself
	Gone    bool    // the API has no such Pod any more
	Stopped bool    // all containers have ended, and none will start again
	Ended   bool    // … and everything else is taken down
	Deleted bool    // … and the API was told so

	Resizes           resizes
	RecursiveReadOnly bool // see Description
}

// ending is the node's own reason to end a Pod.
type ending struct {
	Reason, Message string
	Grace           int64 // seconds that its containers get; 0: what the Pod says
	Disrupted       bool  // for the node's sake: others are told by a condition
}

// plan is the next step for a Pod. At most one of End, Reset, Sandbox, Resize, Kill and
// Start is set; all empty means that there is nothing to do before WakeAt.
type plan struct {
	End     bool   // stop all containers and take everything down
	Reset   bool   // end all containers and begin anew
	Sandbox bool   // make namespaces, cgroup, network and volumes
	Resize  bool   // give what runs its resources
	Kill    string // this running container, for what its record says
	Start   string // this container
	// WakeAt is when to decide again without other news; zero is never.
	WakeAt time.Time
}

func (p plan) idle() bool {
	return !p.End && !p.Reset && !p.Sandbox && !p.Resize && p.Kill == "" && p.Start == ""
}

// decide makes the plan for what it sees. It is pure.
func decide(v view) plan {
	switch {
	case v.Ended && (v.Gone || v.Deleted || v.Pod.DeletionTimestamp == nil):
		return plan{}
	case v.Gone, v.Pod.DeletionTimestamp != nil, v.Ending != nil, finished(v):
		return plan{End: true}
	case v.Refused != "":
		return plan{}
	}
	p := v.next()
	p.wakeBy(activeDeadline(v.Pod, v.Active))
	return p
}

func (p *plan) wakeBy(t time.Time) {
	if !t.IsZero() && (p.WakeAt.IsZero() || t.Before(p.WakeAt)) {
		p.WakeAt = t
	}
}

// next finds the first thing to do for a Pod that is to run.
func (v view) next() plan {
	if v.restartsAll() {
		return plan{Reset: true}
	}
	for name, r := range v.Records {
		if r.Current.running() && r.Condemned != "" || r.Current.outdated(findContainer(v.Pod, name)) {
			return plan{Kill: name}
		}
	}
	if !v.Box.Ready || v.Box.Stale {
		if v.Now.Before(v.Box.RetryAt) {
			return plan{WakeAt: v.Box.RetryAt}
		}
		return plan{Sandbox: true}
	}
	var p plan
	if p.resize(v) {
		return p
	}
	for i := range v.Pod.Spec.EphemeralContainers {
		if p.debug(v, &v.Pod.Spec.EphemeralContainers[i]) {
			return p
		}
	}
	if !v.initialized() {
		for i := range v.Pod.Spec.InitContainers {
			c := &v.Pod.Spec.InitContainers[i]
			if done := p.advance(v, c); !done {
				return p
			}
		}
	} else {
		for i := range v.Pod.Spec.InitContainers {
			if c := &v.Pod.Spec.InitContainers[i]; kind.IsSidecar(c) && p.consider(v, c, true) {
				return p
			}
		}
	}
	for i := range v.Pod.Spec.Containers {
		if p.consider(v, &v.Pod.Spec.Containers[i], false) {
			return p
		}
	}
	return p
}

// initialized says whether the init phase is over: a main container has run in
// this sandbox.
func (v view) initialized() bool {
	for i := range v.Pod.Spec.Containers {
		if v.Records[v.Pod.Spec.Containers[i].Name].Current != nil {
			return true
		}
	}
	return false
}

// advance looks at one init container and says whether the next may be looked
// at.
func (p *plan) advance(v view, c *corev1.Container) bool {
	r := v.Records[c.Name]
	if kind.IsSidecar(c) {
		if p.consider(v, c, true) {
			return false
		}
		return r.Current.running() && r.Started
	}
	if r.Current.exited() && r.Current.ExitCode == 0 {
		return true
	}
	p.consider(v, c, true)
	return false
}

// consider starts a container that must run and does not, or notes when it
// may. It says whether there is something to do now.
func (p *plan) consider(v view, c *corev1.Container, init bool) bool {
	r := v.Records[c.Name]
	at := r.RetryAt
	if r.Current != nil {
		if !r.Current.exited() || !startsAgain(v.Pod, c, init, r.Current) {
			return false
		}
		if until := r.Crash.until(r.Current.seenEnd()); until.After(at) {
			at = until
		}
	}
	return p.startAt(v, c.Name, at)
}

// startAt starts a container if it is time, and notes when it will be otherwise. It
// says whether there is something to do now.
func (p *plan) startAt(v view, name string, at time.Time) bool {
	if v.Now.Before(at) {
		p.wakeBy(at)
		return false
	}
	p.Start = name
	return true
}

// finished says whether every container has ended for good, or an init
// container has failed for good.
func finished(v view) bool {
	if v.restartsAll() {
		return false
	}
	for i := range v.Pod.Spec.InitContainers {
		c := &v.Pod.Spec.InitContainers[i]
		r := v.Records[c.Name]
		if !kind.IsSidecar(c) && r.Current.exited() && r.Current.ExitCode != 0 &&
			!startsAgain(v.Pod, c, true, r.Current) {
			return true
		}
	}
	for i := range v.Pod.Spec.Containers {
		c := &v.Pod.Spec.Containers[i]
		r := v.Records[c.Name]
		if !r.Current.exited() || startsAgain(v.Pod, c, false, r.Current) {
			return false
		}
	}
	return true
}

// activeDeadline is when a Pod that became active at that time has been so for as
// long as it may; zero is never.
func activeDeadline(pod *corev1.Pod, active time.Time) time.Time {
	if pod.Spec.ActiveDeadlineSeconds == nil || active.IsZero() {
		return time.Time{}
	}
	return active.Add(time.Duration(*pod.Spec.ActiveDeadlineSeconds) * time.Second)
}

// overdue is the ending of a Pod past its active deadline, or nil.
func overdue(pod *corev1.Pod, active, now time.Time) *ending {
	if d := activeDeadline(pod, active); d.IsZero() || now.Before(d) {
		return nil
	}
	return &ending{Reason: "DeadlineExceeded", Message: "Pod was active on the node longer than the specified deadline"}
}

// crashWait is the waiting state of a container in its crash-loop back-off;
// ok is false if it is in none.
func crashWait(v view, c *corev1.Container, init bool) (w corev1.ContainerStateWaiting, ok bool) {
	r := v.Records[c.Name]
	if !r.Current.exited() || !shouldRestart(v.Pod, c, init, r.Current.ExitCode) ||
		!v.Now.Before(r.Crash.until(r.Current.seenEnd())) {
		return w, false
	}
	return corev1.ContainerStateWaiting{
		Reason: "CrashLoopBackOff",
		Message: fmt.Sprintf("back-off %s restarting failed container=%s pod=%s",
			r.Crash.Delay, c.Name, podName(v.Pod)),
	}, true
}

// podName names a Pod the way messages do.
func podName(pod *corev1.Pod) string {
	return fmt.Sprintf("%s_%s(%s)", pod.Name, pod.Namespace, pod.UID)
}
