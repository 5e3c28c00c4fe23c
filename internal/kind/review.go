package kind

import (
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Reviews are questions to the API in the form of objects that are created and
// never stored, in the order of discovery.
var Reviews = []*Kind{SelfSubjectReview, TokenReview, LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview}

// The reviews, and the request for a token, which is one of an account's parts.
var (
	SelfSubjectReview = review(authenticationv1.SchemeGroupVersion, "selfsubjectreviews", "SelfSubjectReview", func() Object { return &authenticationv1.SelfSubjectReview{} })
	TokenReview       = review(authenticationv1.SchemeGroupVersion, "tokenreviews", "TokenReview", func() Object { return &authenticationv1.TokenReview{} })
	TokenRequest      = review(authenticationv1.SchemeGroupVersion, "serviceaccounts", "TokenRequest", func() Object { return &authenticationv1.TokenRequest{} })

	SelfSubjectRulesReview = review(authorizationv1.SchemeGroupVersion, "selfsubjectrulesreviews", "SelfSubjectRulesReview", func() Object { return &authorizationv1.SelfSubjectRulesReview{} })

	SelfSubjectAccessReview = accessReview("selfsubjectaccessreviews", "SelfSubjectAccessReview", func() Object { return &authorizationv1.SelfSubjectAccessReview{} },
		func(obj Object) field.ErrorList {
			r := obj.(*authorizationv1.SelfSubjectAccessReview)
			return append(attributeErrors(r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes, nil), bareMetaErrors(r.ObjectMeta)...)
		})
	SubjectAccessReview = accessReview("subjectaccessreviews", "SubjectAccessReview", func() Object { return &authorizationv1.SubjectAccessReview{} },
		func(obj Object) field.ErrorList {
			r := obj.(*authorizationv1.SubjectAccessReview)
			return append(attributeErrors(r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes, &r.Spec), bareMetaErrors(r.ObjectMeta)...)
		})
	LocalSubjectAccessReview = accessReview("localsubjectaccessreviews", "LocalSubjectAccessReview", func() Object { return &authorizationv1.LocalSubjectAccessReview{} },
		func(obj Object) field.ErrorList {
			return localReviewErrors(obj.(*authorizationv1.LocalSubjectAccessReview))
		})
)

func review(gv schema.GroupVersion, resource, kind string, new func() Object) *Kind {
	return &Kind{Resource: gv.WithResource(resource), Kind: kind, New: new}
}

func accessReview(resource, kind string, new func() Object, validate func(Object) field.ErrorList) *Kind {
	k := review(authorizationv1.SchemeGroupVersion, resource, kind, new)
	k.Namespaced, k.Validate = kind == "LocalSubjectAccessReview", validate
	return k
}

// attributeErrors checks that a review asks one question, and about someone. who
// is nil where it is about whoever asks.
func attributeErrors(resource *authorizationv1.ResourceAttributes, other *authorizationv1.NonResourceAttributes, who *authorizationv1.SubjectAccessReviewSpec) field.ErrorList {
	var errs field.ErrorList
	spec := field.NewPath("spec")
	switch {
	case resource != nil && other != nil:
		errs = append(errs, field.Invalid(spec.Child("nonResourceAttributes"), untagged{other}, "cannot be specified in combination with resourceAttributes"))
	case resource == nil && other == nil:
		errs = append(errs, field.Invalid(spec.Child("resourceAttributes"), nil, "exactly one of nonResourceAttributes or resourceAttributes must be specified"))
	}
	if who != nil && who.User == "" && len(who.Groups) == 0 {
		errs = append(errs, field.Invalid(spec.Child("user"), who.User, "at least one of user or group must be specified"))
	}
	if resource == nil {
		return errs
	}
	path := spec.Child("resourceAttributes")
	if s := resource.FieldSelector; s != nil {
		at := path.Child("fieldSelector")
		errs = append(errs, selectorFormErrors(s.RawSelector, len(s.Requirements), at)...)
		for i, r := range s.Requirements {
			errs = append(errs, metav1validation.ValidateFieldSelectorRequirement(r, metav1validation.FieldSelectorValidationOptions{AllowUnknownOperatorInRequirement: true}, at.Child("requirements").Index(i))...)
		}
	}
	if s := resource.LabelSelector; s != nil {
		at := path.Child("labelSelector")
		errs = append(errs, selectorFormErrors(s.RawSelector, len(s.Requirements), at)...)
		for i, r := range s.Requirements {
			errs = append(errs, metav1validation.ValidateLabelSelectorRequirement(r, metav1validation.LabelSelectorValidationOptions{AllowUnknownOperatorInRequirement: true}, at.Child("requirements").Index(i))...)
		}
	}
	return errs
}

// selectorFormErrors demands either of the two forms of a selector.
func selectorFormErrors(raw string, requirements int, path *field.Path) field.ErrorList {
	switch {
	case raw != "" && requirements > 0:
		return field.ErrorList{field.Invalid(path.Child("rawSelector"), raw, "may not specified at the same time as requirements")}
	case raw == "" && requirements == 0:
		return field.ErrorList{field.Required(path.Child("requirements"), "when "+path.String()+" is specified, requirements or rawSelector is required")}
	}
	return nil
}

// bareMetaErrors lets a question have no metadata but the record of who owns what.
func bareMetaErrors(meta metav1.ObjectMeta) field.ErrorList {
	if isBare(meta) {
		return nil
	}
	return field.ErrorList{field.Invalid(metaPath(), meta, "must be empty")}
}

func isBare(meta metav1.ObjectMeta) bool {
	meta.ManagedFields = nil
	return equality.Semantic.DeepEqual(metav1.ObjectMeta{}, meta)
}

func localReviewErrors(r *authorizationv1.LocalSubjectAccessReview) field.ErrorList {
	resource, other := r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes
	errs := attributeErrors(resource, other, &r.Spec)
	meta := r.ObjectMeta
	if meta.Namespace = ""; !isBare(meta) {
		errs = append(errs, field.Invalid(metaPath(), r.ObjectMeta, "must be empty except for namespace"))
	}
	if resource != nil && resource.Namespace != r.Namespace {
		errs = append(errs, field.Invalid(field.NewPath("spec", "resourceAttributes", "namespace"), resource.Namespace, "must match metadata.namespace"))
	}
	if other != nil {
		errs = append(errs, field.Invalid(field.NewPath("spec", "nonResourceAttributes"), untagged{other}, "disallowed on this kind of request"))
	}
	return errs
}
