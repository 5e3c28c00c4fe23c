package agent

import (
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// statusWrites counts how often Pods' statuses were written.
func (b *bench) statusWrites() (n int) {
	for _, a := range b.client.Actions() {
		if a.GetVerb() == "patch" && a.GetResource().Resource == "pods" && a.GetSubresource() == "status" {
			n++
		}
	}
	return n
}

func TestAPodThatStartsAtOnceIsToldOfOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.start()
		defer func() { b.stop() }()
		b.create(webPod())
		pass(time.Second)
		if n := b.statusWrites(); n != 1 || b.pod().Status.Phase != corev1.PodRunning {
			t.Errorf("%d writes of the status %+v: expected 1", n, b.pod().Status)
		}
	})
}

func TestAPodThatStartsSlowlyIsToldOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.start()
		defer func() { b.stop() }()
		b.create(webPod(func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{
				ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "absent"}},
			}}}
		}))
		pass(prospectPatience / 2)
		if n := b.statusWrites(); n != 0 {
			t.Errorf("%d writes at once: expected none yet", n)
		}
		pass(prospectPatience)
		s := b.pod().Status
		if n := b.statusWrites(); n != 1 || s.StartTime == nil || s.ContainerStatuses[0].State.Waiting.Reason != "ContainerCreating" {
			t.Errorf("%d writes of %+v: expected what it waits for, once", n, s)
		}
	})
}

func TestProspect(t *testing.T) {
	waits := func(reason string, restarts int32) corev1.PodStatus {
		return corev1.PodStatus{Phase: corev1.PodPending, ContainerStatuses: []corev1.ContainerStatus{
			{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}, RestartCount: restarts},
		}}
	}
	for name, test := range map[string]struct {
		status corev1.PodStatus
		want   bool
	}{
		"nothing was told yet":  {corev1.PodStatus{}, true},
		"its containers come":   {waits("ContainerCreating", 0), true},
		"others come first":     {waits("PodInitializing", 0), true},
		"an image does not":     {waits("ErrImagePull", 0), false},
		"it came once":          {waits("ContainerCreating", 1), false},
		"it runs":               {corev1.PodStatus{Phase: corev1.PodRunning}, false},
		"it is ended":           {corev1.PodStatus{Phase: corev1.PodPending, Reason: "Evicted"}, false},
		"an init container ran": {corev1.PodStatus{Phase: corev1.PodPending, InitContainerStatuses: []corev1.ContainerStatus{{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}}, false},
	} {
		if got := prospect(test.status); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}
