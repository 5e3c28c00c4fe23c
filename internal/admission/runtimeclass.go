package admission

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

// runtimeClass gives a new Pod what its RuntimeClass says: the overhead, the
// labels of nodes and the tolerations. A Pod has no overhead but that.
func runtimeClass(s *state.State) Step {
	step := func(fn func(*Request, *corev1.Pod, *nodev1.RuntimeClass) error) func(context.Context, *Request) error {
		return func(_ context.Context, r *Request) error {
			if r.Operation != Create || !r.is(kind.Pod, "") {
				return nil
			}
			pod := r.Object.(*corev1.Pod)
			var class *nodev1.RuntimeClass
			if name := pod.Spec.RuntimeClassName; name != nil {
				found, ok := state.Get[*nodev1.RuntimeClass](s, kind.RuntimeClass, "", *name)
				if !ok {
					return r.noClass(*name)
				}
				class = found
			}
			return fn(r, pod, class)
		}
	}
	return Step{Name: "RuntimeClass", Mutate: step(applyRuntimeClass), Validate: step(checkOverhead)}
}

// noClass is the error of a class that is not there. One that no URL can name is told of
// as upstream's own request for it fails.
func (r *Request) noClass(name string) error {
	wrong := content.IsPathSegmentName(name)
	text := fmt.Sprintf("invalid resource name %q: %v", name, wrong)
	switch {
	case name == "":
		text = "resource name may not be empty"
	case len(wrong) == 0:
		return r.Forbid(fmt.Errorf("pod rejected: RuntimeClass %q not found", name))
	}
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Message: text}}
}

var errOverhead = errors.New("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")

func applyRuntimeClass(r *Request, pod *corev1.Pod, class *nodev1.RuntimeClass) error {
	if class == nil {
		return nil
	}
	if class.Overhead != nil {
		if len(pod.Spec.Overhead) > 0 && !equality.Semantic.DeepEqual(class.Overhead.PodFixed, pod.Spec.Overhead) {
			return r.Forbid(errOverhead)
		}
		pod.Spec.Overhead = class.Overhead.PodFixed.DeepCopy()
	}
	if class.Scheduling == nil {
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(class.Scheduling.NodeSelector)) {
		value := class.Scheduling.NodeSelector[key]
		if own, ok := pod.Spec.NodeSelector[key]; ok && own != value {
			return r.Forbid(fmt.Errorf("conflict: runtimeClass.scheduling.nodeSelector[%s] = %s; pod.spec.nodeSelector[%s] = %s", key, value, key, own))
		}
		if pod.Spec.NodeSelector == nil {
			pod.Spec.NodeSelector = map[string]string{}
		}
		pod.Spec.NodeSelector[key] = value
	}
	pod.Spec.Tolerations = mergeTolerations(slices.Concat(pod.Spec.Tolerations, class.Scheduling.Tolerations))
	return nil
}

func checkOverhead(r *Request, pod *corev1.Pod, class *nodev1.RuntimeClass) error {
	switch {
	case class != nil && class.Overhead != nil:
		if !equality.Semantic.DeepEqual(class.Overhead.PodFixed, pod.Spec.Overhead) {
			return r.Forbid(errOverhead)
		}
	case pod.Spec.Overhead != nil:
		return r.Forbid(errors.New("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"))
	}
	return nil
}

// mergeTolerations leaves out what another toleration includes; of two that are
// the same the first stays.
func mergeTolerations(all []corev1.Toleration) []corev1.Toleration {
	var merged []corev1.Toleration
	for i := range all {
		t := all[i]
		before := slices.ContainsFunc(merged, func(o corev1.Toleration) bool { return includes(&o, &t) })
		after := slices.ContainsFunc(all[i+1:], func(o corev1.Toleration) bool {
			return !equality.Semantic.DeepEqual(t, o) && includes(&o, &t)
		})
		if !before && !after {
			merged = append(merged, t)
		}
	}
	return merged
}

// includes reports whether wide tolerates all that t does.
func includes(wide, t *corev1.Toleration) bool {
	anyKey := wide.Key == "" && wide.Operator == corev1.TolerationOpExists
	switch {
	case equality.Semantic.DeepEqual(wide, t):
		return true
	case t.Key != wide.Key && !anyKey, t.Effect != wide.Effect && wide.Effect != "":
		return false
	case wide.Effect == corev1.TaintEffectNoExecute && wide.TolerationSeconds != nil &&
		(t.TolerationSeconds == nil || *t.TolerationSeconds > *wide.TolerationSeconds):
		return false
	case wide.Operator == corev1.TolerationOpExists:
		return true
	case wide.Operator == corev1.TolerationOpEqual || wide.Operator == "":
		return t.Operator == corev1.TolerationOpEqual && t.Value == wide.Value
	}
	return false
}
