package kind

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestSetPodCondition(t *testing.T) {
	early, late := metav1.Unix(1, 0), metav1.NewTime(time.Unix(2, 0))
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Generation: 1}}
	set := func(status corev1.ConditionStatus, reason string, now metav1.Time) corev1.PodCondition {
		SetPodCondition(pod, corev1.PodCondition{Type: corev1.PodReady, Status: status, Reason: reason}, now)
		return pod.Status.Conditions[0]
	}
	if c := set(corev1.ConditionFalse, "a", early); !c.LastTransitionTime.Equal(&early) || c.ObservedGeneration != 1 {
		t.Errorf("new: %+v", c)
	}
	pod.Generation = 2
	if c := set(corev1.ConditionFalse, "b", late); !c.LastTransitionTime.Equal(&early) || c.Reason != "b" || c.ObservedGeneration != 2 {
		t.Errorf("the same status: %+v", c)
	}
	if c := set(corev1.ConditionTrue, "", late); !c.LastTransitionTime.Equal(&late) || len(pod.Status.Conditions) != 1 {
		t.Errorf("another status: %+v", c)
	}
}

func TestTolerates(t *testing.T) {
	taint := &corev1.Taint{Key: "k", Value: "v", Effect: corev1.TaintEffectNoExecute}
	for _, c := range []struct {
		toleration corev1.Toleration
		want       bool
	}{
		{corev1.Toleration{Operator: corev1.TolerationOpExists}, true},
		{corev1.Toleration{Key: "k", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}, true},
		{corev1.Toleration{Key: "k", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}, false},
		{corev1.Toleration{Key: "k", Value: "v"}, true},
		{corev1.Toleration{Key: "k", Value: "w"}, false},
		{corev1.Toleration{Key: "l", Operator: corev1.TolerationOpExists}, false},
	} {
		if got := Tolerates(&c.toleration, taint); got != c.want {
			t.Errorf("%+v: %v, want %v", c.toleration, got, c.want)
		}
	}
}
