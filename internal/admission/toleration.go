package admission

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/kind"
)

// tolerationSeconds is how long a Pod stays on a node that went away unless it
// says otherwise.
const tolerationSeconds = 300

// defaultTolerations lets Pods stay for a while on a node that is not ready or
// not reachable.
func defaultTolerations() Step {
	return Step{
		Name: "DefaultTolerationSeconds",
		Mutate: func(_ context.Context, r *Request) error {
			if r.Operation == Delete || !r.is(kind.Pod, "") {
				return nil
			}
			pod := r.Object.(*corev1.Pod)
			for _, taint := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
				if tolerates(pod.Spec.Tolerations, taint) {
					continue
				}
				seconds := int64(tolerationSeconds)
				pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{
					Key: taint, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds,
				})
			}
			return nil
		},
	}
}

// tolerates reports whether a Pod itself says how it takes a NoExecute taint.
func tolerates(tolerations []corev1.Toleration, taint string) bool {
	for _, t := range tolerations {
		if (t.Key == taint || t.Key == "") && (t.Effect == corev1.TaintEffectNoExecute || t.Effect == "") {
			return true
		}
	}
	return false
}

// taintNewNodes keeps Pods off a node until its controller has seen that it is
// ready.
func taintNewNodes() Step {
	return Step{
		Name: "TaintNodesByCondition",
		Mutate: func(_ context.Context, r *Request) error {
			if r.Operation != Create || !r.is(kind.Node, "") {
				return nil
			}
			node := r.Object.(*corev1.Node)
			for _, t := range node.Spec.Taints {
				if t.Key == corev1.TaintNodeNotReady && t.Effect == corev1.TaintEffectNoSchedule {
					return nil
				}
			}
			node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{
				Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule,
			})
			return nil
		},
	}
}
