package agent

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/kind"
)

// podStatus is what to report of a Pod, over the status the API has of it;
// conditions of others stay. It is pure.
func podStatus(v view, hostIPs []netip.Addr) corev1.PodStatus {
	s := *v.Pod.Status.DeepCopy()
	if terminal(v.Pod) && len(v.Records) == 0 {
		return s // it ended before this agent started: the API knows all
	}
	s.ObservedGeneration = v.Pod.Generation
	if s.StartTime == nil {
		start := stamp(v.Clock)
		s.StartTime = &start
	}
	if s.QOSClass == "" {
		s.QOSClass = qosClass(v.Pod)
	}
	s.HostIP, s.HostIPs = "", nil
	for i, ip := range hostIPs {
		if i == 0 {
			s.HostIP = ip.String()
		}
		s.HostIPs = append(s.HostIPs, corev1.HostIP{IP: ip.String()})
	}
	if len(v.Box.IPs) > 0 {
		s.PodIP, s.PodIPs = v.Box.IPs[0].String(), nil
		for _, ip := range v.Box.IPs {
			s.PodIPs = append(s.PodIPs, corev1.PodIP{IP: ip.String()})
		}
	}
	s.InitContainerStatuses = containerStatuses(v, v.Pod.Spec.InitContainers, v.Pod.Status.InitContainerStatuses, true)
	s.ContainerStatuses = containerStatuses(v, v.Pod.Spec.Containers, v.Pod.Status.ContainerStatuses, false)
	s.EphemeralContainerStatuses = ephemeralStatuses(v)
	s.Phase = podPhase(v, s)
	s.Resources, s.AllocatedResources = podResources(v.Pod, s.Phase)
	// A Pod that the node ends has failed, however well its containers took it.
	over := v.Stopped || s.Phase == corev1.PodSucceeded || s.Phase == corev1.PodFailed
	if v.Ending != nil && over && !terminal(v.Pod) {
		s.Phase, s.Reason, s.Message = corev1.PodFailed, v.Ending.Reason, v.Ending.Message
	}
	if v.Refused != "" {
		s.Reason, s.Message = reasonUnsupported, v.Refused
	}
	s.Conditions = podConditions(v, s)
	return s
}

// replacement is how long the gap between a container that makes room for another
// image and the one that follows is kept from the API: mostly it is over by then,
// and those who watch the Pod would only be told that it is not ready to be told
// that it is. Upstream's kubelet looks once a second and rarely sees it.
const replacement = time.Second

// held is until when the status is not reported for the sake of a replacement;
// zero: it is. A replacement that cannot start is reported at once.
func (v view) held() time.Time {
	var until time.Time
	if v.stopping() {
		return until
	}
	for _, r := range v.Records {
		old := r.Current
		if !old.exited() {
			old = r.Last
		}
		over := r.Current.running() && r.Started || r.Wait.Reason != ""
		if over || !old.exited() || !old.Replaced {
			continue
		}
		if end := old.seenEnd().Add(replacement); v.Now.Before(end) && end.After(until) {
			until = end
		}
	}
	return until
}

// stamp is a time as the API keeps it: in whole seconds. Anything finer would
// make a status differ for ever from what came back.
func stamp(t time.Time) metav1.Time { return metav1.NewTime(t.Truncate(time.Second)) }

func containerStatuses(v view, containers []corev1.Container, old []corev1.ContainerStatus, init bool) []corev1.ContainerStatus {
	var out []corev1.ContainerStatus
	for i := range containers {
		out = append(out, containerStatus(v, &containers[i], old, init))
	}
	if !init { // the init containers are told in their own order
		sortStatuses(out)
	}
	return out
}

// userStatus tells whom a container began as; what was told once stays so.
func userStatus(r *run, old []corev1.ContainerStatus) *corev1.ContainerUser {
	if u := r.User; u != nil {
		linux := &corev1.LinuxContainerUser{UID: u.UID, GID: u.GID, SupplementalGroups: slices.Clone(u.Groups)}
		if !slices.Contains(linux.SupplementalGroups, u.GID) {
			linux.SupplementalGroups = append([]int64{u.GID}, linux.SupplementalGroups...)
		}
		return &corev1.ContainerUser{Linux: linux}
	}
	for i := range old {
		if old[i].ContainerID == "containerd://"+r.ID {
			return old[i].User
		}
	}
	return nil
}

func sortStatuses(s []corev1.ContainerStatus) {
	slices.SortFunc(s, func(a, b corev1.ContainerStatus) int { return strings.Compare(a.Name, b.Name) })
}

// ephemeralStatuses tells of the ephemeral containers, which have no probes and are
// never said to be ready.
func ephemeralStatuses(v view) []corev1.ContainerStatus {
	var out []corev1.ContainerStatus
	for i := range v.Pod.Spec.EphemeralContainers {
		c := asContainer(&v.Pod.Spec.EphemeralContainers[i])
		s := containerStatus(v, c, v.Pod.Status.EphemeralContainerStatuses, false)
		s.Started, s.Ready = nil, false
		if v.Records[c.Name].Current == nil {
			s.State = waitingState(v, c)
		}
		out = append(out, s)
	}
	sortStatuses(out)
	return out
}

func containerStatus(v view, c *corev1.Container, old []corev1.ContainerStatus, init bool) corev1.ContainerStatus {
	r := v.Records[c.Name]
	started := r.Current.running() && r.Started
	s := corev1.ContainerStatus{
		Name: c.Name, Image: c.Image, RestartCount: r.restarts(), Started: &started,
		Ready: started && r.Ready, VolumeMounts: mountStatuses(c, v.RecursiveReadOnly),
	}
	if r.Current != nil {
		s.ContainerID = "containerd://" + r.Current.ID
		s.ImageID = r.Current.ImageID
		if r.Current.ImageRef != "" {
			s.Image = r.Current.ImageRef
		}
		s.Resources = r.Current.resources(c)
		s.AllocatedResources = c.Resources.Requests.DeepCopy()
		s.User = userStatus(r.Current, old)
	} else if i := slices.IndexFunc(old, func(o corev1.ContainerStatus) bool { return o.Name == c.Name }); i >= 0 {
		s.ContainerID = old[i].ContainerID
	}
	if init && !kind.IsSidecar(c) {
		// A plain init container is ready when it has done its work.
		s.Ready = r.Current.exited() && r.Current.ExitCode == 0
	}
	s.State = containerState(v, c, init)
	last := r.Last
	if s.State.Waiting != nil && r.Current.exited() {
		last = r.Current
	}
	if last.exited() {
		s.LastTerminationState.Terminated = terminated(last)
	}
	return s
}

// mountStatuses tells of a container's volumes.
func mountStatuses(c *corev1.Container, recursive bool) []corev1.VolumeMountStatus {
	var out []corev1.VolumeMountStatus
	for _, m := range c.VolumeMounts {
		s := corev1.VolumeMountStatus{Name: m.Name, MountPath: m.MountPath, ReadOnly: m.ReadOnly}
		if m.ReadOnly {
			mode := corev1.RecursiveReadOnlyDisabled
			if all, err := recursivelyReadOnly(m, recursive); err == nil && all {
				mode = corev1.RecursiveReadOnlyEnabled
			}
			s.RecursiveReadOnly = &mode
		}
		out = append(out, s)
	}
	return out
}

func containerState(v view, c *corev1.Container, init bool) corev1.ContainerState {
	r := v.Records[c.Name]
	switch {
	case r.Current.running():
		return corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: stamp(r.Current.StartedAt)}}
	case r.Current.exited():
		if w, crashing := crashWait(v, c, init); crashing && !v.stopping() {
			return corev1.ContainerState{Waiting: &w}
		}
		if r.Wait.Reason != "" && !v.stopping() {
			return corev1.ContainerState{Waiting: &r.Wait}
		}
		return corev1.ContainerState{Terminated: terminated(r.Current)}
	case v.Stopped && (v.initialized() || !init && v.initDone()):
		// One that an init container's failure kept from starting goes on
		// waiting: that failure says it all.
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: 137, Reason: "ContainerStatusUnknown",
			Message: "The container could not be located when the pod was terminated",
		}}
	}
	return waitingState(v, c)
}

// waitingState is the state of a container that has not run in this sandbox.
func waitingState(v view, c *corev1.Container) corev1.ContainerState {
	r := v.Records[c.Name]
	waiting := func(reason, message string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
	}
	switch {
	case v.Refused != "":
		return waiting(reasonUnsupported, v.Refused)
	case r.Wait.Reason != "":
		return corev1.ContainerState{Waiting: &r.Wait}
	case len(v.Pod.Spec.InitContainers) > 0: // also once they are done, as upstream says
		return waiting("PodInitializing", "")
	}
	return waiting("ContainerCreating", "")
}

func (v view) stopping() bool {
	return v.Gone || v.Stopped || v.Ending != nil || v.Pod.DeletionTimestamp != nil || finished(v)
}

// initDone says whether all init containers have done their part.
func (v view) initDone() bool {
	if v.initialized() {
		return true
	}
	for i := range v.Pod.Spec.InitContainers {
		c := &v.Pod.Spec.InitContainers[i]
		r := v.Records[c.Name]
		if kind.IsSidecar(c) {
			if !r.Current.running() || !r.Started {
				return false
			}
		} else if !r.Current.exited() || r.Current.ExitCode != 0 {
			return false
		}
	}
	return true
}

func terminated(r *run) *corev1.ContainerStateTerminated {
	t := &corev1.ContainerStateTerminated{
		ExitCode: int32(r.ExitCode), Reason: r.Reason, Message: r.Message,
		StartedAt: stamp(r.StartedAt), FinishedAt: stamp(r.FinishedAt),
	}
	if r.ID != "" {
		t.ContainerID = "containerd://" + r.ID
	}
	return t
}

// podPhase follows the Pod lifecycle's documentation: a phase that is final
// never changes again.
func podPhase(v view, s corev1.PodStatus) corev1.PodPhase {
	if terminal(v.Pod) {
		return v.Pod.Status.Phase
	}
	final := v.Stopped || finished(v)
	if final {
		if failed(s.ContainerStatuses) || failedInit(v) {
			return corev1.PodFailed
		}
		return corev1.PodSucceeded
	}
	if !v.initDone() {
		return corev1.PodPending
	}
	for i := range v.Pod.Spec.Containers {
		// A container that has run once makes the Pod Running for good, one
		// that never has keeps it Pending.
		r := v.Records[v.Pod.Spec.Containers[i].Name]
		if r.Current == nil && r.Last == nil {
			return corev1.PodPending
		}
	}
	return corev1.PodRunning
}

// terminal says whether the API has a final phase for the Pod.
func terminal(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

func failed(statuses []corev1.ContainerStatus) bool {
	return slices.ContainsFunc(statuses, func(s corev1.ContainerStatus) bool {
		return s.State.Terminated == nil || s.State.Terminated.ExitCode != 0
	})
}

func failedInit(v view) bool {
	return slices.ContainsFunc(v.Pod.Spec.InitContainers, func(c corev1.Container) bool {
		r := v.Records[c.Name]
		return !kind.IsSidecar(&c) && r.Current.exited() && r.Current.ExitCode != 0
	})
}

// podConditions brings the node's conditions up to date.
func podConditions(v view, s corev1.PodStatus) []corev1.PodCondition {
	out := slices.Clone(v.Pod.Status.Conditions)
	set := func(t corev1.PodConditionType, ok bool, reason, message string) bool {
		c := corev1.PodCondition{Type: t, Status: corev1.ConditionTrue, Reason: reason, Message: message,
			ObservedGeneration: v.Pod.Generation, LastTransitionTime: stamp(v.Clock)}
		if !ok {
			c.Status = corev1.ConditionFalse
		}
		i := slices.IndexFunc(out, func(o corev1.PodCondition) bool { return o.Type == t })
		if i < 0 {
			out = append(out, c)
			return ok
		}
		if out[i].Status == c.Status {
			c.LastTransitionTime, c.LastProbeTime = out[i].LastTransitionTime, out[i].LastProbeTime
		}
		out[i] = c
		return ok
	}
	set(corev1.PodReadyToStartContainers, v.Box.Ready && !v.Ended, "", "")
	initReason, initMessage := initializedReason(v, s)
	set(corev1.PodInitialized, initReason == "" || initReason == "PodCompleted", initReason, initMessage)
	readyReason, readyMessage := containersReadyReason(v, s)
	ready := set(corev1.ContainersReady, readyReason == "", readyReason, readyMessage)
	if ready {
		readyReason, readyMessage = gatesReason(v.Pod.Spec.ReadinessGates, out)
	}
	set(corev1.PodReady, readyReason == "", readyReason, readyMessage)
	set(corev1.PodScheduled, true, "", "")
	if c, ok := restartingCondition(v, s.Phase); ok {
		set(c.Type, c.Status == corev1.ConditionTrue, c.Reason, c.Message)
	}
	if v.Ending != nil && v.Ending.Disrupted {
		set(corev1.DisruptionTarget, true, corev1.PodReasonTerminationByKubelet, v.Ending.Message)
	}
	return resizeConditions(out, v.Resizes, s.Phase)
}

func initializedReason(v view, s corev1.PodStatus) (reason, message string) {
	if s.Phase == corev1.PodSucceeded && len(v.Pod.Spec.InitContainers) > 0 {
		return "PodCompleted", ""
	}
	if v.initDone() || wasInitialized(v.Pod) {
		return "", ""
	}
	var names []string
	for i, c := range s.InitContainerStatuses {
		done := c.Ready
		if kind.IsSidecar(&v.Pod.Spec.InitContainers[i]) {
			done = c.Started != nil && *c.Started
		}
		if !done {
			names = append(names, c.Name)
		}
	}
	return "ContainersNotInitialized", fmt.Sprintf("containers with incomplete status: %s", names)
}

// wasInitialized says whether a Pod whose containers all restart had come past its init
// containers before: that stays so.
func wasInitialized(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodInitialized && c.Status == corev1.ConditionTrue
	})
}

func containersReadyReason(v view, s corev1.PodStatus) (reason, message string) {
	switch s.Phase {
	case corev1.PodSucceeded:
		return "PodCompleted", ""
	case corev1.PodFailed:
		return "PodFailed", ""
	}
	var names []string
	for i, c := range s.InitContainerStatuses {
		if kind.IsSidecar(&v.Pod.Spec.InitContainers[i]) && !c.Ready {
			names = append(names, c.Name)
		}
	}
	for i := range v.Pod.Spec.Containers { // in the Pod's order
		name := v.Pod.Spec.Containers[i].Name
		if slices.ContainsFunc(s.ContainerStatuses, func(c corev1.ContainerStatus) bool { return c.Name == name && !c.Ready }) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "", ""
	}
	return "ContainersNotReady", fmt.Sprintf("containers with unready status: %s", names)
}

func gatesReason(gates []corev1.PodReadinessGate, conditions []corev1.PodCondition) (reason, message string) {
	var missing []string
	for _, g := range gates {
		i := slices.IndexFunc(conditions, func(c corev1.PodCondition) bool { return c.Type == g.ConditionType })
		switch {
		case i < 0:
			missing = append(missing, fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", g.ConditionType))
		case conditions[i].Status != corev1.ConditionTrue:
			missing = append(missing, fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %v", g.ConditionType, conditions[i].Status))
		}
	}
	if len(missing) == 0 {
		return "", ""
	}
	return "ReadinessGatesNotReady", strings.Join(missing, ", ")
}
