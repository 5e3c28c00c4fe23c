package agent

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestShownRun(t *testing.T) {
	ended := func(id string) *corev1.ContainerStateTerminated {
		if id != "" {
			id = "containerd://" + id
		}
		return &corev1.ContainerStateTerminated{ContainerID: id}
	}
	waiting := func(reason, last string) corev1.ContainerStatus {
		s := corev1.ContainerStatus{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}}
		if last != "" {
			s.LastTerminationState.Terminated = ended(last)
		}
		return s
	}
	runs := corev1.ContainerStatus{ContainerID: "containerd://2", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
	again := runs
	again.LastTerminationState.Terminated = ended("1")
	over := corev1.ContainerStatus{State: corev1.ContainerState{Terminated: ended("2")}, LastTerminationState: corev1.ContainerState{Terminated: ended("1")}}
	lost := corev1.ContainerStatus{State: corev1.ContainerState{Terminated: ended("")}}
	lostAgain := corev1.ContainerStatus{State: lost.State, LastTerminationState: over.LastTerminationState}
	tests := map[string]struct {
		status         corev1.ContainerStatus
		want, previous string
	}{
		"runs":                 {runs, "2", `previous terminated container "c" in pod "web" not found`},
		"runs again":           {again, "2", "1"},
		"over":                 {over, "2", "1"},
		"waits to run again":   {waiting("CrashLoopBackOff", "2"), "2", "2"},
		"never ran":            {waiting("ContainerCreating", ""), `container "c" in pod "web" is waiting to start: ContainerCreating`, `previous terminated container "c" in pod "web" not found`},
		"without image":        {waiting("ErrImagePull", ""), `container "c" in pod "web" is waiting to start: image can't be pulled`, `previous terminated container "c" in pod "web" not found`},
		"still without":        {waiting("ImagePullBackOff", ""), `container "c" in pod "web" is waiting to start: trying and failing to pull image`, `previous terminated container "c" in pod "web" not found`},
		"nowhere to be found":  {lost, `container "c" in pod "web" is terminated`, `previous terminated container "c" in pod "web" not found`},
		"lost, but ran before": {lostAgain, "1", "1"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.status.Name = "c"
			pod := webPod(func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{tt.status} })
			for previous, want := range map[bool]string{false: tt.want, true: tt.previous} {
				shown, err := shownRun(pod, "c", previous)
				got := shown.id
				if err != nil {
					got = err.Error()
				}
				if got != want {
					t.Errorf("previous %v: %q, want %q", previous, got, want)
				}
			}
		})
	}
	if _, err := shownRun(webPod(), "other", false); err == nil || err.Error() != `container "other" in pod "web" is not available` {
		t.Errorf("of no container: %v", err)
	}
}

// Of a Pod that ended before the agent started the API alone knows, and its logs are
// there.
func TestShownAttempt(t *testing.T) {
	ended := &corev1.ContainerStateTerminated{ContainerID: "containerd://3"}
	before := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ContainerID: "containerd://2"}}
	for _, tt := range []struct {
		state          corev1.ContainerState
		want, previous int
	}{
		{corev1.ContainerState{Terminated: ended}, 3, 2},
		{corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{}}, 3, 3},
	} {
		pod := webPod(func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", RestartCount: 3, State: tt.state, LastTerminationState: before}}
		})
		present, err1 := shownRun(pod, "c", false)
		last, err2 := shownRun(pod, "c", true)
		if err1 != nil || err2 != nil || present.attempt != tt.want || last.attempt != tt.previous {
			t.Errorf("%+v, %+v, %v, %v", present, last, err1, err2)
		}
	}
}
