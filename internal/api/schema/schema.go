// Package schema tells which parts of an object belong together when several
// managers own fields of it: what merges, what is replaced as a whole, and what
// distinguishes the items of a list. Structured-merge-diff asks for it.
//
// Types makes the schema of a kind out of its Go type when it is first needed,
// so that a server pays only for the kinds it writes. What Go types do not say is
// in merge.txt. The invariant: both together say the same as the schema that
// upstream generates, which a test compares. The package never looks at values.
package schema

import (
	"fmt"
	"reflect"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/structured-merge-diff/v6/schema"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// Types has the schemas of objects by their Go types. The zero value is ready,
// and it is safe for concurrent use.
type Types struct {
	mu      sync.Mutex // guards all below
	rules   rules
	structs map[reflect.Type]*structure
	roots   map[reflect.Type]typed.ParseableType
}

// structure is what is known of a struct.
type structure struct {
	def  schema.TypeDef
	uses []reflect.Type // the structs that its fields refer to by name
}

// Typed returns obj, a pointer to a struct of the API, with its schema. It is not
// looked at: its Go type is right, and the items of lists may be there twice.
func (t *Types) Typed(obj any) (*typed.TypedValue, error) {
	v, err := value.NewValueReflect(obj)
	if err != nil {
		return nil, err
	}
	p := t.of(reflect.TypeOf(obj).Elem())
	return typed.AsTypedUnvalidated(structured{v, obj}, p.Schema, p.TypeRef), nil
}

// TypedChecked is Typed for one that is looked at: all items of its lists must be
// told apart by their keys.
func (t *Types) TypedChecked(obj any, options ...typed.ValidationOptions) (*typed.TypedValue, error) {
	v, err := t.Typed(obj)
	if err != nil {
		return nil, err
	}
	return typed.AsTyped(v.AsValue(), v.Schema(), v.TypeRef(), options...)
}

// structured is a value that still knows of which object it is.
type structured struct {
	value.Value
	object any
}

// Object returns the object that was given to Typed, nil for what was made of it
// since.
func Object(v *typed.TypedValue) any {
	if s, ok := v.AsValue().(structured); ok {
		return s.object
	}
	return nil
}

// TypedAs returns an unstructured object with the schema of the type that like
// points to.
func (t *Types) TypedAs(like any, u *unstructured.Unstructured, options ...typed.ValidationOptions) (*typed.TypedValue, error) {
	return t.of(reflect.TypeOf(like).Elem()).FromUnstructured(u.Object, options...)
}

// of returns the schema of a type, which is made when it is first asked for.
func (t *Types) of(root reflect.Type) typed.ParseableType {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p, ok := t.roots[root]; ok {
		return p
	}
	if t.structs == nil {
		t.rules = parseRules(mergeRules)
		t.structs = map[reflect.Type]*structure{}
		t.roots = map[reflect.Type]typed.ParseableType{}
	}
	name := modelName(root)
	t.structure(root)
	p := typed.ParseableType{
		Schema:  &schema.Schema{Types: t.reachable(root, nil, map[reflect.Type]bool{})},
		TypeRef: schema.TypeRef{NamedType: &name},
	}
	t.roots[root] = p
	return p
}

// reachable appends a struct and those it refers to.
func (t *Types) reachable(of reflect.Type, all []schema.TypeDef, seen map[reflect.Type]bool) []schema.TypeDef {
	if seen[of] {
		return all
	}
	seen[of] = true
	s := t.structs[of]
	all = append(all, s.def)
	for _, used := range s.uses {
		all = t.reachable(used, all, seen)
	}
	return all
}

// modelName is what OpenAPI documents call a type.
func modelName(t reflect.Type) string {
	if named, ok := reflect.New(t).Interface().(interface{ OpenAPIModelName() string }); ok {
		return named.OpenAPIModelName()
	}
	return t.String()
}

func scalar(s schema.Scalar) schema.Atom { return schema.Atom{Scalar: &s} }

// whole are types whose encoding is one value, whatever they consist of.
var whole = map[reflect.Type]schema.Scalar{
	reflect.TypeFor[metav1.Time]():        schema.Untyped,
	reflect.TypeFor[metav1.MicroTime]():   schema.Untyped,
	reflect.TypeFor[metav1.Duration]():    schema.Untyped,
	reflect.TypeFor[resource.Quantity]():  schema.Untyped,
	reflect.TypeFor[intstr.IntOrString](): schema.Untyped,
}

// ref returns the schema of a type as it is where no rule says otherwise. Structs
// are referred to by name: names are compared faster than what they stand for. The
// caller holds mu.
func (t *Types) ref(user *structure, of reflect.Type) schema.TypeRef {
	if s, ok := whole[of]; ok {
		return inlined(scalar(s))
	}
	if of == reflect.TypeFor[metav1.FieldsV1]() || of == reflect.TypeFor[runtime.RawExtension]() {
		return inlined(anyMap())
	}
	switch of.Kind() {
	case reflect.Pointer:
		return t.ref(user, of.Elem())
	case reflect.String:
		return inlined(scalar(schema.String))
	case reflect.Bool:
		return inlined(scalar(schema.Boolean))
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Float32, reflect.Float64:
		return inlined(scalar(schema.Numeric))
	case reflect.Slice:
		if of.Elem().Kind() == reflect.Uint8 {
			return inlined(scalar(schema.String)) // base64
		}
		return inlined(schema.Atom{List: &schema.List{ElementType: t.ref(user, of.Elem()), ElementRelationship: schema.Atomic}})
	case reflect.Map:
		return inlined(schema.Atom{Map: &schema.Map{ElementType: t.ref(user, of.Elem())}})
	case reflect.Struct:
		user.uses = append(user.uses, of)
		name := t.structure(of).def.Name
		return schema.TypeRef{NamedType: &name}
	}
	panic(fmt.Sprintf("schema of %s: %s has no place in the API", of, of.Kind()))
}

func inlined(a schema.Atom) schema.TypeRef { return schema.TypeRef{Inlined: a} }

// structure returns what is known of a struct. It is known before its fields are,
// which may refer to it.
func (t *Types) structure(of reflect.Type) *structure {
	if s, ok := t.structs[of]; ok {
		return s
	}
	m := &schema.Map{}
	s := &structure{def: schema.TypeDef{Name: modelName(of), Atom: schema.Atom{Map: m}}}
	t.structs[of] = s
	if t.rules[field{s.def.Name, itself}].atomic {
		m.ElementRelationship = schema.Atomic
	}
	t.addFields(s, of)
	return s
}

// addFields adds the fields of a struct, those of embedded ones as its own.
func (t *Types) addFields(s *structure, of reflect.Type) {
	for i := range of.NumField() {
		f := of.Field(i)
		key, flags, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case key == "-" || !f.IsExported():
		case strings.Contains(flags, "inline") || f.Anonymous && key == "":
			t.addFields(s, f.Type)
		case key != "":
			r := t.rules[field{s.def.Name, key}]
			s.def.Map.Fields = append(s.def.Map.Fields, schema.StructField{
				Name: key, Type: r.applied(t.ref(s, f.Type)), Default: r.standard,
			})
		}
	}
}

// anyMap is a map of anything.
func anyMap() schema.Atom {
	atomic := schema.Atom{}
	atomicRef := func() schema.TypeRef { return schema.TypeRef{Inlined: atomic} }
	untyped := schema.Untyped
	list := &schema.List{ElementRelationship: schema.Atomic}
	inner := &schema.Map{ElementRelationship: schema.Atomic}
	atomic = schema.Atom{Scalar: &untyped, List: list, Map: inner}
	list.ElementType, inner.ElementType = atomicRef(), atomicRef()
	deduced := &schema.Map{ElementRelationship: schema.Separable}
	any := schema.Atom{Scalar: &untyped, List: &schema.List{ElementType: atomicRef(), ElementRelationship: schema.Atomic}, Map: deduced}
	deduced.ElementType = schema.TypeRef{Inlined: any}
	return schema.Atom{Map: &schema.Map{ElementType: schema.TypeRef{Inlined: any}}}
}
