package admission

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/resource"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

// Features that a node says it has in status.declaredFeatures (KEP-5328), and
// without which it is asked for no such resize.
const (
	resizesPods           = "InPlacePodLevelResourcesVerticalScaling"
	resizesInitContainers = "InPlacePodVerticalScalingInitContainers"
)

// resizeFeatures refuses a resize that the Pod's node does not say it can do.
func resizeFeatures(s *state.State) Step {
	return Step{
		Name: "NodeDeclaredFeatureValidator",
		Validate: func(_ context.Context, r *Request) error {
			pod, old := resized(r)
			if pod == nil {
				return nil
			}
			need := neededFeatures(&pod.Spec, &old.Spec)
			if len(need) == 0 {
				return nil
			}
			node, err := nodeOf(s, r, pod)
			if err != nil {
				return err
			}
			missing := slices.DeleteFunc(need, func(name string) bool { return slices.Contains(node.Status.DeclaredFeatures, name) })
			if len(missing) > 0 {
				return r.Forbid(fmt.Errorf("pod update requires features %s which are not available on node %q", strings.Join(missing, ", "), node.Name))
			}
			return nil
		},
	}
}

// neededFeatures are those that a change of a spec asks of the node, in order.
func neededFeatures(spec, old *corev1.PodSpec) []string {
	var need []string
	if !equality.Semantic.DeepEqual(spec.Resources, old.Resources) {
		need = append(need, resizesPods)
	}
	for i := range old.InitContainers {
		c := &old.InitContainers[i]
		if !kind.IsSidecar(c) && !equality.Semantic.DeepEqual(c.Resources, spec.InitContainers[i].Resources) {
			return append(need, resizesInitContainers)
		}
	}
	return need
}

// resizeRoom refuses a resize that the Pod's node could never make room for.
func resizeRoom(s *state.State) Step {
	return Step{
		Name: "PodResizeValidator",
		Validate: func(_ context.Context, r *Request) error {
			pod, _ := resized(r)
			if pod == nil {
				return nil
			}
			node, err := nodeOf(s, r, pod)
			if err != nil {
				return err
			}
			if os, ok := node.Labels[corev1.LabelOSStable]; ok && os != string(corev1.Linux) {
				return forbidResize(r, "UnsupportedPlatform", fmt.Errorf("pod resize is only supported on linux nodes, node %q is %q", node.Name, os))
			}
			if lack := lacking(pod, node.Status.Allocatable); len(lack) > 0 {
				return forbidResize(r, "NodeCapacity", fmt.Errorf("node didn't have enough allocatable resources: %s", strings.Join(lack, "; ")))
			}
			return nil
		},
	}
}

// lacking says what a Pod asks for beyond all that a node has.
func lacking(pod *corev1.Pod, allocatable corev1.ResourceList) []string {
	var lack []string
	requests := resource.PodRequests(pod, resource.PodResourcesOptions{})
	if asked, have := requests.Cpu(), allocatable.Cpu(); asked.Cmp(*have) > 0 {
		lack = append(lack, fmt.Sprintf("cpu, requested: %d, allocatable: %d", asked.MilliValue(), have.MilliValue()))
	}
	if asked, have := requests.Memory(), allocatable.Memory(); asked.Cmp(*have) > 0 {
		lack = append(lack, fmt.Sprintf("memory, requested: %d, allocatable: %d", asked.Value(), have.Value()))
	}
	return lack
}

// resized returns the two forms of a Pod on a node whose resize changes its spec,
// or nil.
func resized(r *Request) (pod, old *corev1.Pod) {
	if r.Operation != Update || !r.is(kind.Pod, "resize") {
		return nil, nil
	}
	pod, old = r.Object.(*corev1.Pod), r.Old.(*corev1.Pod)
	if pod.Spec.NodeName == "" || pod.Generation == old.Generation {
		return nil, nil
	}
	return pod, old
}

func nodeOf(s *state.State, r *Request, pod *corev1.Pod) (*corev1.Node, error) {
	node, ok := state.Get[*corev1.Node](s, kind.Node, "", pod.Spec.NodeName)
	if !ok {
		return nil, r.Forbid(fmt.Errorf("node %q not found", pod.Spec.NodeName))
	}
	return node, nil
}

// forbidResize tells the reason also as a cause, for programs.
func forbidResize(r *Request, cause metav1.CauseType, err error) error {
	status := r.Forbid(err)
	status.ErrStatus.Details.Causes = append(status.ErrStatus.Details.Causes, metav1.StatusCause{Type: cause})
	return status
}
