package agent

import (
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ktesting "k8s.io/client-go/testing"
)

// What a Pod waits for may come after it was found missing and before the
// attempt is over: nobody tells of it again.
func TestObjectThatComesDuringAFailingAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		once := true
		b.network.onAttach = func() {
			time.Sleep(10 * time.Millisecond) // the volumes have failed by now
			if once {
				cm := &corev1.ConfigMap{Data: map[string]string{"k": "v"}}
				cm.Namespace, cm.Name = "default", "late"
				if err := b.client.Tracker().Add(cm); err != nil {
					t.Error(err)
				}
			}
			once = false
			time.Sleep(10 * time.Millisecond)
		}
		b.start()
		defer func() { b.stop() }()
		b.create(webPod(func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: "late"}}}}}
		}))
		pass(100 * time.Millisecond)
		b.wantCalls("create c/0", "start c/0")
	})
}

// Clocks of small machines are wrong until a network tells them the time.
func TestBackOffAfterTheClockWasSetBack(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		b.create(webPod())
		pass(time.Second)
		b.runtime.exit(t, "c", 1)
		pass(time.Second)
		b.runtime.taken()
		b.runtime.ahead = 24 * time.Hour
		b.runtime.exit(t, "c", 1)
		pass(9 * time.Second)
		b.wantCalls()
		pass(2 * time.Second)
		b.wantCalls("remove c/1", "create c/2", "start c/2")
	})
}

func TestFormerTerminationMessagesGo(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		b.create(webPod())
		for range 4 {
			pass(time.Hour)
			b.runtime.exit(t, "c", 1)
		}
		pass(time.Hour)
		entries, err := os.ReadDir(filepath.Dir(b.agent.terminationFile(string(webPod().UID), "c", 0)))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		if want := []string{"3", "4"}; !slices.Equal(names, want) {
			t.Errorf("files %q, expected %q", names, want)
		}
	})
}

// The grace period is the Pod's: sidecars, which go last, get what is left.
func TestSidecarsShareTheGracePeriod(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		b.runtime.onSignal = func(string, int) bool { return false }
		b.create(webPod(func(p *corev1.Pod) {
			initPod(p)
			p.Spec.InitContainers = p.Spec.InitContainers[1:2]
		}))
		pass(time.Second)
		b.runtime.taken()
		b.delete(30)
		pass(29 * time.Second)
		b.wantCalls("kill c/0 15")
		pass(3 * time.Second)
		if calls := b.runtime.taken(); len(calls) < 3 || !slices.Equal(calls[:3], []string{"kill c/0 9", "kill side/0 15", "kill side/0 9"}) {
			t.Errorf("after the grace period came %q", calls)
		}
		if !b.podGone() {
			t.Error("the Pod is still there")
		}
	})
}

// A panic in one step must not leave the worker locked: whoever holds all
// workers' lock would wait for it, and the whole node with them.
func TestPanicLeavesNothingLocked(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		b.create(webPod())
		w := b.agent.workerOf("default", "web")
		func() {
			defer func() { _ = recover() }()
			w.change("c", func(*record) { panic("test") })
		}()
		if !w.mu.TryLock() {
			t.Fatal("the worker is locked")
		}
		w.mu.Unlock()
	})
}

// Another image in the Pod means that what runs is replaced at once, whatever
// the restart policy and however often it crashed.
func TestChangedImageReplacesTheContainer(t *testing.T) {
	for _, policy := range []corev1.RestartPolicy{corev1.RestartPolicyAlways, corev1.RestartPolicyNever} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			b.start()
			defer func() { b.stop() }()
			b.create(webPod(func(p *corev1.Pod) { p.Spec.RestartPolicy = policy }))
			pass(time.Second)
			b.runtime.taken()
			pod := b.pod()
			pod.Spec.Containers[0].Image = "hello:2"
			if _, err := b.client.CoreV1().Pods("default").Update(t.Context(), pod, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			pass(time.Second)
			b.wantCalls("kill c/0 15", "remove c/0", "create c/1", "start c/1")
			b.wantEvent("Killing Container c definition changed, will be restarted")
			if s := b.pod().Status; s.Phase != corev1.PodRunning || s.ContainerStatuses[0].Image != "hello:2" || s.ContainerStatuses[0].RestartCount != 1 {
				t.Errorf("%s: status is %+v", policy, s)
			}
			// The one that runs now is subject to the policy, and known to the next agent.
			b.stop()
			b.start()
			pass(time.Second)
			b.wantCalls()
			b.runtime.exit(t, "c", 1)
			pass(time.Second)
			want := corev1.PodRunning
			if policy == corev1.RestartPolicyNever {
				want = corev1.PodFailed
			}
			if got := b.pod().Status.Phase; got != want {
				t.Errorf("%s: after its end the phase is %s, want %s", policy, got, want)
			}
		})
	}
}

// A replacement that starts at once is no news of readiness; one that cannot is.
func TestReplacementIsNotReportedAsUnready(t *testing.T) {
	for _, absent := range []error{nil, errors.New("no such host")} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			b.images.absent["hello:2"] = absent
			b.start()
			defer func() { b.stop() }()
			b.create(webPod())
			pass(time.Second)
			b.client.ClearActions()
			pod := b.pod()
			pod.Spec.Containers[0].Image = "hello:2"
			if _, err := b.client.CoreV1().Pods("default").Update(t.Context(), pod, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			unready := 0
			for _, a := range b.client.Actions() {
				if p, is := a.(ktesting.PatchAction); is && strings.Contains(string(p.GetPatch()), `"status":"False"`) {
					unready++
				}
			}
			if (unready > 0) != (absent != nil) {
				t.Errorf("with %v the Pod was reported unready %d times", absent, unready)
			}
			if got := b.pod().Status.ContainerStatuses[0]; absent == nil && (!got.Ready || got.RestartCount != 1) {
				t.Errorf("status is %+v", got)
			}
		})
	}
}

// A gap that lasts is told after a moment.
func TestHeld(t *testing.T) {
	now := time.Now()
	old := &run{ContainerState: ContainerState{Phase: ContainerExited}, Replaced: true, SeenEnd: now.Add(-400 * time.Millisecond)}
	next := &run{ContainerState: ContainerState{Phase: ContainerRunning}}
	for _, c := range []struct {
		name   string
		record record
		want   time.Duration
	}{
		{"nothing was replaced", record{Current: next, Started: true}, 0},
		{"the old has ended", record{Current: old}, 600 * time.Millisecond},
		{"the next is not up", record{Current: next, Last: old}, 600 * time.Millisecond},
		{"the next is up", record{Current: next, Last: old, Started: true}, 0},
		{"the next cannot start", record{Current: old, Wait: corev1.ContainerStateWaiting{Reason: "ErrImagePull"}}, 0},
	} {
		v := view{Pod: webPod(), Now: now, Records: map[string]record{"c": c.record}}
		want := time.Time{}
		if c.want != 0 {
			want = now.Add(c.want)
		}
		if got := v.held(); !got.Equal(want) {
			t.Errorf("%s: held until %v, want %v", c.name, got, want)
		}
		v.Now = now.Add(2 * replacement)
		if got := v.held(); !got.IsZero() {
			t.Errorf("%s: much later held until %v", c.name, got)
		}
	}
}

// A grace period that gets shorter holds for a preStop hook that runs, too.
func TestShorterGracePeriodHurriesPreStop(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		b.create(webPod(func(p *corev1.Pod) {
			p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 200}}}
		}))
		pass(time.Second)
		b.delete(300)
		pass(10 * time.Second)
		b.delete(1)
		pass(2 * time.Second)
		if !b.podGone() {
			t.Error("the Pod waits for its hook")
		}
		b.wantEvent("FailedPreStopHook PreStopHook failed")
	})
}

func TestLogOptionsThatAreWrong(t *testing.T) {
	for _, query := range []string{"tailLines=x", "tailLines=x&sinceTime=2026-01-01T00:00:00Z", "sinceTime=x", "follow=x", "limitBytes=0", "stream=x"} {
		if _, _, err := logOptions(httptest.NewRequest("GET", "/?"+query, nil), time.Now()); err == nil {
			t.Errorf("%s: expected an error", query)
		}
	}
}

// Probes and the ends of containers run beside the worker's step: a panic there
// must not end the process either.
func TestPanicsBesideAStepAreRecovered(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		b.runtime.execs = func(string, []string) (int, string) { panic("test") }
		b.create(webPod(func(p *corev1.Pod) {
			p.Spec.Containers[0].ReadinessProbe = probeExec(1, 1)
			p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"x"}}}}
		}))
		pass(2 * time.Second)
		b.delete(5)
		pass(10 * time.Second)
		if !b.podGone() {
			t.Error("the Pod is still there")
		}
		if got := b.agent.panics.Swap(0); got != 2 {
			t.Errorf("%d panics were counted, want 2", got)
		}
	})
}

// The end of a Pod's only container is the Pod's, which must not undo a start that
// has happened.
func TestEndBeforeTheStartIsAnswered(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		b.runtime.endsFirst = true
		pod := webPod()
		pod.Spec.RestartPolicy = corev1.RestartPolicyNever
		b.create(pod)
		pass(5 * time.Second)
		s := b.pod().Status
		if e := s.ContainerStatuses[0].State.Terminated; s.Phase != corev1.PodSucceeded || e == nil || e.Reason != "Completed" || e.ExitCode != 0 {
			t.Errorf("status is %+v", s)
		}
		b.wantEvent("Started Container started")
	})
}
