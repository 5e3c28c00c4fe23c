package admission

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

// podTopology labels a Pod with the zone and region of the node it is bound to,
// where containers can read them (KEP-4742).
func podTopology(s *state.State) Step {
	return Step{
		Name: "PodTopologyLabels",
		Mutate: func(_ context.Context, r *Request) error {
			if r.Operation != Create || r.Kind != kind.Pod {
				return nil
			}
			switch r.Subresource {
			case "":
				pod := r.Object.(*corev1.Pod)
				pod.Labels = withTopology(s, pod.Labels, pod.Spec.NodeName)
			case "binding":
				if b, ok := r.Body.(*corev1.Binding); ok {
					b.Labels = withTopology(s, b.Labels, b.Target.Name)
				}
			}
			return nil
		},
	}
}

func withTopology(s *state.State, labels map[string]string, nodeName string) map[string]string {
	if nodeName == "" {
		return labels
	}
	node, ok := state.Get[*corev1.Node](s, kind.Node, "", nodeName)
	if !ok {
		return labels
	}
	for _, key := range []string{corev1.LabelTopologyZone, corev1.LabelTopologyRegion} {
		value, ok := node.Labels[key]
		if !ok {
			continue
		}
		if labels == nil {
			labels = map[string]string{}
		}
		labels[key] = value
	}
	return labels
}
