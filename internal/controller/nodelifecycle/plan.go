package nodelifecycle

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// silent returns the node's conditions as they are told when it has not been
// heard of: unknown, with the time of the last word.
func silent(node *corev1.Node, now metav1.Time) []corev1.NodeCondition {
	conditions := slices.Clone(node.Status.Conditions)
	for _, t := range []corev1.NodeConditionType{
		corev1.NodeReady, corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure,
	} {
		i := slices.IndexFunc(conditions, func(c corev1.NodeCondition) bool { return c.Type == t })
		switch {
		case i < 0:
			conditions = append(conditions, corev1.NodeCondition{
				Type: t, Status: corev1.ConditionUnknown,
				Reason: "NodeStatusNeverUpdated", Message: "Kubelet never posted node status.",
				LastHeartbeatTime: node.CreationTimestamp, LastTransitionTime: now,
			})
		case conditions[i].Status != corev1.ConditionUnknown:
			conditions[i].Status = corev1.ConditionUnknown
			conditions[i].Reason = "NodeStatusUnknown"
			conditions[i].Message = "Kubelet stopped posting node status."
			conditions[i].LastTransitionTime = now
		}
	}
	return conditions
}

func status(node *corev1.Node, t corev1.NodeConditionType) corev1.ConditionStatus {
	for _, c := range node.Status.Conditions {
		if c.Type == t {
			return c.Status
		}
	}
	return corev1.ConditionUnknown
}

// byCondition are the taints that follow a condition, as upstream's.
var byCondition = []struct {
	condition corev1.NodeConditionType
	status    corev1.ConditionStatus
	key       string
	effects   []corev1.TaintEffect
}{
	{corev1.NodeReady, corev1.ConditionFalse, corev1.TaintNodeNotReady, []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute}},
	{corev1.NodeReady, corev1.ConditionUnknown, corev1.TaintNodeUnreachable, []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute}},
	{corev1.NodeMemoryPressure, corev1.ConditionTrue, corev1.TaintNodeMemoryPressure, []corev1.TaintEffect{corev1.TaintEffectNoSchedule}},
	{corev1.NodeDiskPressure, corev1.ConditionTrue, corev1.TaintNodeDiskPressure, []corev1.TaintEffect{corev1.TaintEffectNoSchedule}},
	{corev1.NodePIDPressure, corev1.ConditionTrue, corev1.TaintNodePIDPressure, []corev1.TaintEffect{corev1.TaintEffectNoSchedule}},
	{corev1.NodeNetworkUnavailable, corev1.ConditionTrue, corev1.TaintNodeNetworkUnavailable, []corev1.TaintEffect{corev1.TaintEffectNoSchedule}},
}

// taints returns the taints that the node's conditions and its cordon ask for,
// and all others as they are. A taint that stays keeps its time. Those that
// drive Pods away are there only with evict.
func taints(node *corev1.Node, evict bool, now metav1.Time) []corev1.Taint {
	var list []corev1.Taint
	for _, t := range node.Spec.Taints {
		if !ours(t) {
			list = append(list, t)
		}
	}
	add := func(key string, effect corev1.TaintEffect) {
		t := corev1.Taint{Key: key, Effect: effect, TimeAdded: &now}
		for _, old := range node.Spec.Taints {
			if old.MatchTaint(&t) {
				list = append(list, old)
				return
			}
		}
		list = append(list, t)
	}
	for _, rule := range byCondition {
		has := slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == rule.condition })
		if has && status(node, rule.condition) == rule.status {
			for _, effect := range rule.effects {
				if effect == corev1.TaintEffectNoExecute && !evict {
					continue
				}
				add(rule.key, effect)
			}
		}
	}
	if !slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == corev1.NodeReady }) {
		add(corev1.TaintNodeNotReady, corev1.TaintEffectNoSchedule)
	}
	if node.Spec.Unschedulable {
		add(corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule)
	}
	return list
}

func ours(t corev1.Taint) bool {
	if t.Key == corev1.TaintNodeUnschedulable {
		return t.Effect == corev1.TaintEffectNoSchedule
	}
	for _, rule := range byCondition {
		if t.Key == rule.key && slices.Contains(rule.effects, t.Effect) {
			return true
		}
	}
	return false
}

// heartbeat is the last word of a node: whichever of its Lease and its status
// is younger is told by the node's own clock, so only a change means anything.
type heartbeat struct {
	renewed, posted time.Time
	seen            time.Time    // when this server saw it change
	node            *corev1.Node // as it was last
}

// hear returns the heartbeat after a look at a node and its renewal.
func (h heartbeat) hear(renewed, posted, now time.Time) heartbeat {
	if h.seen.IsZero() || !renewed.Equal(h.renewed) || !posted.Equal(h.posted) {
		return heartbeat{renewed: renewed, posted: posted, seen: now}
	}
	return h
}
