package node

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/skiff-sh/skiff/e2e/await"
	"github.com/skiff-sh/skiff/e2e/box"
)

func TestCrashLoopBacksOff(t *testing.T) {
	c := shared(t)
	c.create(pod("crash", "echo attempt; exit 3"))
	waiting := func(restarts int32) func(*corev1.Pod) bool {
		return func(p *corev1.Pod) bool {
			s := mainStatus(p)
			return s.RestartCount >= restarts && s.State.Waiting != nil && s.State.Waiting.Reason == "CrashLoopBackOff"
		}
	}
	p := c.awaitPod("crash", waiting(1))
	s := mainStatus(p)
	c.mustContain(s.State.Waiting.Message, "back-off 10s restarting failed container=main pod=crash_"+c.namespace)
	if ended := s.LastTerminationState.Terminated; ended == nil || ended.ExitCode != 3 || ended.Reason != "Error" {
		t.Errorf("last state %+v, want exit code 3 with reason Error", s.LastTerminationState)
	}
	first := s.LastTerminationState.Terminated.FinishedAt
	c.awaitEvent("crash", "BackOff", "Back-off restarting failed container main in pod crash_"+c.namespace)

	p = c.awaitPod("crash", waiting(2))
	s = mainStatus(p)
	c.mustContain(s.State.Waiting.Message, "back-off 20s")
	if pause := s.LastTerminationState.Terminated.StartedAt.Sub(first.Time); pause < 9*time.Second || pause > 15*time.Second {
		t.Errorf("restarted after %v, want 10s", pause)
	}
	if p.Status.Phase != corev1.PodRunning || podReady(p) {
		t.Errorf("phase %s, ready %t", p.Status.Phase, podReady(p))
	}
	c.mustContain(c.kubectl("get", "pod", "crash"), "CrashLoopBackOff", "0/1")
	c.mustContain(c.kubectl("logs", "crash", "--previous"), "attempt")
}

func TestLivenessRestarts(t *testing.T) {
	c := shared(t)
	p := pod("web", "")
	p.Spec.Containers[0].LivenessProbe = &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/ok", Port: intstr.FromInt32(8080)}},
		PeriodSeconds: 1, FailureThreshold: 2, InitialDelaySeconds: 1,
	}
	id := mainStatus(c.startPod(p)).ContainerID
	c.exec("web", "touch /tmp/broken")
	restarted := c.awaitPod("web", func(p *corev1.Pod) bool { return mainStatus(p).RestartCount == 1 && podReady(p) })
	if mainStatus(restarted).ContainerID == id {
		t.Error("restarted with the same container ID")
	}
	c.awaitEvent("web", "Unhealthy", "Liveness probe failed: HTTP probe failed with statuscode: 500")
	c.awaitEvent("web", "Killing", "Container main failed liveness probe, will be restarted")
}

func TestReadinessGatesEndpoints(t *testing.T) {
	c := shared(t)
	p := pod("web", "")
	p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/ready", Port: intstr.FromInt32(8080)}},
		PeriodSeconds: 1, FailureThreshold: 1,
	}
	c.create(p)
	c.kubectl("expose", "pod", "web", "--port=80", "--target-port=8080")
	c.awaitEvent("web", "Unhealthy", "Readiness probe failed")
	if p := c.awaitPod("web", func(p *corev1.Pod) bool { return mainStatus(p).State.Running != nil }); podReady(p) {
		t.Error("Ready before the probe succeeded")
	}
	url := "http://" + c.service("web").Spec.ClusterIP
	if body, err := page(c.httpClient(), url); err == nil {
		t.Errorf("a Service answers %q with no Pod ready", body)
	}
	c.exec("web", "touch /tmp/ready")
	c.awaitPod("web", podReady)
	c.mustContain(c.awaitPage(url), "web")
	c.exec("web", "rm /tmp/ready")
	c.awaitPod("web", func(p *corev1.Pod) bool { return !podReady(p) })
	c.retry(func() error {
		if body, err := page(c.httpClient(), url); err == nil {
			return fmt.Errorf("a Service answers %q with its Pod not ready any more", body)
		}
		return nil
	})
}

func TestExecAndTCPProbes(t *testing.T) {
	c := shared(t)
	p := pod("web", "")
	main := &p.Spec.Containers[0]
	main.StartupProbe = &corev1.Probe{
		ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(8080)}}, PeriodSeconds: 1,
	}
	main.ReadinessProbe = &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"sh", "-c", "echo not yet; test -e /tmp/go"}}},
		PeriodSeconds: 1,
	}
	c.create(p)
	started := c.awaitPod("web", func(p *corev1.Pod) bool { s := mainStatus(p).Started; return s != nil && *s })
	if podReady(started) {
		t.Error("Ready before the probe succeeded")
	}
	c.awaitEvent("web", "Unhealthy", "Readiness probe failed: not yet")
	c.exec("web", "touch /tmp/go")
	c.awaitPod("web", podReady)
}

func TestInitContainersRunInOrder(t *testing.T) {
	c := shared(t)
	p := once("ordered", "cat /shared/log")
	p.Spec.Volumes = []corev1.Volume{{Name: "shared", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	mounts := []corev1.VolumeMount{{Name: "shared", MountPath: "/shared"}}
	p.Spec.Containers[0].VolumeMounts = mounts
	for _, name := range []string{"one", "two"} {
		p.Spec.InitContainers = append(p.Spec.InitContainers, corev1.Container{
			Name: name, Image: box.Image, VolumeMounts: mounts,
			Command: []string{"sh", "-c", "echo " + name + " >>/shared/log; sleep 0.2; echo done >>/shared/log"},
		})
	}
	p, log := c.finish(p)
	if log != "one\ndone\ntwo\ndone\n" {
		t.Errorf("order %q", log)
	}
	if p.Status.Phase != corev1.PodSucceeded || podCondition(p, corev1.PodInitialized) != corev1.ConditionTrue {
		t.Errorf("status %s", await.Show(p))
	}

	bad := once("bad", "echo never")
	bad.Spec.InitContainers = []corev1.Container{{Name: "init", Image: box.Image, Command: []string{"sh", "-c", "exit 7"}}}
	c.create(bad)
	c.awaitPod("bad", podEnded)
	bad = c.awaitPod("bad", func(p *corev1.Pod) bool {
		return podCondition(p, corev1.PodReadyToStartContainers) == corev1.ConditionFalse
	})
	if bad.Status.Phase != corev1.PodFailed || bad.Status.InitContainerStatuses[0].State.Terminated.ExitCode != 7 || mainStatus(bad).State.Waiting == nil {
		t.Errorf("status %s", await.Show(bad))
	}
	c.mustContain(c.kubectl("get", "pod", "bad"), "Init:Error")
}

func TestSidecarStartsFirstAndEndsLast(t *testing.T) {
	c := shared(t)
	always := corev1.ContainerRestartPolicyAlways
	p := once("main", "box get http://127.0.0.1:8080")
	p.Spec.InitContainers = []corev1.Container{{
		Name: "sidecar", Image: box.Image, RestartPolicy: &always,
		StartupProbe: &corev1.Probe{
			ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(8080)}}, PeriodSeconds: 1,
		},
	}}
	p, log := c.finish(p)
	if p.Status.Phase != corev1.PodSucceeded || log != "main 127.0.0.1" {
		t.Errorf("phase %s, log %q", p.Status.Phase, log)
	}
}

func TestRestartPolicies(t *testing.T) {
	c := shared(t)
	p, _ := c.finish(once("good", "exit 0"))
	if s := mainStatus(p).State.Terminated; p.Status.Phase != corev1.PodSucceeded || s.ExitCode != 0 || s.Reason != "Completed" {
		t.Errorf("never, exit 0: %s", await.Show(p))
	}
	p, _ = c.finish(once("bad", "exit 42"))
	if s := mainStatus(p).State.Terminated; p.Status.Phase != corev1.PodFailed || s.ExitCode != 42 || s.Reason != "Error" {
		t.Errorf("never, exit 42: %s", await.Show(p))
	}
	p, _ = c.finish(once("killed", "kill -9 $$; sleep 5")) // process 1 is deaf to its own signals
	if p.Status.Phase != corev1.PodSucceeded {
		t.Errorf("process 1 killed itself: %s", await.Show(p))
	}

	retried := pod("retried", "test -e /shared/second && exit 0; touch /shared/second; exit 1")
	retried.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
	retried.Spec.Volumes = []corev1.Volume{{Name: "shared", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	retried.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "shared", MountPath: "/shared"}}
	p, _ = c.finish(retried)
	if p.Status.Phase != corev1.PodSucceeded || mainStatus(p).RestartCount != 1 {
		t.Errorf("on failure: %s", await.Show(p))
	}
}

func TestTerminationMessages(t *testing.T) {
	c := shared(t)
	p, _ := c.finish(once("file", "echo why >/dev/termination-log; exit 1"))
	if got := mainStatus(p).State.Terminated.Message; got != "why\n" {
		t.Errorf("from the file: %q", got)
	}
	p = once("log", "echo last words; exit 1")
	p.Spec.Containers[0].TerminationMessagePolicy = corev1.TerminationMessageFallbackToLogsOnError
	p, _ = c.finish(p)
	if got := mainStatus(p).State.Terminated.Message; got != "last words\n" {
		t.Errorf("from the log: %q", got)
	}
	p = once("missing", "")
	p.Spec.Containers[0].Command = []string{"/no/such/program"}
	c.create(p)
	p = c.awaitPod("missing", podEnded)
	if s := mainStatus(p).State.Terminated; s.ExitCode != 128 || s.Reason != "StartError" || !strings.Contains(s.Message, "/no/such/program") {
		t.Errorf("missing program: %+v", s)
	}
}

func TestGracefulTermination(t *testing.T) {
	c := shared(t)
	p := pod("polite", `trap 'echo asked; sleep 1; echo bye; exit 0' TERM; echo up; while true; do sleep 0.1; done`)
	grace := int64(20)
	p.Spec.TerminationGracePeriodSeconds = &grace
	p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{
		Exec: &corev1.ExecAction{Command: []string{"sh", "-c", "echo pre-stop >/proc/1/fd/1; sleep 1"}},
	}}
	c.startPod(p)
	c.awaitLog("polite", "up")
	follow := c.follow("logs", "-f", "polite")
	begin := time.Now()
	c.kubectl("delete", "pod", "polite")
	if took := time.Since(begin); took < 2*time.Second || took > 20*time.Second {
		t.Errorf("deletion took %v, want the hook's and the handler's 2 s, not the 20 s that it may take", took)
	}
	if log := follow.rest(); log != "up\npre-stop\nasked\nbye\n" {
		t.Errorf("log %q", log)
	}

	t.Log("a deaf one is killed when its time is up")
	deaf := pod("deaf", "trap '' TERM; while true; do sleep 0.1; done")
	grace = 2
	deaf.Spec.TerminationGracePeriodSeconds = &grace
	c.startPod(deaf)
	begin = time.Now()
	c.kubectl("delete", "pod", "deaf")
	if took := time.Since(begin); took < 2*time.Second || took > 30*time.Second {
		t.Errorf("deletion took %v, want 2 s, not as long as others are given", took)
	}

	t.Log("the request's grace period counts")
	deaf.ResourceVersion, grace = "", 60
	c.startPod(deaf)
	begin = time.Now()
	c.kubectl("delete", "pod", "deaf", "--grace-period=1")
	if took := time.Since(begin); took > 50*time.Second {
		t.Errorf("deletion took %v, want 1 s, not the Pod's own 60", took)
	}

	deaf.ResourceVersion = ""
	c.startPod(deaf)
	begin = time.Now()
	c.kubectl("delete", "pod", "deaf", "--force", "--grace-period=0")
	if took := time.Since(begin); took > 50*time.Second {
		t.Errorf("forced deletion took %v", took)
	}
}

func TestActiveDeadline(t *testing.T) {
	c := shared(t)
	p := once("slow", "trap exit TERM; while true; do sleep 0.1; done")
	seconds := int64(2)
	p.Spec.ActiveDeadlineSeconds = &seconds
	c.create(p)
	p = c.awaitPod("slow", podEnded)
	if p.Status.Phase != corev1.PodFailed || p.Status.Reason != "DeadlineExceeded" {
		t.Errorf("status %s", await.Show(p))
	}
}

func TestUnsupportedFieldIsRefused(t *testing.T) {
	c := shared(t)
	p := pod("odd", "sleep 100")
	p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{ISCSI: &corev1.ISCSIVolumeSource{TargetPortal: "192.0.2.9:3260", IQN: "iqn.2026-01.org.example:disk"}}}}
	c.create(p)
	p = c.awaitPod("odd", func(p *corev1.Pod) bool { return mainStatus(p).State.Waiting != nil && p.Status.Reason != "" })
	c.mustContain(p.Status.Message, "spec.volumes[0](v).iscsi")
	e := c.awaitEvent("odd", p.Status.Reason, "spec.volumes[0](v).iscsi")
	if p.Status.Phase != corev1.PodPending || e.Type != corev1.EventTypeWarning {
		t.Errorf("phase %s, event %+v", p.Status.Phase, e)
	}
	c.mustContain(c.kubectl("get", "pod", "odd"), "UnsupportedField")
}

// TestSignalsAreDefault has it that no signal is ignored where a container starts: a
// shell could not trap it, and Python would not be interrupted.
func TestSignalsAreDefault(t *testing.T) {
	c := shared(t)
	c.startPod(pod("box", ""))
	for _, process := range []string{"1", "self"} {
		line := c.kubectl("exec", "box", "--", "grep", "SigIgn", "/proc/"+process+"/status")
		// Above these are the C library's own.
		if ignored, err := strconv.ParseUint(strings.TrimSpace(strings.TrimPrefix(line, "SigIgn:")), 16, 64); err != nil || ignored&(1<<31-1) != 0 {
			t.Errorf("process %s: %q", process, line)
		}
	}
}
