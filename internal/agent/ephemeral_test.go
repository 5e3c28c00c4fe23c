package agent

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// debugWith adds an ephemeral container to the Pod.
func (b *bench) debugWith(name, target string, change ...func(*corev1.EphemeralContainer)) {
	b.Helper()
	e := corev1.EphemeralContainer{TargetContainerName: target}
	e.Name, e.Image, e.ImagePullPolicy = name, "debug:1", corev1.PullIfNotPresent
	for _, fn := range change {
		fn(&e)
	}
	pod := b.pod()
	pod.Spec.EphemeralContainers = append(pod.Spec.EphemeralContainers, e)
	if _, err := b.client.CoreV1().Pods("default").Update(context.Background(), pod, metav1.UpdateOptions{}); err != nil {
		b.Fatal(err)
	}
	synctest.Wait()
}

func TestEphemeralContainers(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		b.create(webPod())
		pass(time.Second)
		b.runtime.taken()
		b.debugWith("b", "c")
		b.debugWith("a", "")
		pass(time.Second)
		b.wantCalls("create b/0", "start b/0", "create a/0", "start a/0")
		if got := b.runtime.spec("b").Pod.PIDNS; got != "/proc/4711/ns/pid" {
			t.Errorf("the process namespace is %q, not its target's", got)
		}
		if got := b.runtime.spec("a").Pod.PIDNS; got != "" {
			t.Errorf("the process namespace is %q without a target", got)
		}
		// How they end means nothing, and they do not start again.
		b.runtime.exit(t, "b", 3)
		pass(time.Second)
		b.runtime.taken()
		b.stop()
		b.start()
		pass(10 * time.Minute)
		b.wantCalls()
		pod := b.pod()
		if got := condition(pod, corev1.PodReady); pod.Status.Phase != corev1.PodRunning || got != "True  " {
			t.Errorf("the Pod is %s, Ready %s", pod.Status.Phase, got)
		}
		var got []string
		for _, s := range pod.Status.EphemeralContainerStatuses {
			state := "running"
			if s.State.Terminated != nil {
				state = s.State.Terminated.Reason
			}
			if s.Ready || s.Started != nil || s.RestartCount != 0 || !strings.HasPrefix(s.ContainerID, "containerd://") {
				t.Errorf("status is %+v", s)
			}
			got = append(got, s.Name+" "+state)
		}
		if want := "a running, b Error"; strings.Join(got, ", ") != want {
			t.Errorf("statuses are %q, want %s", got, want)
		}
		b.delete(30)
		pass(time.Second)
		if calls := strings.Join(b.runtime.taken(), ", "); !b.podGone() || !strings.Contains(calls, "kill a/0 15") || !strings.Contains(calls, "remove b/0") {
			t.Errorf("the end of the Pod made the calls %s", calls)
		}
	})
}

func TestEphemeralContainerOfAPodThatDoesNotStart(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		b.create(webPod(func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "init", Image: "hello:1", ImagePullPolicy: corev1.PullIfNotPresent}}
		}))
		pass(time.Second)
		b.runtime.taken()
		b.debugWith("d", "c")
		pass(time.Second)
		b.wantCalls()
		s := b.pod().Status.EphemeralContainerStatuses[0]
		if w := s.State.Waiting; w == nil || w.Reason != "CreateContainerConfigError" || w.Message != "unable to find target container c" {
			t.Errorf("state is %+v", s.State)
		}
		b.debugWith("e", "init")
		pass(time.Second)
		b.wantCalls("create e/0", "start e/0")
		b.runtime.exit(t, "init", 0)
		pass(time.Minute)
		if calls := strings.Join(b.runtime.taken(), ", "); !strings.Contains(calls, "create d/0") {
			t.Errorf("once the target runs came the calls %s", calls)
		}
	})
}

func TestUnsupportedEphemeralContainer(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		b.create(webPod())
		pass(time.Second)
		b.runtime.taken()
		b.debugWith("d", "", func(e *corev1.EphemeralContainer) {
			e.VolumeDevices = []corev1.VolumeDevice{{Name: "x", DevicePath: "/dev/x"}}
		})
		pass(time.Minute)
		b.wantCalls()
		const why = "spec.ephemeralContainers[0](d).volumeDevices: not implemented by this node"
		if w := b.pod().Status.EphemeralContainerStatuses[0].State.Waiting; w == nil || w.Reason != reasonUnsupported || w.Message != why {
			t.Errorf("state is %+v", w)
		}
		b.wantEvent("UnsupportedField " + why)
	})
}
