package rest

import (
	"context"
	"net/http"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skiff-sh/skiff/internal/auth"
	"github.com/skiff-sh/skiff/internal/kind"
)

// reviewKind is a question to the API in the form of an object that can only
// be created and is never stored.
type reviewKind struct {
	resource   string
	kind       string
	namespaced bool
}

func (k reviewKind) singular() string { return strings.ToLower(k.kind) }

// reviewKinds are the questions of each group-version, by name.
var reviewKinds = map[groupVersion][]reviewKind{
	{"authentication.k8s.io", "v1"}: {
		{"selfsubjectreviews", "SelfSubjectReview", false},
		{"tokenreviews", "TokenReview", false},
	},
	{"authorization.k8s.io", "v1"}: {
		{"localsubjectaccessreviews", "LocalSubjectAccessReview", true},
		{"selfsubjectaccessreviews", "SelfSubjectAccessReview", false},
		{"selfsubjectrulesreviews", "SelfSubjectRulesReview", false},
		{"subjectaccessreviews", "SubjectAccessReview", false},
	},
}

// reviewer answers one kind of question.
type reviewer func(ctx context.Context, q *request, read func(runtime.Object) error) (runtime.Object, error)

func (h *Handler) newReviews() map[groupVersion]map[string]reviewer {
	return map[groupVersion]map[string]reviewer{
		{"authentication.k8s.io", "v1"}: {
			"selfsubjectreviews": h.selfSubjectReview,
			"tokenreviews":       h.tokenReview,
		},
		{"authorization.k8s.io", "v1"}: {
			"localsubjectaccessreviews": h.localSubjectAccessReview,
			"selfsubjectaccessreviews":  h.selfSubjectAccessReview,
			"selfsubjectrulesreviews":   h.selfSubjectRulesReview,
			"subjectaccessreviews":      h.subjectAccessReview,
		},
	}
}

// serveReview reads the question, has it answered, and sends the answer.
func (h *Handler) serveReview(w http.ResponseWriter, q *request, answer reviewer) {
	if q.verb != "create" || q.name != "" {
		h.fail(w, q.Request, methodNotAllowed())
		return
	}
	var gvk schema.GroupVersionKind
	for _, k := range reviewKinds[q.groupVersion] {
		if k.resource == q.resource {
			gvk = schema.GroupVersionKind{Group: q.group, Version: q.version, Kind: k.kind}
		}
	}
	obj, err := answer(q.Context(), q, func(into runtime.Object) error {
		return h.decode(w, q.Request, into, gvk, q.query.Get("fieldValidation"))
	})
	if err != nil {
		h.fail(w, q.Request, err)
		return
	}
	h.writeAny(w, q.Request, http.StatusCreated, obj, gvk)
}

func (h *Handler) selfSubjectReview(_ context.Context, q *request, read func(runtime.Object) error) (runtime.Object, error) {
	review := &authenticationv1.SelfSubjectReview{}
	if err := read(review); err != nil {
		return nil, err
	}
	review.CreationTimestamp = kind.Now()
	review.Status.UserInfo = userInfo(q.user)
	return review, nil
}

func (h *Handler) tokenReview(ctx context.Context, _ *request, read func(runtime.Object) error) (runtime.Object, error) {
	review := &authenticationv1.TokenReview{}
	if err := read(review); err != nil {
		return nil, err
	}
	if review.Spec.Token == "" {
		return nil, errors.NewBadRequest("token is required for TokenReview in authentication")
	}
	if h.Tokens == nil {
		review.Status.Error = "this server verifies no tokens"
		return review, nil
	}
	user, audiences, ok, err := h.Tokens(ctx, review.Spec.Token, review.Spec.Audiences)
	review.Status = authenticationv1.TokenReviewStatus{Authenticated: ok && err == nil}
	if err != nil {
		review.Status.Error = err.Error()
	}
	if review.Status.Authenticated {
		review.Status.User = userInfo(user)
		review.Status.Audiences = audiences
	}
	return review, nil
}

func userInfo(u auth.User) authenticationv1.UserInfo {
	info := authenticationv1.UserInfo{Username: u.Name, UID: u.UID, Groups: u.Groups}
	for key, values := range u.Extra {
		if info.Extra == nil {
			info.Extra = map[string]authenticationv1.ExtraValue{}
		}
		info.Extra[key] = values
	}
	return info
}

func (h *Handler) selfSubjectAccessReview(ctx context.Context, q *request, read func(runtime.Object) error) (runtime.Object, error) {
	review := &authorizationv1.SelfSubjectAccessReview{}
	if err := read(review); err != nil {
		return nil, err
	}
	spec := &review.Spec
	if err := oneAttribute("SelfSubjectAccessReview", spec.ResourceAttributes, spec.NonResourceAttributes, nil); err != nil {
		return nil, err
	}
	review.Status = h.mayThey(ctx, q.user, spec.ResourceAttributes, spec.NonResourceAttributes)
	return review, nil
}

func (h *Handler) subjectAccessReview(ctx context.Context, _ *request, read func(runtime.Object) error) (runtime.Object, error) {
	review := &authorizationv1.SubjectAccessReview{}
	if err := read(review); err != nil {
		return nil, err
	}
	if err := oneAttribute("SubjectAccessReview", review.Spec.ResourceAttributes, review.Spec.NonResourceAttributes, &review.Spec); err != nil {
		return nil, err
	}
	review.Status = h.mayThey(ctx, subject(&review.Spec), review.Spec.ResourceAttributes, review.Spec.NonResourceAttributes)
	return review, nil
}

func (h *Handler) localSubjectAccessReview(ctx context.Context, q *request, read func(runtime.Object) error) (runtime.Object, error) {
	review := &authorizationv1.LocalSubjectAccessReview{}
	if err := read(review); err != nil {
		return nil, err
	}
	attributes := review.Spec.ResourceAttributes
	if attributes == nil || attributes.Namespace != q.namespace {
		return nil, errors.NewBadRequest("spec.resourceAttributes.namespace must match namespace: " + q.namespace)
	}
	if err := oneAttribute("LocalSubjectAccessReview", attributes, review.Spec.NonResourceAttributes, &review.Spec); err != nil {
		return nil, err
	}
	review.Status = h.mayThey(ctx, subject(&review.Spec), attributes, nil)
	return review, nil
}

// oneAttribute checks that a review asks one question, and about someone.
func oneAttribute(kind string, resource *authorizationv1.ResourceAttributes, other *authorizationv1.NonResourceAttributes, who *authorizationv1.SubjectAccessReviewSpec) error {
	var errs field.ErrorList
	spec := field.NewPath("spec")
	if resource != nil && other != nil {
		errs = append(errs, field.Invalid(spec.Child("nonResourceAttributes"), other, `cannot be specified in combination with resourceAttributes`))
	}
	if resource == nil && other == nil {
		errs = append(errs, field.Invalid(spec.Child("resourceAttributes"), resource, `exactly one of nonResourceAttributes or resourceAttributes must be specified`))
	}
	if who != nil && who.User == "" && len(who.Groups) == 0 {
		errs = append(errs, field.Invalid(spec.Child("user"), who.User, `at least one of user or group must be specified`))
	}
	if len(errs) > 0 {
		return errors.NewInvalid(schema.GroupKind{Group: authorizationv1.GroupName, Kind: kind}, "", errs)
	}
	return nil
}

func subject(spec *authorizationv1.SubjectAccessReviewSpec) auth.User {
	u := auth.User{Name: spec.User, UID: spec.UID, Groups: spec.Groups}
	for key, values := range spec.Extra {
		if u.Extra == nil {
			u.Extra = map[string][]string{}
		}
		u.Extra[key] = values
	}
	return u
}

// mayThey asks the authorizer the review's question.
func (h *Handler) mayThey(ctx context.Context, user auth.User, resource *authorizationv1.ResourceAttributes, other *authorizationv1.NonResourceAttributes) authorizationv1.SubjectAccessReviewStatus {
	a := auth.Attributes{User: user}
	if resource != nil {
		a.Verb, a.Group, a.Version = resource.Verb, resource.Group, resource.Version
		a.Resource, a.Subresource = resource.Resource, resource.Subresource
		a.Namespace, a.Name = resource.Namespace, resource.Name
		if resource.FieldSelector != nil {
			a.FieldSelector = resource.FieldSelector.RawSelector
		}
		if resource.LabelSelector != nil {
			a.LabelSelector = resource.LabelSelector.RawSelector
		}
	} else {
		a.Verb, a.Path = strings.ToLower(other.Verb), other.Path
	}
	decision, reason, err := h.Authorizer.Authorize(ctx, a)
	status := authorizationv1.SubjectAccessReviewStatus{
		Allowed: decision == auth.Allow, Denied: decision == auth.Deny, Reason: reason,
	}
	if err != nil {
		status.EvaluationError = err.Error()
	}
	return status
}

// selfSubjectRulesReview tells all that is allowed to whoever may do all;
// others' rules cannot be listed, as upstream says of such authorizers.
func (h *Handler) selfSubjectRulesReview(ctx context.Context, q *request, read func(runtime.Object) error) (runtime.Object, error) {
	review := &authorizationv1.SelfSubjectRulesReview{}
	if err := read(review); err != nil {
		return nil, err
	}
	if review.Spec.Namespace == "" {
		return nil, errors.NewBadRequest("no namespace on request")
	}
	all := []string{"*"}
	status := &review.Status
	status.ResourceRules = []authorizationv1.ResourceRule{}
	status.NonResourceRules = []authorizationv1.NonResourceRule{}
	everything := auth.Attributes{User: q.user, Verb: "*", Group: "*", Version: "*", Resource: "*", Namespace: review.Spec.Namespace}
	if decision, _, _ := h.Authorizer.Authorize(ctx, everything); decision == auth.Allow {
		status.ResourceRules = append(status.ResourceRules, authorizationv1.ResourceRule{Verbs: all, APIGroups: all, Resources: all})
		status.NonResourceRules = append(status.NonResourceRules, authorizationv1.NonResourceRule{Verbs: all, NonResourceURLs: all})
		return review, nil
	}
	status.Incomplete = true
	status.EvaluationError = "the authorizer cannot list the rules of this user: ask with a SelfSubjectAccessReview instead"
	return review, nil
}
