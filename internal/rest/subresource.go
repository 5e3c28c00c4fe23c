package rest

import (
	"context"
	"net/http"

	authenticationv1 "k8s.io/api/authentication/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/kind"
)

// serveSubresource runs a verb on a part of an object.
func (h *Handler) serveSubresource(w http.ResponseWriter, q *request) error {
	switch q.subresource {
	case "proxy":
		return h.relay(w, q)
	case "log":
		return h.podLog(w, q)
	case "exec", "attach", "portforward":
		return h.connect(w, q)
	}
	ctx, cancel := q.deadline()
	defer cancel()
	switch q.subresource {
	case "binding":
		return h.bind(ctx, w, q)
	case "eviction":
		return h.evict(ctx, w, q)
	case "token":
		return h.token(ctx, w, q)
	case "scale":
		return h.scale(ctx, w, q)
	}
	switch q.verb {
	case "get":
		return h.get(w, q)
	case "update":
		return h.update(ctx, w, q)
	case "patch":
		return h.patch(ctx, w, q)
	}
	return methodNotAllowed()
}

// readCreate reads the body of a POST to a subresource, which is of a kind of
// its own, and its options.
func (h *Handler) readCreate(w http.ResponseWriter, q *request, into kind.Object, gvk schema.GroupVersionKind) (api.Request, error) {
	options, err := q.createOptions()
	if err != nil {
		return api.Request{}, err
	}
	if err := h.decode(w, q.Request, into, gvk, options.FieldValidation); err != nil {
		return api.Request{}, err
	}
	if ns := into.GetNamespace(); ns != "" && q.namespace != "" && ns != q.namespace {
		return api.Request{}, apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	into.SetNamespace(q.namespace)
	return h.changing(q, w, options.DryRun, options.FieldManager), nil
}

// bind assigns a Pod to a node.
func (h *Handler) bind(ctx context.Context, w http.ResponseWriter, q *request) error {
	binding := &corev1.Binding{}
	r, err := h.readCreate(w, q, binding, corev1.SchemeGroupVersion.WithKind("Binding"))
	if err != nil {
		return err
	}
	if q.name == "" { // posted to bindings
		r.Name = binding.Name
	}
	if err := h.API.Bind(ctx, r, binding); err != nil {
		return err
	}
	h.writeAny(w, q.Request, http.StatusCreated, success(http.StatusCreated), statusGVK)
	return nil
}

// evict deletes a Pod unless something protects it.
func (h *Handler) evict(ctx context.Context, w http.ResponseWriter, q *request) error {
	eviction := &policyv1.Eviction{}
	r, err := h.readCreate(w, q, eviction, policyv1.SchemeGroupVersion.WithKind("Eviction"))
	if err != nil {
		return err
	}
	if err := h.API.Evict(ctx, r, eviction); err != nil {
		return err
	}
	h.writeAny(w, q.Request, http.StatusCreated, success(http.StatusCreated), statusGVK)
	return nil
}

// token issues a token of a service account.
func (h *Handler) token(ctx context.Context, w http.ResponseWriter, q *request) error {
	gvk := authenticationv1.SchemeGroupVersion.WithKind("TokenRequest")
	ask := &authenticationv1.TokenRequest{}
	r, err := h.readCreate(w, q, ask, gvk)
	if err != nil {
		return err
	}
	out, err := h.API.Token(ctx, r, ask)
	if err != nil {
		return err
	}
	h.writeAny(w, q.Request, http.StatusCreated, out, gvk)
	return nil
}

var scaleGVK = autoscalingv1.SchemeGroupVersion.WithKind("Scale")

// scale shows or changes the number of replicas.
func (h *Handler) scale(ctx context.Context, w http.ResponseWriter, q *request) error {
	var out *autoscalingv1.Scale
	var err error
	switch q.verb {
	case "get":
		out, err = h.API.Scale(ctx, q.api())
	case "update":
		var options metav1.UpdateOptions
		if options, err = q.updateOptions(); err != nil {
			return err
		}
		scale := &autoscalingv1.Scale{}
		if err = h.decode(w, q.Request, scale, scaleGVK, options.FieldValidation); err != nil {
			return err
		}
		out, err = h.API.UpdateScale(ctx, h.changing(q, w, options.DryRun, options.FieldManager), scale)
	case "patch":
		patch, r, _, failed := h.readPatch(w, q)
		if failed != nil {
			return failed
		}
		out, err = h.API.PatchScale(ctx, r, patch)
	}
	if err != nil {
		return err
	}
	h.writeAny(w, q.Request, http.StatusOK, out, scaleGVK)
	return nil
}
