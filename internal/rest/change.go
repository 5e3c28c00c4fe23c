package rest

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skiff-sh/skiff/internal/admission"
	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/auth"
	"github.com/skiff-sh/skiff/internal/kind"
)

// changing returns the request as package api wants it for a change.
func (h *Handler) changing(q *request, w http.ResponseWriter, dryRun []string, manager string) api.Request {
	r := q.api()
	r.DryRun = len(dryRun) > 0
	r.FieldManager = q.manager(manager)
	r.MayCreate = func(ctx context.Context) error { return h.authorize(ctx, q.attributes(q.user, "create")) }
	r.May = func(ctx context.Context, p admission.Permission) bool {
		return h.authorize(ctx, auth.Attributes{User: q.user, Verb: p.Verb, Group: p.Group, Version: "*", Resource: p.Resource, Name: p.Name}) == nil
	}
	r.Warn = func(text string) { addWarning(w, text) }
	return r
}

// create stores a new object.
func (h *Handler) create(ctx context.Context, w http.ResponseWriter, q *request) error {
	f, err := h.negotiate(q.Request, true, false)
	if err != nil {
		return err
	}
	options, err := q.createOptions()
	if err != nil {
		return err
	}
	obj := q.res.new()
	if err := h.decode(w, q.Request, obj, q.res.gvk, options.FieldValidation); err != nil {
		return err
	}
	out, err := h.API.Create(ctx, h.changing(q, w, options.DryRun, options.FieldManager), q.res.stored(obj))
	if err != nil {
		return err
	}
	return h.answer(w, q, http.StatusCreated, f, out)
}

// update replaces an object.
func (h *Handler) update(ctx context.Context, w http.ResponseWriter, q *request) error {
	f, err := h.negotiate(q.Request, true, false)
	if err != nil {
		return err
	}
	options, err := q.updateOptions()
	if err != nil {
		return err
	}
	obj := q.res.new()
	if err := h.decode(w, q.Request, obj, q.res.gvk, options.FieldValidation); err != nil {
		return err
	}
	out, created, err := h.API.Put(ctx, h.changing(q, w, options.DryRun, options.FieldManager), q.res.stored(obj))
	if err != nil {
		return err
	}
	code := http.StatusOK
	if created {
		code = http.StatusCreated
	}
	return h.answer(w, q, code, f, out)
}

// patchTypes are the media types of patches, in upstream's order.
var patchTypes = []types.PatchType{
	types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType, types.ApplyYAMLPatchType,
}

// patchType returns what kind of patch the body is.
func (q *request) patchType() (types.PatchType, error) {
	mediaType, _, _ := strings.Cut(q.Header.Get("Content-Type"), ";") // sic: no spaces around it
	if slices.Contains(patchTypes, types.PatchType(mediaType)) {
		return types.PatchType(mediaType), nil
	}
	accepted := ""
	for i, t := range patchTypes {
		if i > 0 {
			accepted += ", "
		}
		accepted += string(t)
	}
	return "", unsupportedMedia(accepted)
}

// deleteOptions reads the body, or the query where there is none.
func (h *Handler) deleteOptions(w http.ResponseWriter, q *request) (o metav1.DeleteOptions, err error) {
	data, err := h.readBody(w, q.Request)
	if err != nil {
		return o, err
	}
	defer func() { o.IgnoreStoreReadErrorWithClusterBreakingPotential = nil }() // an alpha feature, off
	if len(data) == 0 {
		return o, convert(q.query, &o, metav1.Convert_url_Values_To_v1_DeleteOptions)
	}
	decoder, err := h.options.forRequest(q.Request)
	if err == nil {
		err = h.ponder(w, q.Request, data, h.options.mediaOf(decoder))
	}
	if err != nil {
		return o, err
	}
	obj, _, err := decoder.Decode(data, &schema.GroupVersionKind{Version: "v1", Kind: "DeleteOptions"}, &o)
	if _, strict := runtime.AsStrictDecodingError(err); err != nil && !strict {
		return o, errors.NewBadRequest(err.Error())
	}
	// Clients call them their own group's, which makes a new object of them.
	decoded, is := obj.(*metav1.DeleteOptions)
	if !is {
		return o, errors.NewBadRequest("decoded object cannot be converted to DeleteOptions")
	}
	return *decoded, nil
}

// delete removes an object or marks it as deleted.
func (h *Handler) delete(ctx context.Context, w http.ResponseWriter, q *request) error {
	f, err := h.negotiate(q.Request, true, false)
	if err != nil {
		return err
	}
	options, err := h.deleteOptions(w, q)
	if err != nil {
		return err
	}
	r := h.changing(q, w, options.DryRun, "")
	obj, gone, err := h.API.Delete(ctx, r, options)
	if err != nil {
		return err
	}
	code := http.StatusOK
	if orphan := options.OrphanDependents; !gone && orphan != nil && !*orphan {
		code = http.StatusAccepted // upstream's, for those who asked in the old way
	}
	switch answer := api.DeleteAnswer(r, obj, gone).(type) {
	case *metav1.Status:
		h.writeAny(w, q.Request, code, answer, statusGVK)
		return nil
	case kind.Object:
		return h.answer(w, q, code, f, answer)
	}
	return nil
}

// deleteCollection deletes what the list options select.
func (h *Handler) deleteCollection(ctx context.Context, w http.ResponseWriter, q *request) error {
	if !slices.Contains(verbsOf(q.res.kind), "deletecollection") {
		return methodNotAllowed()
	}
	f, err := h.negotiate(q.Request, true, false)
	if err != nil {
		return err
	}
	listOptions, err := q.listOptions()
	if err == nil {
		err = h.API.Selectable(q.api(), listOptions)
	}
	if err != nil {
		return err
	}
	options, err := h.deleteOptions(w, q)
	if err != nil {
		return err
	}
	list, err := h.API.DeleteCollection(ctx, h.changing(q, w, options.DryRun, ""), listOptions, options)
	if err != nil {
		return err
	}
	return h.answerList(w, q, f, listMeta(list), list.Items)
}

// patch changes an object as the body says.
func (h *Handler) patch(ctx context.Context, w http.ResponseWriter, q *request) error {
	patch, r, f, err := h.readPatch(w, q)
	if err != nil {
		return err
	}
	if patch.Type == types.ApplyYAMLPatchType {
		out, created, err := h.API.Apply(ctx, r, patch)
		if err != nil {
			return err
		}
		code := http.StatusOK
		if created {
			code = http.StatusCreated
		}
		return h.answer(w, q, code, f, out)
	}
	out, err := h.API.Patch(ctx, r, patch)
	if err != nil {
		return err
	}
	return h.answer(w, q, http.StatusOK, f, out)
}

// readPatch reads everything about a patch.
func (h *Handler) readPatch(w http.ResponseWriter, q *request) (patch api.Patch, r api.Request, f form, err error) {
	if patch.Type, err = q.patchType(); err != nil {
		return patch, r, f, err
	}
	if f, err = h.negotiate(q.Request, true, false); err != nil {
		return patch, r, f, err
	}
	options, err := q.patchOptions(patch.Type)
	if err != nil {
		return patch, r, f, err
	}
	if patch.Data, err = h.readPatchBody(w, q, patch.Type); err != nil {
		return patch, r, f, err
	}
	patch.Force = options.Force != nil && *options.Force
	patch.FieldValidation = options.FieldValidation
	return patch, h.changing(q, w, options.DryRun, options.FieldManager), f, nil
}
