package api

import (
	"fmt"
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	runtimeschema "k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/structured-merge-diff/v6/typed"

	"github.com/skiff-sh/skiff/internal/api/schema"
	"github.com/skiff-sh/skiff/internal/kind"
)

// converter is what managedfields needs to know of a kind's versions. It tells
// objects by their Go types: those from the state may not name theirs.
type converter struct {
	kind    *kind.Kind
	types   *schema.Types
	group   string // of the request: versions of others are not known to it
	checked bool   // whether objects of Go types are looked at as well
}

// face returns how a group-version shows the kind, nil being as it is stored; ok
// is false where it does not.
func (c *converter) face(gv runtimeschema.GroupVersion) (f *kind.Face, ok bool) {
	if gv.Group != c.group {
		return nil, false
	}
	for i := range c.kind.Faces {
		if c.kind.Faces[i].Resource.GroupVersion() == gv {
			return &c.kind.Faces[i], true
		}
	}
	return nil, gv == c.kind.Resource.GroupVersion()
}

// empty returns an object of one of the kind's versions, nil if there is none.
func (c *converter) empty(gv runtimeschema.GroupVersion) kind.Object {
	f, ok := c.face(gv)
	if !ok {
		return nil
	}
	obj := c.kind.New()
	if f != nil {
		obj = f.New()
	}
	obj.GetObjectKind().SetGroupVersionKind(gv.WithKind(c.kind.Kind))
	return obj
}

// empty returns an empty object as the client speaks of it.
func (r *Request) empty() kind.Object {
	return (&converter{kind: r.Kind, group: r.version().Group}).empty(r.version())
}

// New is part of runtime.ObjectCreater.
func (c *converter) New(gvk runtimeschema.GroupVersionKind) (runtime.Object, error) {
	if obj := c.empty(gvk.GroupVersion()); obj != nil {
		return obj, nil
	}
	return nil, c.noVersion(gvk.GroupVersion())
}

func (c *converter) noVersion(gv runtimeschema.GroupVersion) error {
	return runtime.NewNotRegisteredErrForKind("skiff", gv.WithKind(c.kind.Kind))
}

// Default is part of runtime.ObjectDefaulter.
func (c *converter) Default(in runtime.Object) {
	if c.kind.Default != nil && reflect.TypeOf(in) == reflect.TypeOf(c.kind.New()) {
		c.kind.Default(in.(kind.Object))
	}
}

// ConvertToVersion is part of runtime.ObjectConvertor. It never changes in,
// which may be constant.
func (c *converter) ConvertToVersion(in runtime.Object, target runtime.GroupVersioner) (runtime.Object, error) {
	gv, ok := target.(runtimeschema.GroupVersion)
	if !ok {
		return nil, fmt.Errorf("convert %s: target %T is not a version", c.kind.Kind, target)
	}
	want := c.empty(gv)
	if want == nil {
		return nil, c.noVersion(gv)
	}
	if v, ok := in.(*versioned); ok {
		in = v.Object
	}
	if u, ok := in.(*unstructured.Unstructured); ok {
		obj := c.empty(u.GroupVersionKind().GroupVersion())
		if obj == nil {
			return nil, c.noVersion(u.GroupVersionKind().GroupVersion())
		}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, obj); err != nil {
			return nil, fmt.Errorf("unable to convert unstructured object to %v: %w", u.GroupVersionKind(), err)
		}
		in = obj
	}
	if reflect.TypeOf(in) == reflect.TypeOf(want) {
		return in, nil
	}
	return c.convert(in.(kind.Object), gv), nil
}

// convert brings an object of any of the versions to another one.
func (c *converter) convert(obj kind.Object, gv runtimeschema.GroupVersion) kind.Object {
	if f, _ := c.face(c.versionOf(obj)); f != nil {
		obj = f.ToStored(obj)
	}
	if f, _ := c.face(gv); f != nil {
		obj = f.FromStored(obj)
	}
	obj.GetObjectKind().SetGroupVersionKind(gv.WithKind(c.kind.Kind))
	return obj
}

// Convert is part of runtime.ObjectConvertor; managedfields does not use it.
func (c *converter) Convert(_, _, _ any) error {
	return fmt.Errorf("convert %s: only whole versions are converted", c.kind.Kind)
}

// ConvertFieldLabel is part of runtime.ObjectConvertor.
func (c *converter) ConvertFieldLabel(_ runtimeschema.GroupVersionKind, label, value string) (string, string, error) {
	return label, value, nil
}

// ObjectToTyped is part of managedfields.TypeConverter.
func (c *converter) ObjectToTyped(in runtime.Object, options ...typed.ValidationOptions) (*typed.TypedValue, error) {
	u, ok := in.(*unstructured.Unstructured)
	switch {
	case !ok && (c.checked || hasTemplateRecord(in)):
		return c.types.TypedChecked(in, options...)
	case !ok:
		return c.types.Typed(in)
	}
	like := c.empty(u.GroupVersionKind().GroupVersion())
	if like == nil {
		return nil, c.noVersion(u.GroupVersionKind().GroupVersion())
	}
	return c.types.TypedAs(like, u, options...)
}

// hasTemplateRecord reports whether an object's template has a record of its own.
// Clients may fill it with anything; its Go type says nothing of that.
func hasTemplateRecord(in runtime.Object) bool {
	if v, ok := in.(*versioned); ok {
		in = v.Object
	}
	spec := reflect.ValueOf(in).Elem().FieldByName("Spec")
	if spec.Kind() != reflect.Struct {
		return false
	}
	template := spec.FieldByName("Template")
	if template.Kind() != reflect.Struct {
		return false
	}
	t, ok := template.Addr().Interface().(metav1.Object)
	return ok && len(t.GetManagedFields()) > 0
}

// TypedToObject is part of managedfields.TypeConverter.
func (c *converter) TypedToObject(value *typed.TypedValue) (runtime.Object, error) {
	if obj, ok := schema.Object(value).(kind.Object); ok {
		return &versioned{obj, c.versionOf(obj).WithKind(c.kind.Kind)}, nil
	}
	content, ok := value.AsValue().Unstructured().(map[string]any)
	if !ok {
		return nil, fmt.Errorf("merged %s is a %T", c.kind.Kind, value.AsValue().Unstructured())
	}
	return &unstructured.Unstructured{Object: content}, nil
}

// versioned is an object that knows its type, though it may be constant and not
// name it.
type versioned struct {
	runtime.Object
	gvk runtimeschema.GroupVersionKind
}

func (v *versioned) GetObjectKind() runtimeschema.ObjectKind                { return v }
func (v *versioned) GroupVersionKind() runtimeschema.GroupVersionKind       { return v.gvk }
func (v *versioned) SetGroupVersionKind(gvk runtimeschema.GroupVersionKind) { v.gvk = gvk }

// versionOf returns the version of an object, told by its Go type.
func (c *converter) versionOf(obj kind.Object) runtimeschema.GroupVersion {
	for i := range c.kind.Faces {
		if f := &c.kind.Faces[i]; reflect.TypeOf(f.New()) == reflect.TypeOf(obj) {
			return f.Resource.GroupVersion()
		}
	}
	return c.kind.Resource.GroupVersion()
}
