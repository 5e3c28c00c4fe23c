package deployment

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// progressOf returns the condition Progressing that a look at a Deployment comes
// to, and when the next look is due.
func progressOf(d *appsv1.Deployment, sets ...*appsv1.ReplicaSet) (string, time.Duration) {
	s, again := newRollout(d, sets, now).finalStatus()
	c := condition(s.Conditions, appsv1.DeploymentProgressing)
	if c == nil {
		return "none", again
	}
	return fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message), again
}

// was gives the Deployment a condition Progressing of some time ago and the
// counts of its last status.
func was(d *appsv1.Deployment, reason string, ago time.Duration, updated, available int32) *appsv1.Deployment {
	status := corev1.ConditionTrue
	if reason == deadlineExceeded {
		status = corev1.ConditionFalse
	}
	at := metav1.NewTime(now.Add(-ago))
	d.Status.Conditions = []appsv1.DeploymentCondition{{
		Type: appsv1.DeploymentProgressing, Status: status, Reason: reason, LastUpdateTime: at, LastTransitionTime: at,
	}}
	d.Status.Replicas, d.Status.UpdatedReplicas = 3, updated
	d.Status.AvailableReplicas, d.Status.ReadyReplicas = available, available
	return d
}

func TestProgress(t *testing.T) {
	three := func() *appsv1.Deployment { return rolls(3, "1", "0") }
	paused := three()
	paused.Spec.Paused = true
	endless := was(three(), "ReplicaSetUpdated", time.Hour, 1, 1)
	endless.Spec.ProgressDeadlineSeconds = new(int32(math.MaxInt32))
	for _, c := range []struct {
		name  string
		d     *appsv1.Deployment
		sets  []*appsv1.ReplicaSet
		want  string
		again time.Duration
	}{
		{"complete", was(three(), "ReplicaSetUpdated", time.Minute, 2, 2), []*appsv1.ReplicaSet{replicaSet("new", 1, 3, 3)},
			`True NewReplicaSetAvailable: ReplicaSet "new-1" has successfully progressed.`, 0},
		{"further on", was(three(), "NewReplicaSetCreated", time.Hour, 1, 1), []*appsv1.ReplicaSet{replicaSet("old", 0, 1, 1), replicaSet("new", 1, 2, 1)},
			`True ReplicaSetUpdated: ReplicaSet "new-1" is progressing.`, 10 * time.Minute},
		{"as before", was(three(), "ReplicaSetUpdated", time.Minute, 1, 1), []*appsv1.ReplicaSet{replicaSet("old", 0, 2, 0), replicaSet("new", 1, 1, 1)},
			`True ReplicaSetUpdated: `, 9 * time.Minute},
		{"too long as before", was(three(), "ReplicaSetUpdated", 10*time.Minute, 1, 1), []*appsv1.ReplicaSet{replicaSet("old", 0, 2, 0), replicaSet("new", 1, 1, 1)},
			`False ProgressDeadlineExceeded: ReplicaSet "new-1" has timed out progressing.`, 0},
		{"too long and still so", was(three(), deadlineExceeded, time.Second, 1, 1), []*appsv1.ReplicaSet{replicaSet("old", 0, 2, 0), replicaSet("new", 1, 1, 1)},
			`False ProgressDeadlineExceeded: `, 0},
		{"too long and then further on", was(three(), deadlineExceeded, time.Second, 1, 1), []*appsv1.ReplicaSet{replicaSet("old", 0, 1, 1), replicaSet("new", 1, 2, 2)},
			`True ReplicaSetUpdated: ReplicaSet "new-1" is progressing.`, 10 * time.Minute},
		{"lost Pods after it was complete", was(three(), newSetAvailable, time.Hour, 3, 3), []*appsv1.ReplicaSet{replicaSet("new", 1, 3, 1)},
			`True NewReplicaSetAvailable: `, 0},
		{"paused", paused, []*appsv1.ReplicaSet{replicaSet("new", 1, 3, 3)}, `Unknown DeploymentPaused: Deployment is paused`, 0},
		{"resumed", was(three(), "DeploymentPaused", time.Hour, 1, 1), []*appsv1.ReplicaSet{replicaSet("new", 1, 3, 1)}, `Unknown DeploymentResumed: Deployment is resumed`, 0},
		{"no deadline", endless, []*appsv1.ReplicaSet{replicaSet("new", 1, 3, 1)}, "none", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, again := progressOf(c.d, c.sets...)
			if got != c.want && !(strings.HasSuffix(c.want, ": ") && strings.HasPrefix(got, c.want)) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if again != c.again {
				t.Errorf("again after %v, want %v", again, c.again)
			}
		})
	}
}

func TestStatus(t *testing.T) {
	d := rolls(4, "1", "25%")
	d.Generation = 7
	failing := replicaSet("old", 0, 2, 1)
	failing.Status.TerminatingReplicas = new(int32(2))
	failing.Status.Conditions = []appsv1.ReplicaSetCondition{{Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate", Message: "no"}}
	s, _ := newRollout(d, []*appsv1.ReplicaSet{failing, replicaSet("new", 1, 2, 2)}, now).finalStatus()
	got := fmt.Sprint(s.ObservedGeneration, s.Replicas, s.UpdatedReplicas, s.ReadyReplicas, s.AvailableReplicas, s.UnavailableReplicas, *s.TerminatingReplicas)
	if got != "7 4 2 3 3 1 2" {
		t.Errorf("status %s", got)
	}
	if c := condition(s.Conditions, appsv1.DeploymentReplicaFailure); c == nil || c.Reason != "FailedCreate" || c.Message != "no" {
		t.Errorf("failure %+v", c)
	}
	for _, a := range []struct {
		available int32
		want      string
	}{
		{3, "True MinimumReplicasAvailable: Deployment has minimum availability."},
		{2, "False MinimumReplicasUnavailable: Deployment does not have minimum availability."},
	} {
		s, _ := newRollout(d, []*appsv1.ReplicaSet{replicaSet("new", 1, 4, a.available)}, now).finalStatus()
		c := condition(s.Conditions, appsv1.DeploymentAvailable)
		if got := fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message); got != a.want {
			t.Errorf("%d available: %s", a.available, got)
		}
	}
}
