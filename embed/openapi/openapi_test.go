package openapi

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	openapiv3 "github.com/google/gnostic-models/openapiv3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"sigs.k8s.io/yaml"
)

// carried returns the carried documents; there must be some.
func carried(t testing.TB) *Documents {
	t.Helper()
	d := New()
	if len(d.Names()) == 0 {
		t.Fatal("the OpenAPI documents have not been built: run scripts/openapi.sh (make does)")
	}
	return d
}

// Every document says the same in both its forms: its protobuf is what gnostic
// makes of its JSON.
func TestProtobuf(t *testing.T) {
	d := carried(t)
	for _, name := range d.Names() {
		text, err := d.Document(name, false)
		if err != nil {
			t.Fatal(err)
		}
		data, err := d.Document(name, true)
		if err != nil {
			t.Fatal(err)
		}
		var want, got proto.Message
		if name == Swagger {
			want, err = openapiv2.ParseDocument(text)
			got = &openapiv2.Document{}
		} else {
			want, err = openapiv3.ParseDocument(text)
			got = &openapiv3.Document{}
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := proto.Unmarshal(data, got); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		different := 0
		compareMessages(name, want.ProtoReflect(), got.ProtoReflect(), func(path string, want, got any) {
			if different++; different < 5 {
				t.Errorf("%s: want %v, got %v", path, want, got)
			}
		})
	}
}

// compareMessages reports where messages differ. Values in YAML may be written in
// several ways; the order of names says nothing.
func compareMessages(path string, want, got protoreflect.Message, report func(path string, want, got any)) {
	fields := want.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		at := path + "." + string(f.Name())
		w, g := want.Get(f), got.Get(f)
		switch {
		case f.IsList():
			compareLists(at, f, w.List(), g.List(), report)
		case want.Has(f) != got.Has(f):
			report(at, w, g)
		case !want.Has(f):
		case f.Message() != nil:
			compareMessages(at, w.Message(), g.Message(), report)
		case f.Name() == "yaml":
			if !sameYAML(w.String(), g.String()) {
				report(at, w, g)
			}
		case !w.Equal(g):
			report(at, w, g)
		}
	}
}

func compareLists(path string, f protoreflect.FieldDescriptor, want, got protoreflect.List, report func(path string, want, got any)) {
	if want.Len() != got.Len() {
		report(path, want.Len(), got.Len())
		return
	}
	if f.Message() == nil {
		for i := range want.Len() {
			if !want.Get(i).Equal(got.Get(i)) {
				report(path, want.Get(i), got.Get(i))
			}
		}
		return
	}
	name := f.Message().Fields().ByName("name")
	if !strings.HasPrefix(string(f.Message().Name()), "Named") {
		name = nil
	}
	byName := map[string]protoreflect.Message{}
	for i := range got.Len() {
		if m := got.Get(i).Message(); name != nil {
			byName[m.Get(name).String()] = m
		}
	}
	for i := range want.Len() {
		w, g := want.Get(i).Message(), got.Get(i).Message()
		at := path
		if name != nil {
			at += "[" + w.Get(name).String() + "]"
			if g = byName[w.Get(name).String()]; g == nil {
				report(at, w.Interface(), nil)
				continue
			}
		}
		compareMessages(at, w, g, report)
	}
}

func sameYAML(a, b string) bool {
	var x, y any
	return yaml.Unmarshal([]byte(a), &x) == nil && yaml.Unmarshal([]byte(b), &y) == nil && reflect.DeepEqual(x, y)
}

// The document of version 2 holds every path and schema of those of version 3, and
// what its references point to.
func TestSwagger(t *testing.T) {
	d := carried(t)
	read := func(name string) (paths, schemas map[string]any) {
		var document struct {
			Paths       map[string]any
			Definitions map[string]any
			Parameters  map[string]any
			Components  struct{ Schemas map[string]any }
		}
		data, err := d.Document(name, false)
		if err == nil {
			err = json.Unmarshal(data, &document)
		}
		if err != nil {
			t.Fatal(err)
		}
		if name == Swagger {
			for _, ref := range references(document.Paths, references(document.Definitions, nil)) {
				if name, ok := strings.CutPrefix(ref, definitionPrefix); ok && document.Definitions[name] != nil {
					continue
				}
				if name, ok := strings.CutPrefix(ref, "#/parameters/"); ok && document.Parameters[name] != nil {
					continue
				}
				t.Errorf("nothing is at %s", ref)
			}
			return document.Paths, document.Definitions
		}
		return document.Paths, document.Components.Schemas
	}
	paths, schemas := read(Swagger)
	for _, name := range d.Names() {
		p, s := read(name)
		for path := range p {
			if paths[path] == nil {
				t.Errorf("%s of %s is missing", path, name)
			}
		}
		for schema := range s {
			if schemas[schema] == nil {
				t.Errorf("%s of %s is missing", schema, name)
			}
		}
	}
}

// references gathers the references in a value.
func references(value any, into []string) []string {
	switch v := value.(type) {
	case map[string]any:
		for key, inner := range v {
			if ref, ok := inner.(string); ok && key == "$ref" {
				into = append(into, ref)
				continue
			}
			into = references(inner, into)
		}
	case []any:
		for _, inner := range v {
			into = references(inner, into)
		}
	}
	return into
}

// Shared parameters have upstream's names, so that documents can be compared.
func TestSharedParameters(t *testing.T) {
	for _, c := range []struct {
		parameter map[string]any
		want      string
	}{
		{map[string]any{
			"name": "namespace", "in": "path", "required": true, "description": "object name and auth scope, such as for teams and projects",
			"schema": map[string]any{"type": "string", "uniqueItems": true},
		}, "#/parameters/namespace-vgWSWtn3"},
		{map[string]any{
			"name": "body", "in": "body", "required": true,
			"schema": map[string]any{"$ref": schemaPrefix + "io.k8s.apimachinery.pkg.apis.meta.v1.Patch"},
		}, "#/parameters/body-78PwaGsr"},
		{map[string]any{"name": "name", "in": "path", "schema": map[string]any{"type": "string"}}, ""},
		{map[string]any{"name": "dryRun", "in": "query", "schema": map[string]any{"type": "string"}}, ""},
		{map[string]any{"name": "body", "in": "body", "schema": map[string]any{"$ref": schemaPrefix + "io.k8s.api.core.v1.Pod"}}, ""},
	} {
		s := swagger{parameters: map[string]any{}}
		got, _ := s.list([]any{c.parameter})[0].(map[string]any)["$ref"].(string)
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.parameter["name"], got, c.want)
		}
	}
}

func BenchmarkSwagger(b *testing.B) {
	d := carried(b)
	for _, protobuf := range []bool{false, true} {
		b.Run(map[bool]string{false: "json", true: "protobuf"}[protobuf], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := d.Document(Swagger, protobuf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
