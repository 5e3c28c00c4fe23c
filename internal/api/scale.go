package api

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skiff-sh/skiff/internal/kind"
)

// Scale returns the number of replicas of what the Request names.
func (a *API) Scale(_ context.Context, req Request) (*autoscalingv1.Scale, error) {
	obj, ok := a.state.Get(req.Kind, req.namespace(), req.Name)
	if !ok {
		resource := req.resource()
		resource.Resource += "/scale"
		return nil, apierrors.NewNotFound(resource, req.Name)
	}
	return scaleOf(obj)
}

// UpdateScale sets the number of replicas.
func (a *API) UpdateScale(ctx context.Context, req Request, scale *autoscalingv1.Scale) (*autoscalingv1.Scale, error) {
	if scale.Name != req.Name {
		return nil, checkIdentity(&req, &metav1.PartialObjectMetadata{ObjectMeta: scale.ObjectMeta})
	}
	return a.rescale(ctx, req, func(*autoscalingv1.Scale) (*autoscalingv1.Scale, error) { return scale, nil })
}

// PatchScale changes the number of replicas with a patch of the Scale.
func (a *API) PatchScale(ctx context.Context, req Request, patch Patch) (*autoscalingv1.Scale, error) {
	apply, err := decodePatch(&req, patch)
	if err != nil {
		return nil, err
	}
	return a.rescale(ctx, req, func(current *autoscalingv1.Scale) (*autoscalingv1.Scale, error) {
		next := &autoscalingv1.Scale{}
		return next, apply(current, next)
	})
}

func (a *API) rescale(ctx context.Context, req Request, next func(*autoscalingv1.Scale) (*autoscalingv1.Scale, error)) (*autoscalingv1.Scale, error) {
	req.Subresource = "" // the replicas are part of the spec, and its rules hold
	out, err := a.rewrite(ctx, &req, func(old kind.Object) (kind.Object, error) {
		current, err := scaleOf(old)
		if err != nil {
			return nil, err
		}
		scale, err := next(current)
		if err != nil {
			return nil, err
		}
		if err := validateScale(scale); err != nil {
			return nil, err
		}
		obj := old.DeepCopyObject().(kind.Object)
		*replicasOf(obj) = &scale.Spec.Replicas
		obj.SetResourceVersion(scale.ResourceVersion)
		if scale.UID != "" {
			obj.SetUID(scale.UID)
		}
		return obj, nil
	})
	if err != nil {
		return nil, err
	}
	return scaleOf(out)
}

func validateScale(scale *autoscalingv1.Scale) error {
	if scale.Spec.Replicas >= 0 {
		return nil
	}
	return apierrors.NewInvalid(schema.GroupKind{Group: autoscalingv1.GroupName, Kind: "Scale"}, scale.Name, field.ErrorList{
		field.Invalid(field.NewPath("spec", "replicas"), scale.Spec.Replicas, "must be greater than or equal to 0"),
	})
}

// replicasOf returns where an object keeps its number of replicas, nil for a
// kind without.
func replicasOf(obj kind.Object) **int32 {
	switch o := obj.(type) {
	case *appsv1.Deployment:
		return &o.Spec.Replicas
	case *appsv1.ReplicaSet:
		return &o.Spec.Replicas
	}
	return nil
}

func scaleOf(obj kind.Object) (*autoscalingv1.Scale, error) {
	var selector *metav1.LabelSelector
	scale := &autoscalingv1.Scale{
		TypeMeta: metav1.TypeMeta{APIVersion: autoscalingv1.SchemeGroupVersion.String(), Kind: "Scale"},
		ObjectMeta: metav1.ObjectMeta{
			Name: obj.GetName(), Namespace: obj.GetNamespace(), UID: obj.GetUID(),
			ResourceVersion: obj.GetResourceVersion(), CreationTimestamp: obj.GetCreationTimestamp(),
		},
	}
	switch o := obj.(type) {
	case *appsv1.Deployment:
		selector, scale.Status.Replicas = o.Spec.Selector, o.Status.Replicas
	case *appsv1.ReplicaSet:
		selector, scale.Status.Replicas = o.Spec.Selector, o.Status.Replicas
	default:
		return nil, apierrors.NewMethodNotSupported(schema.GroupResource{Resource: "scale"}, "get")
	}
	if replicas := *replicasOf(obj); replicas != nil {
		scale.Spec.Replicas = *replicas
	}
	matcher, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	scale.Status.Selector = matcher.String()
	return scale, nil
}
