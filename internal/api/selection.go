package api

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

// ListOptions are those of lists, watches and collections' deletions.
type ListOptions = metav1.ListOptions

const (
	fieldName      = "metadata.name"
	fieldNamespace = "metadata.namespace"
	fieldNodeName  = "spec.nodeName"
)

// selected is which objects of a kind a request is about.
type selected struct {
	kind   *kind.Kind
	in     state.Interest // what an index finds
	labels labels.Selector
	fields fields.Selector
	// requirements are those of fields: asking it makes a copy each time.
	requirements fields.Requirements
}

// selects reads the selectors and checks the options. What cannot be read is told
// before what does not fit together, and that before fields that do not exist.
func (a *API) selects(req *Request, options *ListOptions, watch bool) (*selected, error) {
	s := &selected{kind: req.Kind, labels: labels.Everything(), fields: fields.Everything()}
	s.in.Namespace = req.namespace()
	s.in.Name = req.Name
	var err error
	if options.LabelSelector != "" {
		if s.labels, err = labels.Parse(options.LabelSelector); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
	}
	if s.fields, err = fields.ParseSelector(options.FieldSelector); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if err := validateOptions(options, watch); err != nil {
		return nil, err
	}
	if s.fields.Empty() {
		return s, nil
	}
	if s.fields, err = storedFields(req.Face, s.fields); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	s.requirements = s.fields.Requirements()
	for _, r := range s.requirements {
		if err := s.supports(r.Field); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		if r.Operator == selection.Equals || r.Operator == selection.DoubleEquals {
			s.narrow(r.Field, r.Value)
		}
	}
	if name, _ := s.fields.RequiresExactMatch(fieldName); req.Name != "" && name != req.Name {
		return nil, apierrors.NewBadRequest("fieldSelector metadata.name doesn't match requested name")
	}
	return s, nil
}

// Selectable says what is wrong with the options of a list, before it is made.
func (a *API) Selectable(req Request, options ListOptions) error {
	_, err := a.selects(&req, &options, false)
	return err
}

// one reports whether the options are about a single object, which upstream's
// storage reads by its key: not in pages, and at a revision only where that is said.
func (s *selected) one(options *ListOptions) bool {
	return options.Continue == "" && s.in.Name != "" && (s.in.Namespace != "" || !s.kind.Namespaced) &&
		len(path.IsValidPathSegmentName(s.in.Name)) == 0
}

// storedFields puts the kind's names of fields in the place of those of a face.
func storedFields(f *kind.Face, selector fields.Selector) (fields.Selector, error) {
	if f == nil || f.FieldNames == nil {
		return selector, nil
	}
	return selector.Transform(func(name, value string) (string, string, error) {
		if stored, ok := f.FieldNames[name]; ok {
			return stored, value, nil
		}
		if name != fieldName && name != fieldNamespace {
			return "", "", unsupportedField(name)
		}
		return name, value, nil
	})
}

func unsupportedField(name string) error { return fmt.Errorf("field label not supported: %s", name) }

// supports is told differently of kinds that have fields of their own. Upstream
// lets those that have none be asked for a namespace even where there is none.
func (s *selected) supports(name string) error {
	own := len(s.kind.FieldNames) > 0
	switch {
	case name == fieldName, name == fieldNamespace && (s.kind.Namespaced || !own), slices.Contains(s.kind.FieldNames, name):
		return nil
	case !own:
		return fmt.Errorf("%q is not a known field selector: only %q, %q", name, fieldName, fieldNamespace)
	}
	return unsupportedField(name)
}

// narrow uses a field that must have one value to read less. The value stays
// among the requirements, so it need not be used.
func (s *selected) narrow(name, value string) {
	switch {
	case value == "":
	case name == fieldName && s.in.Name == "":
		s.in.Name = value
	case name == fieldNamespace && s.in.Namespace == "":
		s.in.Namespace = value
	case name == fieldNodeName && s.kind == kind.Pod:
		s.in.NodeName = value
	}
}

// everything reports whether all objects that the index finds are selected.
func (s *selected) everything() bool { return s.labels.Empty() && s.fields.Empty() }

func (s *selected) matches(obj kind.Object) bool {
	if !s.labels.Empty() && !s.labels.Matches(labels.Set(obj.GetLabels())) {
		return false
	}
	if s.fields.Empty() {
		return true
	}
	var set fields.Set
	for _, r := range s.requirements {
		value, common := commonField(obj, r.Field)
		if !common {
			if set == nil {
				set = s.kind.Fields(obj)
			}
			value = set[r.Field]
		}
		if (value == r.Value) != (r.Operator != selection.NotEquals) {
			return false
		}
	}
	return true
}

// commonField returns the fields that are asked for most without making a set
// of all.
func commonField(obj kind.Object, name string) (value string, ok bool) {
	switch name {
	case fieldName:
		return obj.GetName(), true
	case fieldNamespace:
		return obj.GetNamespace(), true
	case fieldNodeName:
		if pod, ok := obj.(*corev1.Pod); ok {
			return pod.Spec.NodeName, true
		}
	}
	return "", false
}
