package agent

import (
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// A process gets two seconds between its signal and SIGKILL, even where the deletion
// leaves one and a preStop hook takes that.
func TestLeastGrace(t *testing.T) {
	tests := map[string]func(*corev1.Pod){
		"of one second": func(*corev1.Pod) {},
		"used by a preStop hook": func(p *corev1.Pod) {
			p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 1}}}
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.runtime.onSignal = func(string, int) bool { return false }
				b.start()
				defer func() { b.stop() }()
				pod := webPod(change)
				b.create(pod)
				pass(time.Second)
				b.runtime.taken()
				b.delete(1)
				if pod.Spec.Containers[0].Lifecycle != nil {
					pass(time.Second)
				}
				pass(1900 * time.Millisecond)
				b.wantCalls("kill c/0 15")
				pass(200 * time.Millisecond)
				b.wantCalls("kill c/0 9", "remove c/0")
			})
		})
	}
}

func TestOwnGrace(t *testing.T) {
	for want, spec := range map[int64]*int64{2: nil, 0: new(int64(0)), 7: new(int64(7))} {
		if got := ownGrace(&corev1.Pod{Spec: corev1.PodSpec{TerminationGracePeriodSeconds: spec}}); got != want {
			t.Errorf("got %d, want %d", got, want)
		}
	}
}
