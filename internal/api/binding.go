package api

import (
	"context"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skiff-sh/skiff/internal/admission"
	"github.com/skiff-sh/skiff/internal/kind"
)

// Bind assigns the Pod that the Request names to the binding's node.
func (a *API) Bind(ctx context.Context, req Request, binding *corev1.Binding) error {
	binding = binding.DeepCopy() // admission completes it
	singleOwners(&req, binding, "")
	if binding.Name != req.Name {
		return apierrors.NewBadRequest("name in URL does not match name in Binding object")
	}
	req.Kind, req.Subresource = kind.Pod, "binding"
	if err := validateBinding(binding); err != nil {
		return err
	}
	_, err := a.edit(ctx, &req, binding, func(obj kind.Object) error {
		pod := obj.(*corev1.Pod)
		if err := checkBinding(&req, pod, binding); err != nil {
			return err
		}
		a.assign(pod, binding)
		return nil
	})
	return err
}

func validateBinding(binding *corev1.Binding) error {
	target := field.NewPath("target")
	var errs field.ErrorList
	if k := binding.Target.Kind; k != "" && k != "Node" {
		errs = append(errs, field.NotSupported(target.Child("kind"), k, []string{"Node", "<empty>"}))
	}
	if binding.Target.Name == "" {
		errs = append(errs, field.Required(target.Child("name"), ""))
	}
	if len(errs) == 0 {
		return nil
	}
	// Upstream tells this as a server's fault, without a reason.
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: 500, Message: errs.ToAggregate().Error()}}
}

func checkBinding(req *Request, pod *corev1.Pod, binding *corev1.Binding) error {
	refuse := func(format string, args ...any) error {
		return apierrors.NewConflict(schema.GroupResource{Resource: "pods/binding"}, pod.Name, fmt.Errorf(format, args...))
	}
	switch {
	case binding.UID != "" && binding.UID != pod.UID:
		return wrongUID(req, pod.Name, binding.UID, pod.UID)
	case binding.ResourceVersion != "" && binding.ResourceVersion != pod.ResourceVersion:
		return failedPrecondition(req, pod.Name, "ResourceVersion", binding.ResourceVersion, pod.ResourceVersion)
	case pod.DeletionTimestamp != nil:
		return refuse("pod %s is being deleted, cannot be assigned to a host", pod.Name)
	case pod.Spec.NodeName != "":
		return refuse("pod %v is already assigned to node %q", pod.Name, pod.Spec.NodeName)
	case len(pod.Spec.SchedulingGates) > 0:
		return refuse("pod %v has non-empty .spec.schedulingGates", pod.Name)
	}
	return nil
}

func (a *API) assign(pod *corev1.Pod, binding *corev1.Binding) {
	pod.Spec.NodeName = binding.Target.Name
	pod.Status.NominatedNodeName = ""
	pod.Annotations = merged(pod.Annotations, binding.Annotations)
	pod.Labels = merged(pod.Labels, binding.Labels)
	setCondition(pod, corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}, a.now())
}

// setCondition says nothing of the generation, as upstream's subresources.
func setCondition(pod *corev1.Pod, c corev1.PodCondition, now metav1.Time) {
	kind.SetPodCondition(pod, c, now)
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == c.Type {
			pod.Status.Conditions[i].ObservedGeneration = 0
		}
	}
}

func merged(into, from map[string]string) map[string]string {
	if len(from) == 0 {
		return into
	}
	if into == nil {
		into = map[string]string{}
	}
	maps.Copy(into, from)
	return into
}

// edit changes an object on behalf of a subresource that has rules of its own
// instead of those of an update: it is admitted with the posted body, and what
// change leaves is committed as it is.
func (a *API) edit(ctx context.Context, req *Request, body any, change func(kind.Object) error) (kind.Object, error) {
	for attempt := 1; ; attempt++ {
		old, ok := a.state.Get(req.Kind, req.namespace(), req.Name)
		if !ok {
			return nil, notFound(req)
		}
		obj := old.DeepCopyObject().(kind.Object)
		if err := a.admitBody(ctx, req, old, body); err != nil {
			return nil, err
		}
		if err := change(obj); err != nil {
			return nil, err
		}
		if same(obj, old) {
			return old, nil
		}
		out, err := a.commitUpdate(ctx, req, obj, old, nil)
		conflict := asConflict(err)
		if conflict == nil {
			return out, err
		}
		if err := a.lost(req, req.Name, conflict, attempt); err != nil {
			return nil, err
		}
	}
}

// admitBody runs admission for something posted to a subresource.
func (a *API) admitBody(ctx context.Context, req *Request, old kind.Object, body any) error {
	admit := a.admit(req, admission.Create, nil, old)
	admit.Body = body
	if err := a.admission.Mutate(ctx, admit); err != nil {
		return err
	}
	return a.admission.Validate(ctx, admit)
}
