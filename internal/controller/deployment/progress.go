package deployment

import (
	"context"
	"fmt"
	"math"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/skiff-sh/skiff/internal/kind"
)

const (
	newSetAvailable  = "NewReplicaSetAvailable"
	deadlineExceeded = "ProgressDeadlineExceeded"
)

func condition(list []appsv1.DeploymentCondition, t appsv1.DeploymentConditionType) *appsv1.DeploymentCondition {
	for i := range list {
		if list[i].Type == t {
			return &list[i]
		}
	}
	return nil
}

// set returns the list with the condition in it. One that says the same as
// before stays; one of the same status keeps its time of transition.
func set(list []appsv1.DeploymentCondition, c appsv1.DeploymentCondition) []appsv1.DeploymentCondition {
	old := condition(list, c.Type)
	if old != nil && old.Status == c.Status && old.Reason == c.Reason {
		return list
	}
	if old != nil && old.Status == c.Status {
		c.LastTransitionTime = old.LastTransitionTime
	}
	return append(remove(list, c.Type), c)
}

func remove(list []appsv1.DeploymentCondition, t appsv1.DeploymentConditionType) []appsv1.DeploymentCondition {
	var rest []appsv1.DeploymentCondition
	for _, c := range list {
		if c.Type != t {
			rest = append(rest, c)
		}
	}
	return rest
}

func (ro *rollout) condition(t appsv1.DeploymentConditionType, s corev1.ConditionStatus, reason, format string, args ...any) appsv1.DeploymentCondition {
	now := kind.Timestamp(ro.now)
	return appsv1.DeploymentCondition{
		Type: t, Status: s, Reason: reason, Message: fmt.Sprintf(format, args...),
		LastUpdateTime: now, LastTransitionTime: now,
	}
}

// add notes a condition for the status that this look will write.
func (ro *rollout) add(t appsv1.DeploymentConditionType, s corev1.ConditionStatus, reason, format string, args ...any) {
	ro.conditions = append(ro.conditions, ro.condition(t, s, reason, format, args...))
}

// status counts what the ReplicaSets say.
func (ro *rollout) status() appsv1.DeploymentStatus {
	s := appsv1.DeploymentStatus{
		ObservedGeneration: ro.d.Generation,
		CollisionCount:     ro.collisionCount,
		AvailableReplicas:  available(ro.all()),
		Conditions:         ro.d.Status.Conditions,
	}
	terminating := int32(0)
	for _, rs := range ro.all() {
		s.Replicas += rs.Status.Replicas
		s.ReadyReplicas += rs.Status.ReadyReplicas
		if rs.Status.TerminatingReplicas != nil {
			terminating += *rs.Status.TerminatingReplicas
		}
	}
	s.TerminatingReplicas = &terminating
	if ro.new != nil {
		s.UpdatedReplicas = ro.new.Status.Replicas
	}
	s.UnavailableReplicas = max(0, wanted(ro.all())-s.AvailableReplicas)
	return s
}

// complete says whether all that is wanted is there, new, and available.
func complete(d *appsv1.Deployment, s appsv1.DeploymentStatus) bool {
	want := *d.Spec.Replicas
	return s.UpdatedReplicas == want && s.Replicas == want && s.AvailableReplicas == want && s.ObservedGeneration >= d.Generation
}

// progressed says whether s is further on than the status before.
func progressed(before, s appsv1.DeploymentStatus) bool {
	return s.UpdatedReplicas > before.UpdatedReplicas ||
		s.Replicas-s.UpdatedReplicas < before.Replicas-before.UpdatedReplicas ||
		s.ReadyReplicas > before.ReadyReplicas || s.AvailableReplicas > before.AvailableReplicas
}

// finalStatus is the status with all its conditions, and how long until the
// progress deadline must be looked at (0: never).
func (ro *rollout) finalStatus() (appsv1.DeploymentStatus, time.Duration) {
	s := ro.status()
	for _, c := range ro.conditions {
		s.Conditions = set(s.Conditions, c)
	}
	if s.AvailableReplicas >= *ro.d.Spec.Replicas-ro.maxUnavailable() {
		s.Conditions = set(s.Conditions, ro.condition(appsv1.DeploymentAvailable, corev1.ConditionTrue,
			"MinimumReplicasAvailable", "Deployment has minimum availability."))
	} else {
		s.Conditions = set(s.Conditions, ro.condition(appsv1.DeploymentAvailable, corev1.ConditionFalse,
			"MinimumReplicasUnavailable", "Deployment does not have minimum availability."))
	}
	if ro.d.DeletionTimestamp != nil {
		return s, 0
	}
	again := ro.progress(&s)
	s.Conditions = ro.failure(s.Conditions)
	return s, again
}

// subject names what progresses in messages.
func (ro *rollout) subject() string {
	if ro.new != nil {
		return fmt.Sprintf("ReplicaSet %q", ro.new.Name)
	}
	return fmt.Sprintf("Deployment %q", ro.d.Name)
}

// progress sets the condition Progressing.
func (ro *rollout) progress(s *appsv1.DeploymentStatus) time.Duration {
	if ro.d.Spec.ProgressDeadlineSeconds == nil || *ro.d.Spec.ProgressDeadlineSeconds == math.MaxInt32 {
		s.Conditions = remove(s.Conditions, appsv1.DeploymentProgressing)
		return 0
	}
	current := condition(s.Conditions, appsv1.DeploymentProgressing)
	if ro.d.Spec.Paused || ro.resumed(current) {
		ro.pause(s, current)
		return 0
	}
	if ro.scaling() || s.Replicas == s.UpdatedReplicas && current != nil && current.Reason == newSetAvailable {
		return 0
	}
	switch {
	case complete(ro.d, *s):
		s.Conditions = set(s.Conditions, ro.condition(appsv1.DeploymentProgressing, corev1.ConditionTrue,
			newSetAvailable, "%s has successfully progressed.", ro.subject()))
		return 0
	case progressed(ro.d.Status, *s):
		c := ro.condition(appsv1.DeploymentProgressing, corev1.ConditionTrue, "ReplicaSetUpdated", "%s is progressing.", ro.subject())
		if current != nil && current.Status == corev1.ConditionTrue {
			c.LastTransitionTime = current.LastTransitionTime
		}
		s.Conditions = append(remove(s.Conditions, appsv1.DeploymentProgressing), c)
	case ro.timedOut(current):
		s.Conditions = set(s.Conditions, ro.condition(appsv1.DeploymentProgressing, corev1.ConditionFalse,
			deadlineExceeded, "%s has timed out progressing.", ro.subject()))
		return 0
	}
	return ro.untilDeadline(condition(s.Conditions, appsv1.DeploymentProgressing))
}

func (ro *rollout) resumed(current *appsv1.DeploymentCondition) bool {
	return !ro.d.Spec.Paused && current != nil && current.Reason == "DeploymentPaused"
}

// pause tells that the rollout stands still, or goes on again, so that the
// deadline does not count the pause.
func (ro *rollout) pause(s *appsv1.DeploymentStatus, current *appsv1.DeploymentCondition) {
	switch {
	case current != nil && current.Reason == deadlineExceeded:
	case ro.d.Spec.Paused:
		s.Conditions = set(s.Conditions, ro.condition(appsv1.DeploymentProgressing, corev1.ConditionUnknown,
			"DeploymentPaused", "Deployment is paused"))
	default:
		s.Conditions = set(s.Conditions, ro.condition(appsv1.DeploymentProgressing, corev1.ConditionUnknown,
			"DeploymentResumed", "Deployment is resumed"))
	}
}

func (ro *rollout) deadline(c *appsv1.DeploymentCondition) time.Time {
	return c.LastUpdateTime.Add(time.Duration(*ro.d.Spec.ProgressDeadlineSeconds) * time.Second)
}

func (ro *rollout) timedOut(current *appsv1.DeploymentCondition) bool {
	switch {
	case current == nil || current.Reason == newSetAvailable:
		return false
	case current.Reason == deadlineExceeded:
		return true
	}
	return !ro.now.Before(ro.deadline(current))
}

func (ro *rollout) untilDeadline(c *appsv1.DeploymentCondition) time.Duration {
	if c == nil || c.Reason == deadlineExceeded {
		return 0
	}
	return max(time.Second, ro.deadline(c).Sub(ro.now))
}

// failure carries over what the ReplicaSets could not do.
func (ro *rollout) failure(list []appsv1.DeploymentCondition) []appsv1.DeploymentCondition {
	sets := ro.old
	if ro.new != nil {
		sets = append([]*appsv1.ReplicaSet{ro.new}, ro.old...)
	}
	for _, rs := range sets {
		for _, c := range rs.Status.Conditions {
			if c.Type == appsv1.ReplicaSetReplicaFailure {
				return set(list, appsv1.DeploymentCondition{
					Type: appsv1.DeploymentReplicaFailure, Status: c.Status, Reason: c.Reason, Message: c.Message,
					LastUpdateTime: c.LastTransitionTime, LastTransitionTime: c.LastTransitionTime,
				})
			}
		}
	}
	return remove(list, appsv1.DeploymentReplicaFailure)
}

// writeStatus writes the status if it changed.
func (r reconciler) writeStatus(ctx context.Context, ro *rollout) (time.Duration, error) {
	s, again := ro.finalStatus()
	if equality.Semantic.DeepEqual(s, ro.d.Status) {
		return again, nil
	}
	_, err := r.env.API.Modify(ctx, r.request(kind.Deployment, ro.d.Namespace, ro.d.Name, "status"), func(obj kind.Object) error {
		if live := obj.(*appsv1.Deployment); live.UID == ro.d.UID {
			live.Status = s
		}
		return nil
	})
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	return again, err
}
