package schema

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"k8s.io/client-go/applyconfigurations"
	"sigs.k8s.io/structured-merge-diff/v6/schema"

	"github.com/skiff-sh/skiff/internal/kind"
)

var update = flag.Bool("update", false, "write merge.txt anew")

// TestSchemasAreUpstreams compares the schemas of all kinds with those that
// upstream generated for its clients.
func TestSchemasAreUpstreams(t *testing.T) {
	upstream := applyconfigurations.NewTypeConverter(kind.Scheme())
	found := comparison{seen: map[reflect.Type]bool{}}
	for _, obj := range objects() {
		theirs, err := upstream.ObjectToTyped(obj)
		if err != nil {
			t.Fatalf("%T: %v", obj, err)
		}
		found.rulesOf(reflect.TypeOf(obj).Elem(), theirs.Schema(), theirs.TypeRef())
	}
	slices.Sort(found.lines)
	text := strings.Join(slices.Compact(found.lines), "\n") + "\n"
	if *update {
		if err := os.WriteFile("merge.txt", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if text != mergeRules {
		t.Errorf("merge.txt is not what upstream's schemas say: run go test ./internal/api/schema -update")
	}
	var types Types
	for _, obj := range objects() {
		theirs, err := upstream.ObjectToTyped(obj)
		if err != nil {
			t.Fatal(err)
		}
		ours, err := types.Typed(obj)
		if err != nil {
			t.Fatalf("%T: %v", obj, err)
		}
		c := checker{t: t, ours: ours.Schema(), theirs: theirs.Schema(), seen: map[string]bool{}}
		c.check(fmt.Sprintf("%T", obj), ours.TypeRef(), theirs.TypeRef())
	}
}

// objects are one of each type whose fields have owners.
func objects() []kind.Object {
	var all []kind.Object
	for _, k := range kind.All {
		all = append(all, withType(k.New(), k.Resource.GroupVersion().String(), k.Kind))
		for _, f := range k.Faces {
			all = append(all, withType(f.New(), f.Resource.GroupVersion().String(), k.Kind))
		}
	}
	return all
}

func withType(obj kind.Object, apiVersion, name string) kind.Object {
	v := reflect.ValueOf(obj).Elem().FieldByName("TypeMeta")
	v.FieldByName("APIVersion").SetString(apiVersion)
	v.FieldByName("Kind").SetString(name)
	return obj
}

// comparison collects the rules that Go types need to say what upstream's
// schema says.
type comparison struct {
	lines []string
	seen  map[reflect.Type]bool
}

func (c *comparison) rulesOf(of reflect.Type, s *schema.Schema, ref schema.TypeRef) {
	for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice || of.Kind() == reflect.Map {
		of = of.Elem()
	}
	if _, scalar := whole[of]; scalar || of.Kind() != reflect.Struct || c.seen[of] {
		return
	}
	c.seen[of] = true
	atom, _ := s.Resolve(ref)
	if atom.Map == nil || len(atom.Map.Fields) == 0 {
		return
	}
	name := modelName(of)
	if base, ok := s.Resolve(schema.TypeRef{NamedType: ref.NamedType}); ok && base.Map != nil && base.Map.ElementRelationship == schema.Atomic {
		c.lines = append(c.lines, name+" . atomic")
	}
	c.fieldsOf(name, of, s, atom.Map)
}

func (c *comparison) fieldsOf(name string, of reflect.Type, s *schema.Schema, m *schema.Map) {
	for i := range of.NumField() {
		f := of.Field(i)
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if key == "" {
			c.fieldsOf(name, f.Type, s, m)
			continue
		}
		theirs, ok := m.FindField(key)
		if !ok {
			continue
		}
		c.field(name+" "+key, theirs.Type, s)
		atom, _ := s.Resolve(theirs.Type)
		next := theirs.Type
		switch {
		case atom.List != nil && atom.Scalar == nil:
			next = atom.List.ElementType
		case atom.Map != nil && len(atom.Map.Fields) == 0:
			next = atom.Map.ElementType
		}
		c.rulesOf(f.Type, s, next)
	}
}

func (c *comparison) field(at string, ref schema.TypeRef, s *schema.Schema) {
	atom, _ := s.Resolve(ref)
	switch {
	case atom.Scalar != nil:
	case atom.List != nil && atom.List.ElementRelationship == schema.Associative && len(atom.List.Keys) == 0:
		c.lines = append(c.lines, at+" set")
	case atom.List != nil && atom.List.ElementRelationship == schema.Associative:
		c.lines = append(c.lines, at+" map "+strings.Join(atom.List.Keys, " "))
		item, _ := s.Resolve(atom.List.ElementType)
		for _, k := range atom.List.Keys {
			if f, _ := item.Map.FindField(k); f.Default != nil {
				data, _ := json.Marshal(f.Default)
				c.lines = append(c.lines, fmt.Sprintf("%s %s default %s", *atom.List.ElementType.NamedType, k, data))
			}
		}
	case atom.Map != nil && atom.Map.ElementRelationship == schema.Atomic:
		base, _ := s.Resolve(schema.TypeRef{NamedType: ref.NamedType})
		if ref.NamedType == nil || base.Map.ElementRelationship != schema.Atomic {
			c.lines = append(c.lines, at+" atomic")
		}
	}
}

// checker compares two schemas from the same root.
type checker struct {
	t            *testing.T
	ours, theirs *schema.Schema
	seen         map[string]bool
}

func (c *checker) check(at string, ours, theirs schema.TypeRef) {
	if name := theirs.NamedType; name != nil && strings.Contains(at, "=>") {
		if c.seen[*name] && len(at) > 200 {
			return
		}
		c.seen[*name] = true
	}
	a, _ := c.ours.Resolve(ours)
	b, _ := c.theirs.Resolve(theirs)
	switch {
	case b.Scalar != nil && b.Map != nil: // anything
		if a.Scalar == nil || a.Map == nil || a.List == nil {
			c.t.Errorf("%s: not of any type", at)
		}
	case b.Scalar != nil:
		if a.Scalar == nil || *a.Scalar != *b.Scalar {
			c.t.Errorf("%s: %v, upstream has %v", at, a, *b.Scalar)
		}
	case b.List != nil:
		if a.List == nil || a.List.ElementRelationship != b.List.ElementRelationship || !slices.Equal(a.List.Keys, b.List.Keys) {
			c.t.Errorf("%s: list is %+v, upstream has %+v", at, a.List, b.List)
			return
		}
		c.check(at+"[]", a.List.ElementType, b.List.ElementType)
	case b.Map != nil:
		c.maps(at, a.Map, b.Map)
	}
}

func (c *checker) maps(at string, a, b *schema.Map) {
	if a == nil || (a.ElementRelationship == schema.Atomic) != (b.ElementRelationship == schema.Atomic) || len(a.Fields) != len(b.Fields) {
		c.t.Errorf("%s: %+v, upstream has %+v", at, a, b)
		return
	}
	if len(b.Fields) == 0 {
		c.check(at+"{}", a.ElementType, b.ElementType)
		return
	}
	for _, theirs := range b.Fields {
		ours, ok := a.FindField(theirs.Name)
		if !ok {
			c.t.Errorf("%s: no field %s", at, theirs.Name)
			continue
		}
		c.check(at+"."+theirs.Name, ours.Type, theirs.Type)
	}
}
