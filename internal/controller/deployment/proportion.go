package deployment

import (
	"cmp"
	"math"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
)

// The annotations by which a ReplicaSet remembers the size its Deployment had.
const (
	desiredReplicas = "deployment.kubernetes.io/desired-replicas"
	maxReplicas     = "deployment.kubernetes.io/max-replicas"
)

func setReplicasAnnotations(rs *appsv1.ReplicaSet, desired, most int32) {
	if rs.Annotations == nil {
		rs.Annotations = map[string]string{}
	}
	rs.Annotations[desiredReplicas] = strconv.Itoa(int(desired))
	rs.Annotations[maxReplicas] = strconv.Itoa(int(most))
}

func annotated(rs *appsv1.ReplicaSet, key string) (int32, bool) {
	n, err := strconv.ParseInt(rs.Annotations[key], 10, 32)
	return int32(n), err == nil
}

// scaling says whether the Deployment was scaled since its ReplicaSets were.
func (ro *rollout) scaling() bool {
	return slices.ContainsFunc(active(ro.all()), func(rs *appsv1.ReplicaSet) bool {
		n, ok := annotated(rs, desiredReplicas)
		return ok && n != *ro.d.Spec.Replicas
	})
}

// proportional spreads a change of the Deployment's size over its ReplicaSets
// by their sizes, so that a rollout under way keeps its shape.
func (ro *rollout) proportional() []scale {
	want := *ro.d.Spec.Replicas
	if rs := ro.onlyOne(); rs != nil {
		return ro.changed([]scale{{rs, want}})
	}
	if ro.saturated() {
		var steps []scale
		for _, rs := range active(ro.old) {
			steps = append(steps, scale{rs, 0})
		}
		return steps
	}
	if !ro.rolling() {
		return nil
	}
	sets := active(ro.all())
	allowed := int32(0)
	if want > 0 {
		allowed = want + ro.maxSurge()
	}
	toAdd := allowed - wanted(sets)
	slices.SortFunc(sets, func(a, b *appsv1.ReplicaSet) int {
		byAge := older(a, b) // scaling down begins with the oldest
		if toAdd > 0 {
			byAge = -byAge
		}
		return cmp.Or(cmp.Compare(*b.Spec.Replicas, *a.Spec.Replicas), byAge)
	})
	return ro.changed(ro.spread(sets, toAdd))
}

// onlyOne returns the one ReplicaSet that a new size concerns: the only active
// one, or the latest where none is.
func (ro *rollout) onlyOne() *appsv1.ReplicaSet {
	switch sets := active(ro.all()); len(sets) {
	case 0:
		if ro.new != nil {
			return ro.new
		}
		if len(ro.old) > 0 {
			return ro.old[len(ro.old)-1]
		}
		return nil
	case 1:
		return sets[0]
	}
	return nil
}

// saturated says whether the new ReplicaSet alone is all the Deployment wants.
func (ro *rollout) saturated() bool {
	if ro.new == nil {
		return false
	}
	n, ok := annotated(ro.new, desiredReplicas)
	want := *ro.d.Spec.Replicas
	return ok && n == want && *ro.new.Spec.Replicas == want && ro.new.Status.AvailableReplicas == want
}

func (ro *rollout) spread(sets []*appsv1.ReplicaSet, toAdd int32) []scale {
	steps := make([]scale, len(sets))
	added := int32(0)
	for i, rs := range sets {
		n := ro.share(rs, toAdd, added)
		added += n
		steps[i] = scale{rs, *rs.Spec.Replicas + n}
	}
	if len(steps) > 0 { // what rounding left goes to the largest
		steps[0].replicas = max(0, steps[0].replicas+toAdd-added)
	}
	return steps
}

// share is how much of toAdd falls to one ReplicaSet, not more than is left.
func (ro *rollout) share(rs *appsv1.ReplicaSet, toAdd, added int32) int32 {
	have := *rs.Spec.Replicas
	if have == 0 || toAdd == added {
		return 0
	}
	fraction := -have
	if *ro.d.Spec.Replicas > 0 {
		before, ok := annotated(rs, maxReplicas)
		if !ok || before == 0 {
			before = max(1, ro.d.Status.Replicas)
		}
		after := float64(have) * float64(*ro.d.Spec.Replicas+ro.maxSurge()) / float64(before)
		fraction = int32(math.Round(after)) - have
	}
	if toAdd > 0 {
		return min(fraction, toAdd-added)
	}
	return max(fraction, toAdd-added)
}

// changed returns the steps that change replicas or what is remembered of them.
func (ro *rollout) changed(steps []scale) []scale {
	return slices.DeleteFunc(steps, func(s scale) bool {
		desired, ok := annotated(s.rs, desiredReplicas)
		most, okMost := annotated(s.rs, maxReplicas)
		return s.replicas == *s.rs.Spec.Replicas && ok && okMost &&
			desired == *ro.d.Spec.Replicas && most == *ro.d.Spec.Replicas+ro.maxSurge()
	})
}
