package rest

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/skiff-sh/skiff/internal/auth"
	"github.com/skiff-sh/skiff/internal/kind"
)

// reviewKind is a question to the API in the form of an object that can only
// be created and is never stored.
type reviewKind struct {
	asks       *kind.Kind
	resource   string
	kind       string
	namespaced bool
}

func (k reviewKind) singular() string { return strings.ToLower(k.kind) }

// reviewKinds are the questions of each group-version, by name.
var reviewKinds = reviewsByVersion()

func reviewsByVersion() map[groupVersion][]reviewKind {
	all := map[groupVersion][]reviewKind{}
	for _, k := range kind.Reviews {
		gv := groupVersion{k.Resource.Group, k.Resource.Version}
		all[gv] = append(all[gv], reviewKind{asks: k, resource: k.Resource.Resource, kind: k.Kind, namespaced: k.Namespaced})
	}
	return all
}

// reviewer answers one kind of question.
type reviewer func(ctx context.Context, q *request, asked kind.Object) (runtime.Object, error)

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

// serveReview has a question answered, and sends the answer.
func (h *Handler) serveReview(w http.ResponseWriter, q *request, answer reviewer) {
	obj, err := h.review(w, q, answer)
	if err != nil {
		h.fail(w, q.Request, err)
		return
	}
	h.writeAny(w, q.Request, http.StatusCreated, obj, q.res.gvk)
}

func (h *Handler) review(w http.ResponseWriter, q *request, answer reviewer) (runtime.Object, error) {
	kinds := reviewKinds[q.groupVersion]
	k := kinds[slices.IndexFunc(kinds, func(k reviewKind) bool { return k.resource == q.resource })].asks
	switch {
	case q.name != "" || k.Namespaced != (q.namespace != ""):
		return nil, noSuchResource()
	case q.verb != "create":
		return nil, methodNotAllowed()
	}
	q.res = &resource{kind: k, gvr: k.Resource, gvk: k.GVK()}
	asked := k.New()
	r, err := h.readCreate(w, q, asked, k.GVK())
	if err != nil {
		return nil, err
	}
	if err := h.API.Ask(r, asked); err != nil {
		return nil, err
	}
	return answer(q.Context(), q, asked)
}

// selfSubjectReview tells who asks, and nothing of how they asked.
func (h *Handler) selfSubjectReview(_ context.Context, q *request, _ kind.Object) (runtime.Object, error) {
	return &authenticationv1.SelfSubjectReview{
		ObjectMeta: metav1.ObjectMeta{CreationTimestamp: kind.Now()},
		Status:     authenticationv1.SelfSubjectReviewStatus{UserInfo: userInfo(q.user)},
	}, nil
}

// errBadToken is what upstream says of every token that nobody vouches for.
const errBadToken = "invalid bearer token"

func (h *Handler) tokenReview(ctx context.Context, _ *request, asked kind.Object) (runtime.Object, error) {
	review := asked.(*authenticationv1.TokenReview)
	if review.Spec.Token == "" {
		return nil, errors.NewBadRequest("token is required for TokenReview in authentication")
	}
	status := &review.Status // keeps what else the asker put there, as upstream's does
	status.Authenticated = false
	if h.Tokens == nil {
		status.Error = "this server verifies no tokens"
		return review, nil
	}
	user, audiences, ok, err := h.Tokens(ctx, review.Spec.Token, review.Spec.Audiences)
	switch {
	case err != nil:
		status.Error = fmt.Sprintf("[%s, %v]", errBadToken, err)
	case !ok:
		status.Error = errBadToken
	default:
		status.Authenticated, status.User, status.Audiences = true, userInfo(user), audiences
		if groups := status.User.Groups; !slices.Contains(groups, auth.GroupAuthenticated) {
			status.User.Groups = append(slices.Clone(groups), auth.GroupAuthenticated)
		}
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

func (h *Handler) selfSubjectAccessReview(ctx context.Context, q *request, asked kind.Object) (runtime.Object, error) {
	review := asked.(*authorizationv1.SelfSubjectAccessReview)
	review.Status = h.mayThey(ctx, q.user, review.Spec.ResourceAttributes, review.Spec.NonResourceAttributes)
	return review, nil
}

func (h *Handler) subjectAccessReview(ctx context.Context, _ *request, asked kind.Object) (runtime.Object, error) {
	review := asked.(*authorizationv1.SubjectAccessReview)
	review.Status = h.mayThey(ctx, subject(&review.Spec), review.Spec.ResourceAttributes, review.Spec.NonResourceAttributes)
	return review, nil
}

func (h *Handler) localSubjectAccessReview(ctx context.Context, _ *request, asked kind.Object) (runtime.Object, error) {
	review := asked.(*authorizationv1.LocalSubjectAccessReview)
	review.Status = h.mayThey(ctx, subject(&review.Spec), review.Spec.ResourceAttributes, nil)
	return review, nil
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
	var problems []string
	if resource != nil {
		a.Verb, a.Group, a.Version = resource.Verb, resource.Group, resource.Version
		a.Resource, a.Subresource = resource.Resource, resource.Subresource
		a.Namespace, a.Name = resource.Namespace, resource.Name
		a.FieldSelector, a.LabelSelector, problems = kind.ReviewedSelectors(resource)
	} else {
		a.Verb, a.Path = strings.ToLower(other.Verb), other.Path
	}
	decision, reason, err := h.Authorizer.Authorize(ctx, a)
	status := authorizationv1.SubjectAccessReviewStatus{
		Allowed: decision == auth.Allow, Denied: decision == auth.Deny, Reason: reason,
	}
	if err != nil {
		problems = append([]string{err.Error()}, problems...)
	}
	status.EvaluationError = strings.Join(problems, "; ")
	return status
}

// selfSubjectRulesReview tells all that is allowed to whoever may do all;
// others' rules cannot be listed, as upstream says of such authorizers.
func (h *Handler) selfSubjectRulesReview(ctx context.Context, q *request, asked kind.Object) (runtime.Object, error) {
	namespace := asked.(*authorizationv1.SelfSubjectRulesReview).Spec.Namespace
	if namespace == "" {
		return nil, errors.NewBadRequest("no namespace on request")
	}
	review := &authorizationv1.SelfSubjectRulesReview{}
	all := []string{"*"}
	status := &review.Status
	status.ResourceRules = []authorizationv1.ResourceRule{}
	status.NonResourceRules = []authorizationv1.NonResourceRule{}
	everything := auth.Attributes{User: q.user, Verb: "*", Group: "*", Version: "*", Resource: "*", Namespace: namespace}
	if decision, _, _ := h.Authorizer.Authorize(ctx, everything); decision == auth.Allow {
		status.ResourceRules = append(status.ResourceRules, authorizationv1.ResourceRule{Verbs: all, APIGroups: all, Resources: all})
		status.NonResourceRules = append(status.NonResourceRules, authorizationv1.NonResourceRule{Verbs: all, NonResourceURLs: all})
		return review, nil
	}
	status.Incomplete = true
	status.EvaluationError = "the authorizer cannot list the rules of this user: ask with a SelfSubjectAccessReview instead"
	return review, nil
}
