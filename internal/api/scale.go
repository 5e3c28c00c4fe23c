package api

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/skiff-sh/skiff/internal/kind"
)

// Scale returns the number of replicas of what the Request names.
func (a *API) Scale(_ context.Context, req Request) (*autoscalingv1.Scale, error) {
	obj, ok := a.state.Get(req.Kind, req.namespace(), req.Name)
	if !ok {
		return nil, notFound(&req)
	}
	return scaleOf(obj)
}

// UpdateScale sets the number of replicas.
func (a *API) UpdateScale(ctx context.Context, req Request, scale *autoscalingv1.Scale) (*autoscalingv1.Scale, error) {
	if err := checkIdentity(req.ofScale(), scale); err != nil {
		return nil, err
	}
	singleOwners(&req, scale, "")
	return a.rescale(ctx, req, func(part *Request, current *autoscalingv1.Scale) (*autoscalingv1.Scale, error) {
		if uid := scale.UID; uid != "" && uid != current.UID {
			return nil, wrongUID(&req, req.Name, uid, current.UID)
		}
		next := scale.DeepCopy()
		return next, a.fields.update(part, next, current)
	})
}

// PatchScale changes the number of replicas with a patch of the Scale.
func (a *API) PatchScale(ctx context.Context, req Request, patch Patch) (*autoscalingv1.Scale, error) {
	if patch.Type == types.ApplyYAMLPatchType {
		return a.applyScale(ctx, req, patch)
	}
	if err := a.exists(&req); err != nil {
		return nil, err
	}
	apply, err := decodePatch(req.ofScale(), patch)
	if err != nil {
		return nil, err
	}
	return a.rescale(ctx, req, func(part *Request, current *autoscalingv1.Scale) (*autoscalingv1.Scale, error) {
		next := &autoscalingv1.Scale{}
		if err := apply(current, next); err != nil {
			return nil, err
		}
		return next, a.fields.update(part, next, current)
	})
}

func (a *API) applyScale(ctx context.Context, req Request, patch Patch) (*autoscalingv1.Scale, error) {
	if err := a.exists(&req); err != nil {
		return nil, err
	}
	wanted, err := decodeApply(&req, patch)
	if err != nil {
		return nil, err
	}
	return a.rescale(ctx, req, func(part *Request, current *autoscalingv1.Scale) (*autoscalingv1.Scale, error) {
		next, err := a.applyTo(part, current, wanted, patch)
		if err != nil {
			return nil, err
		}
		return next.(*autoscalingv1.Scale), nil
	})
}

// scaleKind is the Scale as if it were a kind of its own.
var scaleKind = &kind.Kind{
	Resource: autoscalingv1.SchemeGroupVersion.WithResource("scales"), Kind: "Scale", Namespaced: true,
	New: func() kind.Object { return &autoscalingv1.Scale{} },
}

// ofScale returns the request as one for a Scale.
func (r *Request) ofScale() *Request {
	part := *r
	part.Kind, part.Face = scaleKind, nil
	return &part
}

// replicasPaths is where the kinds that scale have what a Scale has.
var replicasPaths = managedfields.ResourcePathMappings{
	appsv1.SchemeGroupVersion.String(): fieldpath.MakePathOrDie("spec", "replicas"),
}

// rescale shows an object's Scale to next and stores what becomes of it. Who owns
// the replicas goes to and fro with them.
func (a *API) rescale(ctx context.Context, req Request, next func(part *Request, current *autoscalingv1.Scale) (*autoscalingv1.Scale, error)) (*autoscalingv1.Scale, error) {
	part := *req.ofScale()
	req.Subresource, req.recorded = "", true // the replicas are part of the spec, and its rules hold
	out, err := a.rewrite(ctx, &req, func(old kind.Object) (kind.Object, error) {
		record := managedfields.NewScaleHandler(old.GetManagedFields(), req.version(), replicasPaths)
		current, err := scaleOf(old)
		if err != nil {
			return nil, err
		}
		if current.ManagedFields, err = record.ToSubresource(); err != nil {
			return nil, unknown(err)
		}
		scale, err := next(&part, current)
		if err != nil {
			return nil, err
		}
		if err := checkIdentity(&part, scale); err != nil {
			return nil, err
		}
		singleOwners(&part, scale, " after mutating admission happens")
		if err := validateScale(scale); err != nil {
			return nil, err
		}
		if uid := scale.UID; uid != "" && uid != old.GetUID() {
			resource := req.resource()
			resource.Resource += "/scale"
			return nil, apierrors.NewConflict(resource, old.GetName(), fmt.Errorf(
				"Precondition failed: UID in precondition: %v, UID in object meta: %v", uid, old.GetUID()))
		}
		obj := old.DeepCopyObject().(kind.Object)
		replicas := scale.Spec.Replicas
		*replicasOf(obj) = &replicas
		obj.SetResourceVersion(scale.ResourceVersion)
		entries, err := record.ToParent(scale.ManagedFields)
		if err != nil {
			return nil, unknown(err)
		}
		obj.SetManagedFields(entries)
		return obj, nil
	})
	if err != nil {
		return nil, err
	}
	return scaleOf(out)
}

func validateScale(scale *autoscalingv1.Scale) error {
	errs := kind.ScaleErrors(scale)
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(schema.GroupKind{Group: autoscalingv1.GroupName, Kind: "Scale"}, scale.Name, errs)
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
