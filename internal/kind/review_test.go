package kind

import (
	"slices"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Every row is one rule of what a question must be.
func TestReviewRules(t *testing.T) {
	type attributes = authorizationv1.ResourceAttributes
	pods := &attributes{Resource: "pods", Verb: "get"}
	path := &authorizationv1.NonResourceAttributes{Path: "/version", Verb: "get"}
	own := func(resource *attributes, other *authorizationv1.NonResourceAttributes) Object {
		return &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: resource, NonResourceAttributes: other}}
	}
	byFields := func(s authorizationv1.FieldSelectorAttributes) Object {
		return own(&attributes{FieldSelector: &s}, nil)
	}
	byLabels := func(s authorizationv1.LabelSelectorAttributes) Object {
		return own(&attributes{LabelSelector: &s}, nil)
	}
	local := func(namespace string, s authorizationv1.SubjectAccessReviewSpec) Object {
		return &authorizationv1.LocalSubjectAccessReview{ObjectMeta: metav1.ObjectMeta{Namespace: namespace}, Spec: s}
	}
	for _, c := range []struct {
		rule string
		kind *Kind
		obj  Object
		want []string
	}{
		{"a resource", SelfSubjectAccessReview, own(pods, nil), nil},
		{"a path", SelfSubjectAccessReview, own(nil, path), nil},
		{"not both", SelfSubjectAccessReview, own(pods, path), []string{"spec.nonResourceAttributes"}},
		{"either", SelfSubjectAccessReview, own(nil, nil), []string{"spec.resourceAttributes"}},
		{"metadata is bare", SelfSubjectAccessReview, &authorizationv1.SelfSubjectAccessReview{
			ObjectMeta: metav1.ObjectMeta{Name: "x"}, Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: pods},
		}, []string{"metadata"}},
		{"the record may be there", SelfSubjectAccessReview, &authorizationv1.SelfSubjectAccessReview{
			ObjectMeta: metav1.ObjectMeta{ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "m"}}}, Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: pods},
		}, nil},
		{"a selector of fields, in text", SelfSubjectAccessReview, byFields(authorizationv1.FieldSelectorAttributes{RawSelector: "a=b"}), nil},
		{"a selector of fields has something", SelfSubjectAccessReview, byFields(authorizationv1.FieldSelectorAttributes{}), []string{"spec.resourceAttributes.fieldSelector.requirements"}},
		{"a selector of fields has one form", SelfSubjectAccessReview, byFields(authorizationv1.FieldSelectorAttributes{
			RawSelector: "a=b", Requirements: []metav1.FieldSelectorRequirement{{Key: "a", Operator: metav1.FieldSelectorOpExists}},
		}), []string{"spec.resourceAttributes.fieldSelector.rawSelector"}},
		{"a requirement of fields is checked", SelfSubjectAccessReview, byFields(authorizationv1.FieldSelectorAttributes{
			Requirements: []metav1.FieldSelectorRequirement{{Key: "a", Operator: metav1.FieldSelectorOpIn}},
		}), []string{"spec.resourceAttributes.fieldSelector.requirements[0].values"}},
		{"operators to come are let be", SelfSubjectAccessReview, byFields(authorizationv1.FieldSelectorAttributes{
			Requirements: []metav1.FieldSelectorRequirement{{Key: "a", Operator: "Like"}},
		}), nil},
		{"a selector of labels has something", SelfSubjectAccessReview, byLabels(authorizationv1.LabelSelectorAttributes{}), []string{"spec.resourceAttributes.labelSelector.requirements"}},
		{"a selector of labels has one form", SelfSubjectAccessReview, byLabels(authorizationv1.LabelSelectorAttributes{
			RawSelector: "a=b", Requirements: []metav1.LabelSelectorRequirement{{Key: "a", Operator: metav1.LabelSelectorOpExists}},
		}), []string{"spec.resourceAttributes.labelSelector.rawSelector"}},
		{"a requirement of labels is checked", SelfSubjectAccessReview, byLabels(authorizationv1.LabelSelectorAttributes{
			Requirements: []metav1.LabelSelectorRequirement{{Key: "a", Operator: metav1.LabelSelectorOpIn}},
		}), []string{"spec.resourceAttributes.labelSelector.requirements[0].values"}},
		{"about someone", SubjectAccessReview, &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{ResourceAttributes: pods}}, []string{"spec.user"}},
		{"about a group", SubjectAccessReview, &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{Groups: []string{"g"}, ResourceAttributes: pods}}, nil},
		{"one namespace", LocalSubjectAccessReview, local("ns", authorizationv1.SubjectAccessReviewSpec{User: "u", ResourceAttributes: pods}), []string{"spec.resourceAttributes.namespace"}},
		{"the namespace", LocalSubjectAccessReview, local("ns", authorizationv1.SubjectAccessReviewSpec{User: "u", ResourceAttributes: &attributes{Namespace: "ns"}}), nil},
		{"no path has a namespace", LocalSubjectAccessReview, local("ns", authorizationv1.SubjectAccessReviewSpec{User: "u", NonResourceAttributes: path}), []string{"spec.nonResourceAttributes"}},
	} {
		var got []string
		for _, err := range c.kind.Validate(c.obj) {
			got = append(got, err.Field)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: errors at %q, want %q", c.rule, got, c.want)
		}
	}
}

// What makes no sense in a selector is left out, and said.
func TestReviewedSelectors(t *testing.T) {
	fieldsOf := func(s authorizationv1.FieldSelectorAttributes) *authorizationv1.ResourceAttributes {
		return &authorizationv1.ResourceAttributes{FieldSelector: &s}
	}
	labelsOf := func(s authorizationv1.LabelSelectorAttributes) *authorizationv1.ResourceAttributes {
		return &authorizationv1.ResourceAttributes{LabelSelector: &s}
	}
	const (
		allFields  = "spec.resourceAttributes.fieldSelector ignored due to parse error"
		someFields = "spec.resourceAttributes.fieldSelector partially ignored due to parse error"
		allLabels  = "spec.resourceAttributes.labelSelector ignored due to parse error"
	)
	for _, c := range []struct {
		asked          *authorizationv1.ResourceAttributes
		fields, labels string
		problems       []string
	}{
		{asked: fieldsOf(authorizationv1.FieldSelectorAttributes{RawSelector: "a=b"}), fields: "a=b"},
		{asked: fieldsOf(authorizationv1.FieldSelectorAttributes{RawSelector: "a"}), problems: []string{allFields}},
		{asked: fieldsOf(authorizationv1.FieldSelectorAttributes{Requirements: []metav1.FieldSelectorRequirement{
			{Key: "a", Operator: metav1.FieldSelectorOpIn, Values: []string{"b"}}, {Key: "c", Operator: metav1.FieldSelectorOpExists},
		}}), fields: "a=b", problems: []string{someFields}},
		{asked: labelsOf(authorizationv1.LabelSelectorAttributes{RawSelector: "a in (b,c)"}), labels: "a in (b,c)"},
		{asked: labelsOf(authorizationv1.LabelSelectorAttributes{RawSelector: "a in"}), problems: []string{allLabels}},
		{asked: labelsOf(authorizationv1.LabelSelectorAttributes{Requirements: []metav1.LabelSelectorRequirement{
			{Key: "a", Operator: metav1.LabelSelectorOpDoesNotExist},
		}}), labels: "!a"},
	} {
		f, l, problems := ReviewedSelectors(c.asked)
		if f != c.fields || l != c.labels || !slices.Equal(problems, c.problems) {
			t.Errorf("%v: fields %q, labels %q, problems %q, want %q, %q, %q", c.asked, f, l, problems, c.fields, c.labels, c.problems)
		}
	}
}
