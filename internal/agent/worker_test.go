package agent

import (
	"errors"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	ktesting "k8s.io/client-go/testing"
)

func TestPodRunsAndIsReported(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		b.create(webPod())
		pass(time.Second)
		b.wantCalls("create c/0", "start c/0")
		pod := b.pod()
		if pod.Status.Phase != corev1.PodRunning || pod.Status.PodIP != "10.42.0.9" || pod.Status.HostIP != "192.0.2.7" || pod.Status.StartTime == nil {
			t.Errorf("status is %+v", pod.Status)
		}
		for _, c := range []corev1.PodConditionType{corev1.PodReady, corev1.ContainersReady, corev1.PodInitialized, corev1.PodReadyToStartContainers, corev1.PodScheduled} {
			if got := condition(pod, c); got != "True  " {
				t.Errorf("condition %s is %q", c, got)
			}
		}
		s := pod.Status.ContainerStatuses[0]
		if s.State.Running == nil || !s.Ready || s.Started == nil || !*s.Started || !strings.HasPrefix(s.ContainerID, "containerd://") || s.ImageID != "sha256:abc" {
			t.Errorf("container status is %+v", s)
		}
		b.wantEvent(`Pulled Container image "hello:1" already present on machine and can be accessed by the pod`)
		b.wantEvent("Created Container created")
		b.wantEvent("Started Container started")
		spec := b.runtime.spec("c")
		for _, want := range []string{"A=image", "KUBERNETES_SERVICE_HOST=10.43.0.1", "KUBERNETES_SERVICE_PORT_HTTPS=443", "HOSTNAME=web"} {
			if !strings.Contains("\n"+strings.Join(spec.Env, "\n")+"\n", "\n"+want+"\n") {
				t.Errorf("%s is not in the environment %q", want, spec.Env)
			}
		}
	})
}

func TestStatusIsWrittenOnlyWhenItChanges(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		pass(1234 * time.Millisecond) // not at a full second
		b.create(webPod())
		pass(time.Second)
		writes := func() (n int) {
			for _, a := range b.client.Actions() {
				if a.GetVerb() == "patch" && a.GetResource().Resource == "pods" {
					n++
				}
			}
			return n
		}
		before := writes()
		for range 5 {
			b.agent.workerOf("default", "web").poke()
			pass(time.Second)
		}
		if n := writes() - before; n != 0 {
			t.Errorf("%d writes of an unchanged status", n)
		}
	})
}

func TestCrashLoopBacksOff(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		b.create(webPod())
		pass(time.Second)
		b.runtime.exit(t, "c", 1)
		pass(0)
		// The first restart is immediate.
		b.wantCalls("create c/0", "start c/0", "remove c/0", "create c/1", "start c/1")
		for _, wait := range []time.Duration{10, 20, 40, 80, 160, 300, 300} {
			b.runtime.exit(t, "c", 1)
			pass(wait*time.Second - time.Second)
			s := b.pod().Status.ContainerStatuses[0]
			want := "back-off " + (wait * time.Second).String() + " restarting failed container=c pod=web_default(11111111-2222-3333-4444-555555555555)"
			if s.State.Waiting == nil || s.State.Waiting.Reason != "CrashLoopBackOff" || s.State.Waiting.Message != want {
				t.Fatalf("state is %+v, want %s", s.State, want)
			}
			if l := s.LastTerminationState.Terminated; l == nil || l.ExitCode != 1 || l.Reason != "Error" {
				t.Errorf("last state is %+v", s.LastTerminationState)
			}
			b.runtime.taken()
			pass(2 * time.Second)
			if calls := b.runtime.taken(); len(calls) != 3 {
				t.Fatalf("after the back-off of %ds came %q", wait, calls)
			}
		}
		b.wantEvent("BackOff Back-off restarting failed container c in pod web_default(11111111-2222-3333-4444-555555555555)")
		if got := b.pod().Status.ContainerStatuses[0].RestartCount; got != 8 {
			t.Errorf("restart count is %d, want 8", got)
		}
		// Having run for long enough, it starts afresh.
		pass(11 * time.Minute)
		b.runtime.exit(t, "c", 1)
		b.runtime.taken()
		pass(0)
		if calls := b.runtime.taken(); len(calls) != 3 {
			t.Errorf("after a long run came %q", calls)
		}
	})
}

func TestGracefulDeletion(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		b.create(webPod())
		pass(time.Second)
		b.runtime.taken()
		b.delete(30)
		pass(time.Second)
		b.wantCalls("kill c/0 15", "remove c/0")
		b.wantEvent("Killing Stopping container c")
		if !b.podGone() {
			t.Errorf("the Pod is still there: %+v", b.pod().Status)
		}
		pass(time.Second)
		if len(b.network.attached) != 0 || b.agent.workerOf("default", "web") != nil {
			t.Error("something of the Pod is left")
		}
	})
}

func TestStubbornContainerIsKilledAfterTheGracePeriod(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		b.runtime.onSignal = func(string, int) bool { return false }
		b.create(webPod())
		pass(time.Second)
		b.runtime.taken()
		b.delete(30)
		pass(29 * time.Second)
		b.wantCalls("kill c/0 15")
		pass(2 * time.Second)
		b.wantCalls("kill c/0 9", "remove c/0")
		if !b.podGone() {
			t.Error("the Pod is still there")
		}
	})
}

func TestShorterGracePeriodHurries(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		b.runtime.onSignal = func(string, int) bool { return false }
		b.create(webPod())
		pass(time.Second)
		b.delete(300)
		pass(10 * time.Second)
		b.delete(1)
		pass(2 * time.Second)
		if !b.podGone() {
			t.Error("the Pod waits for its first grace period")
		}
	})
}

func TestAdoption(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.start()
		b.create(webPod())
		pass(time.Second)
		before := b.pod().Status
		b.stop()
		b.runtime.taken()
		b.start()
		defer func() { b.stop() }()
		pass(time.Second)
		b.wantCalls()
		after := b.pod().Status
		if !sameStatus(before, after) {
			t.Errorf("status changed from\n%+v\nto\n%+v", before, after)
		}
		b.runtime.exit(t, "c", 0)
		pass(time.Second)
		b.wantCalls("remove c/0", "create c/1", "start c/1")
	})
}

func TestAdoptionOfAStartThatWasNotReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.start()
		b.create(webPod())
		pass(time.Second)
		b.stop()
		b.runtime.taken()
		pod := b.pod()
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
			Name: "c", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}},
		}}
		if _, err := b.client.CoreV1().Pods(pod.Namespace).UpdateStatus(t.Context(), pod, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		b.start()
		defer func() { b.stop() }()
		pass(time.Second)
		b.wantCalls()
		if s := b.pod().Status.ContainerStatuses[0]; !s.Ready || s.Started == nil || !*s.Started || s.State.Running == nil {
			t.Errorf("status is %+v", s)
		}
	})
}

func TestContainerThatEndedWhileTheAgentWasAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.start()
		b.create(webPod(func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "v"}}
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}
		}))
		pass(time.Second)
		b.stop()
		b.runtime.exit(t, "c", 4)
		b.runtime.taken()
		b.start()
		defer func() { b.stop() }()
		pass(time.Second)
		b.wantCalls("remove c/0", "create c/1", "start c/1")
		s := b.pod().Status.ContainerStatuses[0]
		if s.RestartCount != 1 || s.LastTerminationState.Terminated == nil || s.LastTerminationState.Terminated.ExitCode != 4 {
			t.Errorf("status is %+v", s)
		}
	})
}

func TestReboot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.start()
		b.create(webPod(initPod))
		pass(time.Second)
		b.runtime.exit(t, "one", 0)
		pass(time.Second)
		b.runtime.exit(t, "two", 0)
		pass(time.Second)
		b.stop()
		// All processes are gone, and so is what lay in the run directory.
		b.runtime.mu.Lock()
		for _, c := range b.runtime.containers {
			if c.state.Phase == ContainerRunning {
				c.state.Phase, c.state.ExitCode, c.state.FinishedAt = ContainerExited, 255, time.Now()
			}
		}
		b.runtime.mu.Unlock()
		if err := os.RemoveAll(b.host.RunDir); err != nil {
			t.Fatal(err)
		}
		b.runtime.taken()
		b.start()
		defer func() { b.stop() }()
		pass(time.Second)
		if got := b.runtime.taken(); !slices.Equal(got, []string{"create one/1", "start one/1"}) && !slices.Equal(got, []string{"remove one/0", "create one/1", "start one/1"}) {
			t.Errorf("init containers must run again: %q", got)
		}
		if pod := b.pod(); pod.Status.ContainerStatuses[0].LastTerminationState.Terminated == nil || pod.Status.Phase == corev1.PodSucceeded {
			t.Errorf("status is %+v", pod.Status)
		}
	})
}

func TestLogsGoWithTheirPod(t *testing.T) {
	for _, away := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			b.start()
			b.create(webPod(func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyNever }))
			pass(time.Second)
			path := b.runtime.spec("c").LogPath
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			b.runtime.exit(t, "c", 0)
			pass(time.Second)
			if _, err := os.Stat(path); err != nil {
				t.Errorf("the log of an ended Pod: %v", err)
			}
			if away {
				b.stop()
			}
			if err := b.client.Tracker().Delete(corev1.SchemeGroupVersion.WithResource("pods"), "default", "web"); err != nil {
				t.Fatal(err)
			}
			if away {
				b.start()
			}
			pass(time.Second)
			b.stop()
			if left, _ := os.ReadDir(b.host.LogDir); len(left) > 0 {
				t.Errorf("away %v: logs are left: %v", away, left)
			}
		})
	}
}

func TestStatusSurvivesAConflict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		var conflicts atomic.Int64
		conflicts.Store(2)
		b.client.PrependReactor("patch", "pods", func(ktesting.Action) (bool, runtime.Object, error) {
			if conflicts.Add(-1) >= 0 {
				return true, nil, apierrors.NewConflict(corev1.Resource("pods"), "web", errors.New("race"))
			}
			return false, nil, nil
		})
		b.start()
		defer func() { b.stop() }()
		b.create(webPod())
		pass(time.Second)
		if b.pod().Status.Phase != corev1.PodRunning {
			t.Errorf("status is %+v", b.pod().Status)
		}
	})
}

func TestFormerPodsAreCleanedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.start()
		b.create(webPod())
		pass(time.Second)
		b.stop()
		if err := b.client.Tracker().Delete(corev1.SchemeGroupVersion.WithResource("pods"), "default", "web"); err != nil {
			t.Fatal(err)
		}
		b.runtime.taken()
		b.start()
		defer func() { b.stop() }()
		pass(time.Second)
		b.wantCalls("kill c/0 15", "remove c/0")
		if uids, _ := b.agent.volumes.UIDs(); len(uids) > 0 {
			t.Errorf("directories are left: %q", uids)
		}
	})
}

func TestPodThatVanishesIsEnded(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		b.create(webPod())
		pass(time.Second)
		b.runtime.taken()
		if err := b.client.Tracker().Delete(corev1.SchemeGroupVersion.WithResource("pods"), "default", "web"); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		b.wantCalls("kill c/0 15", "remove c/0")
	})
}

func TestRestartPolicies(t *testing.T) {
	for _, test := range []struct {
		policy  corev1.RestartPolicy
		code    int
		phase   corev1.PodPhase
		restart bool
	}{
		{corev1.RestartPolicyNever, 0, corev1.PodSucceeded, false},
		{corev1.RestartPolicyNever, 3, corev1.PodFailed, false},
		{corev1.RestartPolicyOnFailure, 0, corev1.PodSucceeded, false},
		{corev1.RestartPolicyOnFailure, 3, corev1.PodRunning, true},
		{corev1.RestartPolicyAlways, 0, corev1.PodRunning, true},
	} {
		t.Run(string(test.policy), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.start()
				defer func() { b.stop() }()
				b.create(webPod(func(p *corev1.Pod) { p.Spec.RestartPolicy = test.policy }))
				pass(time.Second)
				b.runtime.taken()
				b.runtime.exit(t, "c", test.code)
				pass(time.Second)
				status := b.pod().Status
				if status.Phase != test.phase {
					t.Errorf("phase is %s, want %s: %+v", status.Phase, test.phase, status)
				}
				if restarted := strings.Contains(strings.Join(b.runtime.taken(), " "), "create c/1"); restarted != test.restart {
					t.Errorf("restarted: %v", restarted)
				}
				if !test.restart {
					s := status.ContainerStatuses[0].State.Terminated
					if s == nil || int(s.ExitCode) != test.code || len(b.network.attached) > 0 {
						t.Errorf("state is %+v; attached: %v", s, b.network.attached)
					}
					// A final phase stays over a restart of the agent.
					b.stop()
					b.start()
					pass(time.Second)
					if again := b.pod().Status; !sameStatus(status, again) || len(b.runtime.taken()) > 0 {
						t.Errorf("after a restart status is %+v", again)
					}
				}
			})
		})
	}
}

func initPod(p *corev1.Pod) {
	always := corev1.ContainerRestartPolicyAlways
	p.Spec.InitContainers = []corev1.Container{
		{Name: "one", Image: "hello:1"},
		{Name: "side", Image: "hello:1", RestartPolicy: &always},
		{Name: "two", Image: "hello:1"},
	}
}

func TestInitContainersRunInOrder(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		b.create(webPod(initPod))
		pass(time.Second)
		b.wantCalls("create one/0", "start one/0")
		pod := b.pod()
		if got := condition(pod, corev1.PodInitialized); got != "False ContainersNotInitialized containers with incomplete status: [one side two]" {
			t.Errorf("Initialized is %q", got)
		}
		if w := pod.Status.ContainerStatuses[0].State.Waiting; w == nil || w.Reason != "PodInitializing" || pod.Status.Phase != corev1.PodPending {
			t.Errorf("container waits for %+v in phase %s", w, pod.Status.Phase)
		}
		b.runtime.exit(t, "one", 0)
		pass(time.Second)
		b.wantCalls("create side/0", "start side/0", "create two/0", "start two/0")
		b.runtime.exit(t, "two", 0)
		pass(time.Second)
		b.wantCalls("create c/0", "start c/0")
		if pod := b.pod(); pod.Status.Phase != corev1.PodRunning || condition(pod, corev1.PodReady) != "True  " {
			t.Errorf("status is %+v", pod.Status)
		}
		b.runtime.exit(t, "side", 1)
		pass(time.Second)
		b.wantCalls("remove side/0", "create side/1", "start side/1")
		b.delete(5)
		pass(time.Second)
		if calls := b.runtime.taken(); len(calls) < 2 || calls[0] != "kill c/0 15" || calls[1] != "kill side/1 15" {
			t.Errorf("the sidecar must be killed last: %q", calls)
		}
	})
}

func TestFailedInitContainerFailsThePod(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		b.create(webPod(initPod, func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyNever }))
		pass(time.Second)
		b.runtime.exit(t, "one", 7)
		pass(time.Second)
		if got := b.pod().Status.Phase; got != corev1.PodFailed {
			t.Errorf("phase is %s", got)
		}
	})
}

func TestImagePullBackOff(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		b.images.absent["hello:1"] = errors.New("no such host")
		b.create(webPod())
		waiting := func() string {
			s := b.pod().Status.ContainerStatuses[0].State.Waiting
			if s == nil {
				return ""
			}
			return s.Reason + ": " + s.Message
		}
		if got := waiting(); got != "ErrImagePull: no such host" {
			t.Errorf("waits for %q", got)
		}
		pass(2 * time.Second)
		if got := waiting(); got != `ImagePullBackOff: Back-off pulling image "hello:1": ErrImagePull: no such host` {
			t.Errorf("waits for %q", got)
		}
		b.images.mu.Lock()
		b.images.absent["hello:1"] = nil
		b.images.mu.Unlock()
		pass(20 * time.Second)
		if b.pod().Status.Phase != corev1.PodRunning || b.images.pulls != 2 {
			t.Errorf("after %d pulls status is %+v", b.images.pulls, b.pod().Status)
		}
		for _, e := range []string{
			`Pulling Pulling image "hello:1"`, `Failed Failed to pull image "hello:1": no such host`,
			"Failed Error: ErrImagePull", `BackOff Back-off pulling image "hello:1"`, "Failed Error: ImagePullBackOff",
		} {
			b.wantEvent(e)
		}
	})
}

func TestImageNeverPulled(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		b.images.absent["hello:1"] = nil
		b.create(webPod(func(p *corev1.Pod) { p.Spec.Containers[0].ImagePullPolicy = corev1.PullNever }))
		pass(time.Second)
		w := b.pod().Status.ContainerStatuses[0].State.Waiting
		if w == nil || w.Reason != "ErrImageNeverPull" || w.Message != `Container image "hello:1" is not present with pull policy of Never` {
			t.Errorf("waits for %+v", w)
		}
	})
}

func probeExec(period, failures int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"check"}}},
		PeriodSeconds: period, FailureThreshold: failures, SuccessThreshold: 1, TimeoutSeconds: 1,
	}
}

func TestLivenessRestarts(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		b.runtime.execs = func(string, []string) (int, string) { return 1, "ill" }
		b.create(webPod(func(p *corev1.Pod) { p.Spec.Containers[0].LivenessProbe = probeExec(10, 3) }))
		pass(19 * time.Second)
		b.wantCalls("create c/0", "start c/0", "exec c/0 [check]", "exec c/0 [check]")
		pass(2 * time.Second)
		b.wantCalls("exec c/0 [check]", "kill c/0 15", "remove c/0", "create c/1", "start c/1", "exec c/1 [check]")
		b.wantEvent("Unhealthy Liveness probe failed: ill")
		b.wantEvent("Killing Container c failed liveness probe, will be restarted")
	})
}

func TestReadinessDecidesReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		var code atomic.Int64
		code.Store(1)
		b.runtime.execs = func(string, []string) (int, string) { return int(code.Load()), "" }
		b.start()
		defer func() { b.stop() }()
		b.create(webPod(func(p *corev1.Pod) { p.Spec.Containers[0].ReadinessProbe = probeExec(5, 1) }))
		pass(time.Second)
		if got := condition(b.pod(), corev1.PodReady); got != "False ContainersNotReady containers with unready status: [c]" {
			t.Errorf("Ready is %q", got)
		}
		code.Store(0)
		pass(6 * time.Second)
		if got := condition(b.pod(), corev1.PodReady); got != "True  " {
			t.Errorf("Ready is %q", got)
		}
	})
}

func TestStartupProbeHoldsTheOthersBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		var code atomic.Int64
		code.Store(1)
		b.runtime.execs = func(string, []string) (int, string) { return int(code.Load()), "" }
		b.start()
		defer func() { b.stop() }()
		b.create(webPod(func(p *corev1.Pod) {
			p.Spec.Containers[0].StartupProbe = probeExec(5, 30)
			p.Spec.Containers[0].LivenessProbe = probeExec(1, 1)
		}))
		pass(8 * time.Second)
		if s := b.pod().Status.ContainerStatuses[0]; *s.Started || s.Ready || s.RestartCount > 0 {
			t.Errorf("status is %+v", s)
		}
		code.Store(0)
		pass(4 * time.Second)
		if s := b.pod().Status.ContainerStatuses[0]; !*s.Started || !s.Ready {
			t.Errorf("status is %+v", s)
		}
	})
}

func TestActiveDeadline(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		seconds := int64(60)
		b.create(webPod(func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = &seconds }))
		pass(59 * time.Second)
		if got := b.pod().Status.Phase; got != corev1.PodRunning {
			t.Fatalf("phase is %s", got)
		}
		pass(3 * time.Second)
		s := b.pod().Status
		if s.Phase != corev1.PodFailed || s.Reason != "DeadlineExceeded" || s.Message != "Pod was active on the node longer than the specified deadline" {
			t.Errorf("status is %+v", s)
		}
	})
}

func TestUnsupportedFieldIsRefused(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		b.create(webPod(func(p *corev1.Pod) { p.Spec.ResourceClaims = make([]corev1.PodResourceClaim, 1) }))
		pass(time.Second)
		b.wantCalls()
		s := b.pod().Status
		if w := s.ContainerStatuses[0].State.Waiting; s.Phase != corev1.PodPending || w == nil || w.Reason != "UnsupportedField" {
			t.Errorf("status is %+v", s)
		}
		b.wantEvent("UnsupportedField spec.resourceClaims: not implemented by this node")
		b.delete(30)
		pass(time.Second)
		if !b.podGone() {
			t.Error("a refused Pod cannot be deleted")
		}
	})
}

func TestHooks(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		b.create(webPod(func(p *corev1.Pod) {
			p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{
				PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"hello"}}},
				PreStop:   &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 5}},
			}
		}))
		pass(time.Second)
		b.wantCalls("create c/0", "start c/0", "exec c/0 [hello]")
		b.delete(30)
		pass(4 * time.Second)
		b.wantCalls()
		pass(2 * time.Second)
		b.wantCalls("kill c/0 15", "remove c/0")
	})
}

func TestFailedPostStartHookKills(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		b.runtime.execs = func(string, []string) (int, string) { return 1, "" }
		b.create(webPod(func(p *corev1.Pod) {
			p.Spec.RestartPolicy = corev1.RestartPolicyNever
			p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{
				PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"hello"}}},
			}
		}))
		pass(time.Second)
		b.wantEvent("FailedPostStartHook PostStartHook failed")
		if got := b.pod().Status.Phase; got != corev1.PodFailed {
			t.Errorf("phase is %s", got)
		}
	})
}

func TestStartErrorIsReported(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		b.runtime.startErr = errors.New("exec /bin/app: no such file")
		b.create(webPod())
		pass(5 * time.Second)
		s := b.pod().Status.ContainerStatuses[0]
		if s.State.Waiting == nil || s.State.Waiting.Reason != "CrashLoopBackOff" ||
			s.LastTerminationState.Terminated.Reason != "StartError" || s.LastTerminationState.Terminated.ExitCode != 128 {
			t.Errorf("status is %+v", s)
		}
		b.wantEvent("Failed Error: exec /bin/app: no such file")
	})
}

func TestMissingConfigMapIsToldAndWaitedFor(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		b.create(webPod(func(p *corev1.Pod) {
			p.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}}}
		}))
		pass(time.Second)
		w := b.pod().Status.ContainerStatuses[0].State.Waiting
		if w == nil || w.Reason != "CreateContainerConfigError" || w.Message != `configmap "settings" not found` {
			t.Errorf("waits for %+v", w)
		}
		b.wantEvent(`Failed Error: configmap "settings" not found`)
		cm := &corev1.ConfigMap{Data: map[string]string{"COLOUR": "blue"}}
		cm.Namespace, cm.Name = "default", "settings"
		pass(time.Hour) // by now the retries are minutes apart
		if err := b.client.Tracker().Add(cm); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		if env := strings.Join(b.runtime.spec("c").Env, " "); !strings.Contains(env, "COLOUR=blue") {
			t.Errorf("environment is %q", env)
		}
	})
}

func TestStopSignals(t *testing.T) {
	for text, want := range map[string]int{"": 15, "SIGINT": 2, "QUIT": 3, "9": 9, "SIGRTMIN+3": 37, "nonsense": 15} {
		if got := signalNumber(text); got != want {
			t.Errorf("signalNumber(%q) is %d, want %d", text, got, want)
		}
	}
}
