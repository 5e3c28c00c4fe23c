package replicaset

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/skiff-sh/skiff/internal/kind"
)

// burst bounds what one reconciliation creates or deletes.
const burst = 500

// Plan is what is to be done for a ReplicaSet.
type Plan struct {
	Adopt   []*corev1.Pod // orphans that match the selector
	Release []*corev1.Pod // owned, but matching no more
	Create  int
	Delete  []*corev1.Pod
	Status  appsv1.ReplicaSetStatus // without conditions
	Again   time.Duration           // until a Pod becomes available, 0 if none will
}

// plan returns what is to be done for a ReplicaSet. pods are those of its
// namespace, of which those count that it controls, or that match its selector
// and nothing controls; matches is its selector; crowd says how many Pods of it
// and its siblings are on a node.
func plan(rs *appsv1.ReplicaSet, pods []*corev1.Pod, matches labels.Selector, crowd func(node string) int, now time.Time) Plan {
	var p Plan
	var owned []*corev1.Pod
	for _, pod := range pods {
		ref := metav1.GetControllerOfNoCopy(pod)
		if ref != nil && ref.UID != rs.UID {
			continue
		}
		fits := matches.Matches(labels.Set(pod.Labels))
		switch {
		case ref == nil:
			if fits && rs.DeletionTimestamp == nil && pod.DeletionTimestamp == nil {
				p.Adopt = append(p.Adopt, pod)
				owned = append(owned, pod)
			}
		case !fits && rs.DeletionTimestamp == nil:
			p.Release = append(p.Release, pod)
		default:
			owned = append(owned, pod)
		}
	}
	active := slices.DeleteFunc(slices.Clone(owned), func(pod *corev1.Pod) bool { return !isActive(pod) })
	if rs.DeletionTimestamp == nil {
		p.scale(rs, active, crowd, now)
	}
	p.status(rs, owned, active, now)
	return p
}

func (p *Plan) scale(rs *appsv1.ReplicaSet, active []*corev1.Pod, crowd func(string) int, now time.Time) {
	switch diff := int(*rs.Spec.Replicas) - len(active); {
	case diff > 0:
		p.Create = min(diff, burst)
	case diff < 0:
		p.Delete = victims(active, min(-diff, burst), crowd, now)
	}
}

func (p *Plan) status(rs *appsv1.ReplicaSet, owned, active []*corev1.Pod, now time.Time) {
	template := labels.SelectorFromSet(rs.Spec.Template.Labels)
	s := appsv1.ReplicaSetStatus{Replicas: int32(len(active)), ObservedGeneration: rs.Generation}
	terminating := int32(0)
	for _, pod := range owned {
		if pod.DeletionTimestamp != nil && !kind.PodFinished(pod) {
			terminating++
		}
	}
	s.TerminatingReplicas = &terminating
	for _, pod := range active {
		if template.Matches(labels.Set(pod.Labels)) {
			s.FullyLabeledReplicas++
		}
		since, ready := readySince(pod)
		if !ready {
			continue
		}
		s.ReadyReplicas++
		rest := since.Add(time.Duration(rs.Spec.MinReadySeconds) * time.Second).Sub(now)
		if rest <= 0 || rs.Spec.MinReadySeconds == 0 {
			s.AvailableReplicas++
		} else if p.Again == 0 || rest < p.Again {
			p.Again = rest
		}
	}
	p.Status = s
}

func isActive(pod *corev1.Pod) bool { return !kind.PodFinished(pod) && pod.DeletionTimestamp == nil }

func readySince(pod *corev1.Pod) (time.Time, bool) {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.LastTransitionTime.Time, c.Status == corev1.ConditionTrue
		}
	}
	return time.Time{}, false
}

// victims returns the n Pods that are missed least, by upstream's order: not
// yet on a node, not running, not ready, cheap to delete (KEP-2255), with many
// others on their node, ready for a shorter time (by orders of magnitude,
// KEP-2185), restarted more often, younger.
func victims(pods []*corev1.Pod, n int, crowd func(node string) int, now time.Time) []*corev1.Pod {
	if n >= len(pods) {
		return pods
	}
	onNode := map[string]int{}
	for _, pod := range pods {
		if _, known := onNode[pod.Spec.NodeName]; !known {
			onNode[pod.Spec.NodeName] = crowd(pod.Spec.NodeName)
		}
	}
	sorted := slices.Clone(pods)
	slices.SortStableFunc(sorted, func(a, b *corev1.Pod) int {
		aSince, aReady := readySince(a)
		bSince, bReady := readySince(b)
		if !aReady || !bReady {
			aSince, bSince = time.Time{}, time.Time{}
		}
		return cmp.Or(
			last(a.Spec.NodeName != "", b.Spec.NodeName != ""),
			cmp.Compare(phaseRank(a), phaseRank(b)),
			last(aReady, bReady),
			cmp.Compare(deletionCost(a), deletionCost(b)),
			-cmp.Compare(onNode[a.Spec.NodeName], onNode[b.Spec.NodeName]),
			younger(a, b, aSince, bSince, now),
			-cmp.Compare(restarts(a), restarts(b)),
			younger(a, b, a.CreationTimestamp.Time, b.CreationTimestamp.Time, now),
		)
	})
	return sorted[:n]
}

// younger orders by time, the later first, 0 for equal times. Those of one order
// of magnitude are told apart by their UIDs, which is as good as at random.
func younger(a, b *corev1.Pod, aTime, bTime, now time.Time) int {
	if aTime.Equal(bTime) {
		return 0
	}
	if aTime.IsZero() || bTime.IsZero() {
		return last(!aTime.IsZero(), !bTime.IsZero()) // what has no time is as young as can be
	}
	return cmp.Or(cmp.Compare(magnitude(now.Sub(aTime)), magnitude(now.Sub(bTime))), cmp.Compare(a.UID, b.UID))
}

// last orders what holds behind what does not.
func last(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

func phaseRank(pod *corev1.Pod) int {
	switch pod.Status.Phase {
	case corev1.PodUnknown:
		return 1
	case corev1.PodRunning:
		return 2
	default:
		return 0
	}
}

func deletionCost(pod *corev1.Pod) int64 {
	n, err := strconv.ParseInt(pod.Annotations[corev1.PodDeletionCost], 10, 32)
	if err != nil {
		return 0
	}
	return n
}

func magnitude(d time.Duration) int {
	if d <= 0 {
		return -1
	}
	return int(math.Log2(float64(d.Nanoseconds())))
}

func restarts(pod *corev1.Pod) int32 {
	most := int32(0)
	for _, s := range pod.Status.ContainerStatuses {
		most = max(most, s.RestartCount)
	}
	return most
}
