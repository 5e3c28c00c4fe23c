package admission

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

// priority resolves the name of a Pod's PriorityClass into numbers, and keeps
// the cluster's default class single.
func priority(s *state.State) Step {
	return Step{
		Name: "Priority",
		Mutate: func(_ context.Context, r *Request) error {
			if r.Operation == Delete || !r.is(kind.Pod, "") {
				return nil
			}
			if r.Operation == Update {
				keepPriority(r.Object.(*corev1.Pod), r.Old.(*corev1.Pod))
				return nil
			}
			return resolvePriority(s, r, r.Object.(*corev1.Pod))
		},
		Validate: func(_ context.Context, r *Request) error {
			if r.Operation == Delete || !r.is(kind.PriorityClass, "") {
				return nil
			}
			return checkSingleDefault(s, r, r.Object.(*schedulingv1.PriorityClass))
		},
	}
}

// keepPriority spares a client that replaces a Pod to repeat what was resolved.
func keepPriority(pod, old *corev1.Pod) {
	if pod.Spec.Priority == nil && old.Spec.Priority != nil {
		pod.Spec.Priority = new(*old.Spec.Priority)
	}
	if pod.Spec.PreemptionPolicy == nil && old.Spec.PreemptionPolicy != nil {
		pod.Spec.PreemptionPolicy = new(*old.Spec.PreemptionPolicy)
	}
}

func resolvePriority(s *state.State, r *Request, pod *corev1.Pod) error {
	class, err := priorityClass(s, r, pod.Spec.PriorityClassName)
	if err != nil {
		return err
	}
	value, policy := int32(0), corev1.PreemptLowerPriority
	if class != nil {
		pod.Spec.PriorityClassName = class.Name
		value = class.Value
		if class.PreemptionPolicy != nil {
			policy = *class.PreemptionPolicy
		}
	}
	if p := pod.Spec.Priority; p != nil && *p != value {
		return r.Forbid(fmt.Errorf("the integer value of priority (%d) must not be provided in pod spec; priority admission controller computed %d from the given PriorityClass name", *p, value))
	}
	if p := pod.Spec.PreemptionPolicy; p != nil && *p != policy {
		return r.Forbid(fmt.Errorf("the string value of PreemptionPolicy (%s) must not be provided in pod spec; priority admission controller computed %s from the given PriorityClass name", *p, policy))
	}
	pod.Spec.Priority, pod.Spec.PreemptionPolicy = &value, &policy
	return nil
}

// priorityClass finds a class by name, or the default one, of which there may
// be none; should there be several, the lowest counts.
func priorityClass(s *state.State, r *Request, name string) (*schedulingv1.PriorityClass, error) {
	if name != "" {
		class, ok := state.Get[*schedulingv1.PriorityClass](s, kind.PriorityClass, "", name)
		if !ok {
			return nil, r.Forbid(fmt.Errorf("no PriorityClass with name %v was found", name))
		}
		return class, nil
	}
	var found *schedulingv1.PriorityClass
	for _, class := range state.List[*schedulingv1.PriorityClass](s, kind.PriorityClass, state.Interest{}) {
		if class.GlobalDefault && (found == nil || class.Value < found.Value) {
			found = class
		}
	}
	return found, nil
}

func checkSingleDefault(s *state.State, r *Request, class *schedulingv1.PriorityClass) error {
	if !class.GlobalDefault {
		return nil
	}
	for _, other := range state.List[*schedulingv1.PriorityClass](s, kind.PriorityClass, state.Interest{}) {
		if other.GlobalDefault && other.Name != class.Name {
			return r.Forbid(fmt.Errorf("PriorityClass %v is already marked as default. Only one default can exist", other.Name))
		}
	}
	return nil
}
