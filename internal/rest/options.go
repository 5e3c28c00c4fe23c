package rest

import (
	"fmt"
	"net/url"
	"time"

	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// convert reads options from a query with apimachinery's generated functions,
// which need no scope.
func convert[T any](query url.Values, into *T, fn func(*url.Values, *T, conversion.Scope) error) error {
	if query == nil {
		return nil
	}
	if err := fn(&query, into, nil); err != nil {
		return errors.NewBadRequest(err.Error())
	}
	return nil
}

// invalidOptions is upstream's answer to options that make no sense.
func invalidOptions(kind string, errs field.ErrorList) error {
	if len(errs) == 0 {
		return nil
	}
	return errors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: kind}, "", errs)
}

// listOptions reads those of list, watch and deletecollection.
func (q *request) listOptions() (metav1.ListOptions, error) {
	var o metav1.ListOptions
	if err := convert(q.query, &o, metav1.Convert_url_Values_To_v1_ListOptions); err != nil {
		return o, err
	}
	if o.Limit < 0 {
		o.Limit = 0
	}
	return o, nil
}

func (q *request) createOptions() (metav1.CreateOptions, error) {
	var o metav1.CreateOptions
	if err := convert(q.query, &o, metav1.Convert_url_Values_To_v1_CreateOptions); err != nil || q.query == nil {
		return o, err
	}
	return o, invalidOptions("CreateOptions", validation.ValidateCreateOptions(&o))
}

func (q *request) updateOptions() (metav1.UpdateOptions, error) {
	var o metav1.UpdateOptions
	if err := convert(q.query, &o, metav1.Convert_url_Values_To_v1_UpdateOptions); err != nil || q.query == nil {
		return o, err
	}
	return o, invalidOptions("UpdateOptions", validation.ValidateUpdateOptions(&o))
}

func (q *request) patchOptions(patch types.PatchType) (metav1.PatchOptions, error) {
	var o metav1.PatchOptions
	if err := convert(q.query, &o, metav1.Convert_url_Values_To_v1_PatchOptions); err != nil {
		return o, err
	}
	return o, invalidOptions("PatchOptions", validation.ValidatePatchOptions(&o, patch))
}

// includeObject reads ?includeObject, which says what Tables hold of objects.
func (q *request) includeObject(f form) (metav1.IncludeObjectPolicy, error) {
	wish := q.query.Get("includeObject")
	if wish == "" || f.view != viewTable {
		return metav1.IncludeMetadata, nil
	}
	o := metav1.TableOptions{IncludeObject: metav1.IncludeObjectPolicy(wish)}
	if errs := validation.ValidateTableOptions(&o); len(errs) > 0 {
		return "", errors.NewBadRequest("Unable to convert to Table as requested: " + errs[0].Error())
	}
	return o.IncludeObject, nil
}

// parseTimeout reads ?timeout, a duration.
func parseTimeout(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	return time.ParseDuration(text)
}

// optionsScheme has what may come with a deletion, which any version may call its
// own.
func optionsScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	s.AddUnversionedTypes(schema.GroupVersion{Version: "v1"}, &metav1.DeleteOptions{})
	return s
}

// getOptions reads those of get: which revision the client has seen.
func (q *request) getOptions() (metav1.GetOptions, error) {
	var o metav1.GetOptions
	if export := q.query["export"]; len(export) > 0 {
		wanted := true
		if err := runtime.Convert_Slice_string_To_bool(&export, &wanted, nil); err != nil {
			return o, errors.NewBadRequest(fmt.Sprintf("the export parameter cannot be parsed: %v", err))
		}
		if wanted {
			return o, errors.NewBadRequest("the export parameter, deprecated since v1.14, is no longer supported")
		}
	}
	return o, convert(q.query, &o, metav1.Convert_url_Values_To_v1_GetOptions)
}
