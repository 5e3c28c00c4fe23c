package tainteviction

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func TestDeadline(t *testing.T) {
	const forever = -1
	tolerates := func(key string, seconds int64) corev1.Toleration {
		t := corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}
		if seconds != forever {
			t.TolerationSeconds = &seconds
		}
		return t
	}
	all := corev1.Toleration{Operator: corev1.TolerationOpExists}
	for _, c := range []struct {
		name        string
		taints      []string
		tolerations []corev1.Toleration
		after       time.Duration
		never       bool
	}{
		{"no taints", nil, nil, 0, true},
		{"not tolerated", []string{"a"}, nil, 0, false},
		{"one of two is not tolerated", []string{"a", "b"}, []corev1.Toleration{tolerates("a", 60)}, 0, false},
		{"for a while", []string{"a"}, []corev1.Toleration{tolerates("a", 300)}, 300 * time.Second, false},
		{"for the shorter while", []string{"a", "b"}, []corev1.Toleration{tolerates("a", 300), tolerates("b", 60)}, 60 * time.Second, false},
		{"for ever", []string{"a"}, []corev1.Toleration{tolerates("a", forever)}, 0, true},
		{"one for ever, one for a while", []string{"a", "b"}, []corev1.Toleration{tolerates("a", forever), tolerates("b", 60)}, 60 * time.Second, false},
		{"twice, once for a while", []string{"a"}, []corev1.Toleration{tolerates("a", forever), tolerates("a", 60)}, 60 * time.Second, false},
		{"all for ever", []string{"a", "b"}, []corev1.Toleration{all}, 0, true},
		{"for no time", []string{"a"}, []corev1.Toleration{tolerates("a", 0)}, 0, false},
		{"for less than no time", []string{"a"}, []corev1.Toleration{tolerates("a", -5)}, 0, false},
		{"another effect", []string{"a"}, []corev1.Toleration{{Key: "a", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}}, 0, false},
		{"by value", []string{"a"}, []corev1.Toleration{{Key: "a", Value: "v"}}, 0, true},
		{"by another value", []string{"a"}, []corev1.Toleration{{Key: "a", Value: "w"}}, 0, false},
	} {
		var taints []corev1.Taint
		for _, key := range c.taints {
			taints = append(taints, corev1.Taint{Key: key, Value: "v", Effect: corev1.TaintEffectNoExecute})
		}
		after, never := deadline(&corev1.Pod{Spec: corev1.PodSpec{Tolerations: c.tolerations}}, taints)
		if never != c.never || !never && after != c.after {
			t.Errorf("%s: after %v, never %t", c.name, after, never)
		}
	}
}
