package api

import (
	"context"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

const (
	defaultTokenSeconds = 3600
	minTokenSeconds     = 600
	maxTokenSeconds     = 1 << 32
)

// Token issues a token for the ServiceAccount that the Request names. The
// request is not changed. Nothing is stored, so that a dry run issues one, too.
func (a *API) Token(ctx context.Context, req Request, body *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
	req.Kind, req.Subresource = kind.ServiceAccount, "token"
	out := body.DeepCopy()
	singleOwners(&req, out, "")
	account, err := a.tokenAccount(&req, out)
	if err != nil {
		return nil, err
	}
	out.CreationTimestamp = a.now()
	if out.Spec.ExpirationSeconds == nil {
		out.Spec.ExpirationSeconds = new(int64(defaultTokenSeconds))
	}
	part := req
	part.Kind = kind.TokenRequest
	if err := a.fields.create(&part, out); err != nil {
		return nil, err
	}
	if err := validateTokenRequest(out); err != nil {
		return nil, err
	}
	if err := a.admitBody(ctx, &req, account, out); err != nil {
		return nil, err
	}
	bound, err := a.boundObject(&req, out.Spec.BoundObjectRef)
	if err != nil {
		return nil, err
	}
	if a.tokens == nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("issue token for %s/%s: this server has no key for service-account tokens", req.Namespace, req.Name))
	}
	token, err := a.tokens.Issue(account, bound, out.Spec.Audiences, time.Duration(*out.Spec.ExpirationSeconds)*time.Second)
	if err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("issue token for %s/%s: %w", req.Namespace, req.Name, err))
	}
	out.Spec.Audiences = token.Audiences
	out.Status = authenticationv1.TokenRequestStatus{Token: token.Value, ExpirationTimestamp: kind.Timestamp(token.Expires)}
	return out, nil
}

// tokenAccount finds the account, which what the body says of it must be true of,
// and completes the body.
func (a *API) tokenAccount(req *Request, body *authenticationv1.TokenRequest) (*corev1.ServiceAccount, error) {
	if body.Namespace != "" && body.Namespace != req.Namespace {
		return nil, apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	body.Namespace = req.Namespace
	if _, err := a.openNamespace(req, body); err != nil {
		return nil, err
	}
	if body.Name != "" && body.Name != req.Name {
		return nil, apierrors.NewInvalid(tokenRequestKind, req.Name, field.ErrorList{
			field.Invalid(field.NewPath("metadata", "name"), body.Name, "must match the service account name if specified"),
		})
	}
	account, ok := state.Get[*corev1.ServiceAccount](a.state, kind.ServiceAccount, req.Namespace, req.Name)
	if !ok {
		return nil, notFound(req)
	}
	if body.UID != "" && body.UID != account.UID {
		return nil, apierrors.NewConflict(schema.GroupResource{Group: tokenRequestKind.Group, Resource: tokenRequestKind.Kind}, req.Name, fmt.Errorf(
			"the UID in the token request (%s) does not match the UID of the service account (%s)", body.UID, account.UID))
	}
	body.Name, body.UID = req.Name, account.UID
	return account, nil
}

var tokenRequestKind = schema.GroupKind{Group: authenticationv1.GroupName, Kind: "TokenRequest"}

func validateTokenRequest(r *authenticationv1.TokenRequest) error {
	path := field.NewPath("spec", "expirationSeconds")
	var errs field.ErrorList
	if *r.Spec.ExpirationSeconds < minTokenSeconds {
		errs = append(errs, field.Invalid(path, *r.Spec.ExpirationSeconds, "may not specify a duration less than 10 minutes"))
	}
	if *r.Spec.ExpirationSeconds > maxTokenSeconds {
		errs = append(errs, field.Invalid(path, *r.Spec.ExpirationSeconds, "may not specify a duration larger than 2^32 seconds"))
	}
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(tokenRequestKind, "", errs)
}

// boundObject finds what a token is to be bound to: it stops to be valid with
// that object.
func (a *API) boundObject(req *Request, ref *authenticationv1.BoundObjectReference) (kind.Object, error) {
	if ref == nil {
		return nil, nil
	}
	gvk := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind)
	var k *kind.Kind
	ns := req.Namespace
	switch gvk.GroupKind() {
	case kind.Pod.GVK().GroupKind():
		k = kind.Pod
	case kind.Secret.GVK().GroupKind():
		k = kind.Secret
	case kind.Node.GVK().GroupKind():
		k, ns = kind.Node, ""
	default:
		return nil, apierrors.NewBadRequest(fmt.Sprintf("cannot bind token to object of type %s", gvk))
	}
	obj, ok := a.state.Get(k, ns, ref.Name)
	if !ok {
		return nil, notFound(&Request{Kind: k, Name: ref.Name})
	}
	if pod, ok := obj.(*corev1.Pod); ok && pod.Spec.ServiceAccountName != req.Name {
		return nil, apierrors.NewBadRequest(fmt.Sprintf(
			"cannot bind token for serviceaccount %q to pod running with different serviceaccount name.", req.Name))
	}
	if ref.UID != "" && ref.UID != obj.GetUID() {
		return nil, apierrors.NewConflict(schema.GroupResource{Group: gvk.Group, Resource: gvk.Kind}, ref.Name, fmt.Errorf(
			"the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID))
	}
	return obj, nil
}
