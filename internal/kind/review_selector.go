package kind

import (
	"fmt"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// ReviewedSelectors returns the selectors that a review asks about. What makes no
// sense is left out, which asks for more and never for less; the problems say so.
func ReviewedSelectors(a *authorizationv1.ResourceAttributes) (fieldSelector, labelSelector string, problems []string) {
	ignored := func(name string, some, all bool) {
		switch path := "spec.resourceAttributes." + name; {
		case all:
			problems = append(problems, path+" ignored due to parse error")
		case some:
			problems = append(problems, path+" partially ignored due to parse error")
		}
	}
	if s := a.FieldSelector; s != nil {
		chosen, bad := reviewedFields(s)
		fieldSelector = chosen
		ignored("fieldSelector", bad, bad && chosen == "")
	}
	if s := a.LabelSelector; s != nil {
		chosen, bad := reviewedLabels(s)
		labelSelector = chosen
		ignored("labelSelector", bad, bad && chosen == "")
	}
	return fieldSelector, labelSelector, problems
}

// reviewedFields understands of the operators those that a selector in text has.
func reviewedFields(s *authorizationv1.FieldSelectorAttributes) (selector string, bad bool) {
	if s.RawSelector != "" {
		if _, err := fields.ParseSelector(s.RawSelector); err != nil {
			return "", true
		}
		return s.RawSelector, false
	}
	operators := map[metav1.FieldSelectorOperator]string{metav1.FieldSelectorOpIn: "=", metav1.FieldSelectorOpNotIn: "!="}
	var terms []string
	for _, r := range s.Requirements {
		if operators[r.Operator] == "" || len(r.Values) != 1 {
			bad = true
			continue
		}
		terms = append(terms, fmt.Sprintf("%s%s%s", r.Key, operators[r.Operator], fields.EscapeValue(r.Values[0])))
	}
	return strings.Join(terms, ","), bad
}

func reviewedLabels(s *authorizationv1.LabelSelectorAttributes) (selector string, bad bool) {
	if s.RawSelector != "" {
		if _, err := labels.Parse(s.RawSelector); err != nil {
			return "", true
		}
		return s.RawSelector, false
	}
	operators := map[metav1.LabelSelectorOperator]selection.Operator{
		metav1.LabelSelectorOpIn: selection.In, metav1.LabelSelectorOpNotIn: selection.NotIn,
		metav1.LabelSelectorOpExists: selection.Exists, metav1.LabelSelectorOpDoesNotExist: selection.DoesNotExist,
	}
	chosen := labels.NewSelector()
	for _, r := range s.Requirements {
		term, err := labels.NewRequirement(r.Key, operators[r.Operator], r.Values)
		if err != nil {
			bad = true
			continue
		}
		chosen = chosen.Add(*term)
	}
	return chosen.String(), bad
}
