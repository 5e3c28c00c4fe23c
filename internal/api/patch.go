package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	serializer "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/mergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"

	"github.com/skiff-sh/skiff/internal/kind"
)

// maxJSONPatch bounds the operations of one JSON patch.
const maxJSONPatch = 10000

// maxJSONCopies bounds by how many bytes the copies of one JSON patch may make
// a document grow: each can double it.
const maxJSONCopies = 3 << 20

// boundCopies sets that bound, which the library has for the whole process.
var boundCopies = sync.OnceFunc(func() { jsonpatch.AccumulatedCopySizeLimit = maxJSONCopies })

// Patch is a change in one of the formats of the API. It is applied to the
// object as the Request's Face shows it.
type Patch struct {
	Type types.PatchType
	Data []byte // JSON; for an apply patch YAML as well
	// Force takes fields over from other managers (apply patches only).
	Force bool
	// FieldValidation is what to do about unknown and duplicate fields:
	// metav1.FieldValidationIgnore, …Warn or …Strict; "" is Warn.
	FieldValidation string
}

// Patch changes an object. It starts again when somebody else was faster,
// unless the patch itself names a resourceVersion.
func (a *API) Patch(ctx context.Context, req Request, patch Patch) (kind.Object, error) {
	if patch.Type == types.ApplyPatchType {
		out, _, err := a.Apply(ctx, req, patch)
		return out, err
	}
	if err := a.exists(&req); err != nil {
		return nil, err
	}
	apply, err := decodePatch(&req, patch)
	if err != nil {
		return nil, err
	}
	return a.rewrite(ctx, &req, func(old kind.Object) (kind.Object, error) {
		current, fresh := faceOf(&req, old)
		next := fresh()
		if err := apply(current, next); err != nil {
			return nil, err
		}
		return stored(&req, next), nil
	})
}

// exists refuses a patch of what is not there before it is read.
func (a *API) exists(req *Request) error {
	if _, ok := a.state.Get(req.Kind, req.namespace(), req.Name); !ok {
		return notFound(req)
	}
	return nil
}

// faceOf returns the object as the request's face shows it, to be read only,
// and what makes an empty one.
func faceOf(req *Request, obj kind.Object) (kind.Object, func() kind.Object) {
	if req.Face == nil {
		return obj, req.Kind.New
	}
	current := req.Face.FromStored(obj)
	current.GetObjectKind().SetGroupVersionKind(req.version().WithKind(req.Kind.Kind))
	return current, req.Face.New
}

// stored returns an object of the request's face in the kind's storage type.
func stored(req *Request, obj kind.Object) kind.Object {
	if req.Face == nil {
		return obj
	}
	return req.Face.ToStored(obj)
}

// version is the group-version that the client speaks.
func (r *Request) version() schema.GroupVersion {
	if r.Face != nil {
		return r.Face.Resource.GroupVersion()
	}
	return r.Kind.Resource.GroupVersion()
}

// patcher fills next with what the patch makes of current.
type patcher func(current, next runtime.Object) error

func decodePatch(req *Request, patch Patch) (patcher, error) {
	switch patch.Type {
	case types.JSONPatchType:
		return decodeJSONPatch(req, patch)
	case types.MergePatchType:
		strict, err := patch.strictErrors(new(map[string]any))
		if err != nil {
			return nil, err
		}
		return patchJSON(req, patch, strict, func(doc []byte) ([]byte, error) {
			doc, err := jsonpatch.MergePatch(doc, patch.Data)
			switch {
			case errors.Is(err, jsonpatch.ErrBadJSONPatch):
				return nil, apierrors.NewBadRequest(err.Error())
			case err != nil:
				return nil, unknown(err)
			}
			return doc, nil
		}), nil
	case types.StrategicMergePatchType:
		return patchStrategic(req, patch)
	}
	return nil, unsupported(patch.Type)
}

// jsonPatchOp is one operation of a JSON patch, to find fields that it does not
// have. Its name is upstream's, which errors tell.
type jsonPatchOp struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	From  string `json:"from"`
	Value any    `json:"value"`
}

func decodeJSONPatch(req *Request, patch Patch) (patcher, error) {
	strict, err := patch.strictErrors(new([]jsonPatchOp))
	if err != nil {
		return nil, err
	}
	for i, err := range strict {
		strict[i] = fmt.Errorf("json patch %w", err)
	}
	boundCopies()
	operations, err := jsonpatch.DecodePatch(patch.Data)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if len(operations) > maxJSONPatch {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf(
			"The allowed maximum operations in a JSON patch is %d, got %d", maxJSONPatch, len(operations)))
	}
	return patchJSON(req, patch, strict, func(doc []byte) ([]byte, error) {
		doc, err := operations.Apply(doc)
		if err != nil {
			return nil, unprocessable(err)
		}
		return doc, nil
	}), nil
}

// strictErrors are the duplicate and unknown fields of the patch itself, where
// the client wants to know of them.
func (p Patch) strictErrors(into any) ([]error, error) {
	if p.FieldValidation == metav1.FieldValidationIgnore {
		return nil, nil
	}
	strict, err := kjson.UnmarshalStrict(p.Data, into)
	if err != nil {
		text := strings.ReplaceAll(err.Error(), "api.jsonPatchOp", "handlers.jsonPatchOp")
		return nil, apierrors.NewBadRequest("error decoding patch: " + text)
	}
	return strict, nil
}

// unsupported is the answer to a patch format that is not known.
func unsupported(t types.PatchType) error {
	return apierrors.NewGenericServerResponse(http.StatusUnsupportedMediaType, "", schema.GroupResource{}, "", fmt.Sprintf(
		"the body of the request was in an unknown format - accepted media types include: %s, %s, %s, %s (got %s)",
		types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType, types.ApplyYAMLPatchType, t), 0, false)
}

func unprocessable(err error) error {
	return apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", err.Error(), 0, false)
}

// patchJSON applies a change of a JSON document. Found is what is to be complained
// of in the patch itself.
func patchJSON(req *Request, patch Patch, found []error, change func([]byte) ([]byte, error)) patcher {
	return func(current, next runtime.Object) error {
		doc, err := json.Marshal(current)
		if err != nil {
			return apierrors.NewInternalError(err)
		}
		doc, err = change(doc)
		if err != nil {
			return err
		}
		strict, err := decodePatched(req, doc, next)
		if err != nil {
			return notDecodable(string(doc), err)
		}
		return patch.complain(req, string(doc), append(slices.Clone(found), strict...))
	}
}

// decodePatched reads what a patch has made of an object, which may be one of
// another type.
func decodePatched(req *Request, doc []byte, next runtime.Object) (strict []error, err error) {
	want := req.version().WithKind(req.Kind.Kind)
	have, err := serializer.DefaultMetaFactory.Interpret(doc)
	if err != nil {
		return nil, err
	}
	if have.Kind == "" {
		have.Kind = want.Kind
	}
	if have.Version == "" && (have.Group == "" || have.Group == want.Group) {
		return decodeUnversioned(doc, have.Kind, want)
	}
	if *have != want {
		other, err := kind.Scheme().New(*have)
		if err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("converting (%s) to (%s): unknown conversion", reflect.TypeOf(other).Elem(), InternalName(want))
	}
	return kjson.UnmarshalStrict(doc, next)
}

// decodeUnversioned reads, as upstream does, what has no version as upstream's own Go
// type, whose metadata has no name in JSON: fields are unknown, and the object, which
// stays empty, has no name.
func decodeUnversioned(doc []byte, kindName string, want schema.GroupVersionKind) (strict []error, err error) {
	have := want.GroupVersion().WithKind(kindName)
	switch {
	case have == want:
	case kind.Scheme().Recognizes(have):
		return nil, fmt.Errorf("converting (%s) to (%s): unknown conversion", InternalName(have), InternalName(want))
	default:
		have.Version = runtime.APIVersionInternal
		return nil, runtime.NewNotRegisteredErrForKind(kind.Scheme().Name(), have)
	}
	var top struct {
		metav1.TypeMeta
		metav1.ObjectMeta
	}
	return kjson.UnmarshalStrict(doc, &top)
}

// InternalName is what upstream calls a kind's own Go type, which errors name.
func InternalName(gvk schema.GroupVersionKind) string {
	pkg, _, _ := strings.Cut(gvk.Group, ".")
	if pkg == "" || pkg == "events" {
		pkg = "core"
	}
	return pkg + "." + gvk.Kind
}

func patchStrategic(req *Request, patch Patch) (patcher, error) {
	document := map[string]any{}
	duplicates, err := kjson.UnmarshalStrict(patch.Data, &document)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return func(current, next runtime.Object) error {
		original, err := runtime.DefaultUnstructuredConverter.ToUnstructured(current)
		if err != nil {
			return apierrors.NewInternalError(err)
		}
		changes := runtime.DeepCopyJSON(document) // the merge eats it
		merged, err := mergeStrategically(original, changes, next)
		if err != nil {
			return err
		}
		text := fmt.Sprintf("%+v", changes) // what the merge has left of them, as upstream
		validate := patch.FieldValidation != metav1.FieldValidationIgnore
		err = runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(merged, next, validate)
		strict := duplicates
		if unknown, ok := runtime.AsStrictDecodingError(err); ok {
			strict, err = append(slices.Clone(strict), unknown.Errors()...), nil
		}
		if err != nil {
			return notDecodable(text, err)
		}
		return patch.complain(req, text, strict)
	}, nil
}

// mergeStrategically is the library's merge, which panics over an object where the key
// of a list's item should be.
func mergeStrategically(original, changes strategicpatch.JSONMap, of runtime.Object) (merged strategicpatch.JSONMap, err error) {
	defer func() {
		switch problem := recover().(type) {
		case nil:
		case goruntime.Error:
			err = apierrors.NewBadRequest(fmt.Sprintf("apply the strategic merge patch: %v: name the items of its lists by plain values", problem))
		default:
			panic(problem)
		}
	}()
	if merged, err = strategicpatch.StrategicMergeMapPatch(original, changes, of); err != nil {
		return nil, strategicError(err)
	}
	return merged, nil
}

// complain warns of unknown and duplicate fields, or refuses them, as the
// client wants it.
func (p Patch) complain(req *Request, text string, strict []error) error {
	if len(strict) == 0 {
		return nil
	}
	switch p.FieldValidation {
	case metav1.FieldValidationIgnore:
	case metav1.FieldValidationStrict:
		return notDecodable(text, runtime.NewStrictDecodingError(strict))
	default:
		for _, err := range strict {
			req.warn([]string{err.Error()})
		}
	}
	return nil
}

func notDecodable(text string, err error) error {
	return apierrors.NewInvalid(schema.GroupKind{}, "", field.ErrorList{
		field.Invalid(field.NewPath("patch"), text, err.Error()),
	})
}

// strategicError tells a malformed patch from one that cannot be applied.
func strategicError(err error) error {
	switch err { //nolint:errorlint // as upstream, which does not wrap them
	case mergepatch.ErrBadJSONDoc, mergepatch.ErrBadPatchFormatForPrimitiveList, mergepatch.ErrBadPatchFormatForRetainKeys,
		mergepatch.ErrBadPatchFormatForSetElementOrderList, mergepatch.ErrUnsupportedStrategicMergePatchFormat:
		return apierrors.NewBadRequest(err.Error())
	case mergepatch.ErrNoListOfLists, mergepatch.ErrPatchContentNotMatchRetainKeys:
		return unprocessable(err)
	}
	return unknown(err)
}
