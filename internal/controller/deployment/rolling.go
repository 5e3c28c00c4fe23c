package deployment

import (
	"cmp"
	"math"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// rollout is one look at a Deployment and the ReplicaSets it controls.
type rollout struct {
	d   *appsv1.Deployment
	new *appsv1.ReplicaSet   // of the current template, nil before it is made
	old []*appsv1.ReplicaSet // all others, oldest first
	now time.Time
	// conditions are those that this look adds to the Deployment's.
	conditions     []appsv1.DeploymentCondition
	collisionCount *int32
}

func newRollout(d *appsv1.Deployment, sets []*appsv1.ReplicaSet, now time.Time) *rollout {
	ro := &rollout{d: d, now: now, collisionCount: d.Status.CollisionCount}
	sets = slices.Clone(sets)
	slices.SortFunc(sets, older)
	for _, rs := range sets {
		if ro.new == nil && sameTemplate(rs, d) {
			ro.new = rs
			continue
		}
		ro.old = append(ro.old, rs)
	}
	return ro
}

func older(a, b *appsv1.ReplicaSet) int {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
}

// sameTemplate compares templates as they are but for the hash label.
func sameTemplate(rs *appsv1.ReplicaSet, d *appsv1.Deployment) bool {
	a, b := rs.Spec.Template.DeepCopy(), d.Spec.Template.DeepCopy()
	delete(a.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
	delete(b.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
	return equality.Semantic.DeepEqual(a, b)
}

// all returns every ReplicaSet, the new one last.
func (ro *rollout) all() []*appsv1.ReplicaSet {
	if ro.new == nil {
		return ro.old
	}
	return append(slices.Clone(ro.old), ro.new)
}

// replace puts a changed ReplicaSet in its place.
func (ro *rollout) replace(rs *appsv1.ReplicaSet) {
	if ro.new != nil && ro.new.UID == rs.UID {
		ro.new = rs
		return
	}
	for i := range ro.old {
		if ro.old[i].UID == rs.UID {
			ro.old[i] = rs
		}
	}
}

// active returns those that want Pods.
func active(sets []*appsv1.ReplicaSet) []*appsv1.ReplicaSet {
	var list []*appsv1.ReplicaSet
	for _, rs := range sets {
		if *rs.Spec.Replicas > 0 {
			list = append(list, rs)
		}
	}
	return list
}

func wanted(sets []*appsv1.ReplicaSet) int32 {
	n := int32(0)
	for _, rs := range sets {
		n += *rs.Spec.Replicas
	}
	return n
}

// present counts what is wanted, and what is still there though it is not. Upstream
// counts the former alone, and so has more Pods than it should for a moment.
func present(sets []*appsv1.ReplicaSet) int32 {
	n := int32(0)
	for _, rs := range sets {
		n += max(*rs.Spec.Replicas, rs.Status.Replicas)
	}
	return n
}

// available counts what the ReplicaSets' statuses say.
func available(sets []*appsv1.ReplicaSet) int32 {
	n := int32(0)
	for _, rs := range sets {
		n += rs.Status.AvailableReplicas
	}
	return n
}

// lasting counts the available Pods that will be so when every ReplicaSet has
// what it wants: a status may still tell of Pods that are to go.
func lasting(sets []*appsv1.ReplicaSet) int32 {
	n := int32(0)
	for _, rs := range sets {
		n += min(*rs.Spec.Replicas, rs.Status.AvailableReplicas)
	}
	return n
}

func (ro *rollout) rolling() bool {
	return ro.d.Spec.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType && ro.d.Spec.Strategy.RollingUpdate != nil
}

// fenceposts resolves surge (rounded up) and unavailability (rounded down) to
// numbers; both zero would allow no step at all, so that one may be missing.
func (ro *rollout) fenceposts() (surge, unavailable int32) {
	u := ro.d.Spec.Strategy.RollingUpdate
	s := resolve(u.MaxSurge, *ro.d.Spec.Replicas, true)
	m := resolve(u.MaxUnavailable, *ro.d.Spec.Replicas, false)
	if s == 0 && m == 0 {
		m = 1
	}
	return s, m
}

func resolve(v *intstr.IntOrString, total int32, up bool) int32 {
	if v == nil {
		return 0
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(v, int(total), up)
	if err != nil || n < 0 { // validation has refused it
		return 0
	}
	return int32(min(n, math.MaxInt32))
}

func (ro *rollout) maxSurge() int32 {
	if !ro.rolling() {
		return 0
	}
	surge, _ := ro.fenceposts()
	return surge
}

func (ro *rollout) maxUnavailable() int32 {
	if !ro.rolling() || *ro.d.Spec.Replicas == 0 {
		return 0
	}
	_, unavailable := ro.fenceposts()
	return min(unavailable, *ro.d.Spec.Replicas)
}

// newReplicas is how many the new ReplicaSet may have now.
func (ro *rollout) newReplicas() int32 {
	want := *ro.d.Spec.Replicas
	if !ro.rolling() {
		return want
	}
	have := int32(0)
	if ro.new != nil {
		have = *ro.new.Spec.Replicas
	}
	room := want + ro.maxSurge() - present(ro.all())
	if room <= 0 {
		return have
	}
	return have + min(room, want-have)
}

// scaleNew is the next step of the new ReplicaSet.
func (ro *rollout) scaleNew() []scale {
	have, want := *ro.new.Spec.Replicas, *ro.d.Spec.Replicas
	if have < want {
		want = ro.newReplicas()
	}
	if have == want {
		return nil
	}
	return []scale{{ro.new, want}}
}

// scaleOld is the next step of the old ones: first what is not available
// anyway, then as many as may be missing.
func (ro *rollout) scaleOld() []scale {
	old := active(ro.old)
	least := *ro.d.Spec.Replicas - ro.maxUnavailable()
	notYet := *ro.new.Spec.Replicas - lasting([]*appsv1.ReplicaSet{ro.new})
	room := wanted(ro.all()) - least - notYet
	if len(old) == 0 || room <= 0 {
		return nil
	}
	steps := make([]scale, len(old))
	for i, rs := range old {
		unhealthy := min(room, max(0, *rs.Spec.Replicas-rs.Status.AvailableReplicas))
		room -= unhealthy
		steps[i] = scale{rs, *rs.Spec.Replicas - unhealthy}
	}
	spare := lasting(ro.all()) - least
	for i := range steps {
		n := min(max(0, spare), steps[i].replicas)
		steps[i].replicas -= n
		spare -= n
	}
	return slices.DeleteFunc(steps, func(s scale) bool { return s.replicas == *s.rs.Spec.Replicas })
}
