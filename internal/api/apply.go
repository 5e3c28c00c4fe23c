package api

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/yaml" // which leaves whole numbers whole

	"github.com/skiff-sh/skiff/internal/kind"
)

// Apply merges what a manager wants into an object, or creates it, and records
// which fields the manager now owns (KEP-555).
func (a *API) Apply(ctx context.Context, req Request, patch Patch) (out kind.Object, created bool, err error) {
	req.recorded = true
	wanted, err := decodeApply(&req, patch)
	if err != nil {
		return nil, false, err
	}
	for {
		part := req.Subresource != "" && !createOnUpdate(req.Kind)
		if _, ok := a.state.Get(req.Kind, req.namespace(), req.Name); ok || part {
			out, err = a.rewrite(ctx, &req, func(old kind.Object) (kind.Object, error) {
				return a.applyTo(&req, old, wanted, patch)
			})
			if part || !apierrors.IsNotFound(err) {
				return out, false, err
			}
		}
		out, err = a.applyNew(ctx, req, wanted, patch)
		if !apierrors.IsAlreadyExists(err) {
			return out, err == nil, err
		}
	}
}

// applyTo returns what becomes of an object, or of nothing.
func (a *API) applyTo(req *Request, old kind.Object, wanted *unstructured.Unstructured, patch Patch) (kind.Object, error) {
	obj, err := a.fields.apply(req, old, wanted, patch.Force)
	if err != nil {
		return nil, err
	}
	if patch.FieldValidation != metav1.FieldValidationIgnore {
		if err := yaml.UnmarshalStrict(patch.Data, &map[string]any{}); err != nil {
			if patch.FieldValidation == metav1.FieldValidationStrict {
				return nil, apierrors.NewBadRequest(fmt.Sprintf("error strict decoding YAML: %v", err))
			}
			req.warn(YAMLWarnings(err.Error()))
		}
	}
	return obj, nil
}

// applyNew makes an object that is not there.
func (a *API) applyNew(ctx context.Context, req Request, wanted *unstructured.Unstructured, patch Patch) (kind.Object, error) {
	obj, err := a.applyTo(&req, nil, wanted, patch)
	if err != nil {
		return nil, err
	}
	if uid := obj.GetUID(); uid != "" {
		return nil, apierrors.NewConflict(req.resource(), req.Name, fmt.Errorf(
			"uid mismatch: the provided object specified uid %s, and no existing object was found", uid))
	}
	if err := checkIdentity(&req, obj); err != nil {
		return nil, err
	}
	return a.createInstead(ctx, req, obj)
}

// decodeApply reads what the manager wants.
func decodeApply(req *Request, patch Patch) (*unstructured.Unstructured, error) {
	if req.FieldManager == "" {
		return nil, apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "PatchOptions"}, "", field.ErrorList{
			field.Required(field.NewPath("fieldManager"), "is required for apply patch"),
		})
	}
	if err := nameable(req.Name); err != nil {
		return nil, err
	}
	wanted := &unstructured.Unstructured{Object: map[string]any{}}
	if err := yaml.Unmarshal(patch.Data, &wanted.Object); err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding YAML: %v", err))
	}
	return wanted, nil
}

// YAMLWarnings splits what the YAML decoder finds in one text.
func YAMLWarnings(text string) []string {
	for _, prefix := range []string{"yaml: unmarshal errors:\n", "error converting YAML to JSON: yaml: unmarshal errors:\n"} {
		if rest, ok := strings.CutPrefix(text, prefix); ok {
			var all []string
			for line := range strings.SplitSeq(rest, "\n") {
				all = append(all, strings.TrimSpace(line))
			}
			return all
		}
	}
	return []string{text}
}
