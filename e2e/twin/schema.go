package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Schema is the part of an OpenAPI v3 schema that mutations are drawn from.
type Schema struct {
	Ref        string             `json:"$ref"`
	AllOf      []*Schema          `json:"allOf"`
	OneOf      []*Schema          `json:"oneOf"`
	Type       string             `json:"type"`
	Format     string             `json:"format"`
	Enum       []any              `json:"enum"`
	Properties map[string]*Schema `json:"properties"`
	Required   []string           `json:"required"`
	Items      *Schema            `json:"items"`
	Additional *Schema            `json:"additionalProperties"`
	Kinds      []struct {
		Group   string `json:"group"`
		Version string `json:"version"`
		Kind    string `json:"kind"`
	} `json:"x-kubernetes-group-version-kind"`

	name string // of the component
}

// Schemas are upstream's published types.
type Schemas struct {
	components map[string]*Schema
	kinds      map[schema.GroupVersionKind]*Schema
}

// readSchemas asks a server for its OpenAPI v3 documents.
func readSchemas(ctx context.Context, s *side, versions []schema.GroupVersion) (*Schemas, error) {
	all := &Schemas{components: map[string]*Schema{}, kinds: map[schema.GroupVersionKind]*Schema{}}
	for _, v := range versions {
		path := "/openapi/v3/apis/" + v.String()
		if v.Group == "" {
			path = "/openapi/v3/api/" + v.Version
		}
		answer := s.do(ctx, Request{Method: "GET", Path: path, Headers: map[string]string{"Accept": "application/json"}}, nil)
		if answer.Code != 200 {
			return nil, fmt.Errorf("%s answers %d %s", path, answer.Code, answer.Body)
		}
		var document struct {
			Components struct {
				Schemas map[string]*Schema `json:"schemas"`
			} `json:"components"`
		}
		if err := json.Unmarshal(answer.Body, &document); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		for name, s := range document.Components.Schemas {
			s.name = name
			all.components[name] = s
			for _, k := range s.Kinds {
				all.kinds[schema.GroupVersionKind{Group: k.Group, Version: k.Version, Kind: k.Kind}] = s
			}
		}
	}
	return all, nil
}

// resolve follows references.
func (all *Schemas) resolve(s *Schema) *Schema {
	for s != nil {
		switch {
		case s.Ref != "":
			s = all.components[strings.TrimPrefix(s.Ref, "#/components/schemas/")]
		case len(s.AllOf) == 1 && s.Type == "":
			s = s.AllOf[0]
		default:
			return s
		}
	}
	return &Schema{}
}

// class is what the values of a schema are: "string", "integer", "number",
// "boolean", "array", "object", "map", "quantity", "intorstring", "time", "bytes",
// "fields".
func (all *Schemas) class(s *Schema) string {
	s = all.resolve(s)
	switch {
	case strings.HasSuffix(s.name, ".resource.Quantity"):
		return "quantity"
	case strings.HasSuffix(s.name, ".IntOrString"):
		return "intorstring"
	case strings.HasSuffix(s.name, ".FieldsV1"):
		return "fields"
	case s.Format == "date-time":
		return "time"
	case s.Format == "byte":
		return "bytes"
	case s.Type == "object" && s.Additional != nil && len(s.Properties) == 0:
		return "map"
	case s.Type == "":
		return "object"
	}
	return s.Type
}

// Field is a place in a kind's objects: its path has "[]" for any item of a list and
// "{}" for any value of a map.
type Field struct {
	Path   []string
	Schema *Schema // resolved
	Class  string
	Parent *Schema // resolved: the object whose property it is, or nil
}

// String shows the path: spec.containers[].image.
func (f Field) String() string { return pathString(f.Path) }

func pathString(path []string) string {
	var b strings.Builder
	for _, step := range path {
		if step != "[]" && step != "{}" && b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(step)
	}
	return b.String()
}

// untouched are fields that no request may set at will: the twin needs them to
// know what it asks for.
var untouched = []string{"metadata.managedFields", "metadata.selfLink"}

// fields lists every place below a kind's schema, in order.
func (all *Schemas) fields(root *Schema) []Field {
	var list []Field
	var walk func(path []string, s, parent *Schema, above []string)
	walk = func(path []string, s, parent *Schema, above []string) {
		s = all.resolve(s)
		class := all.class(s)
		if len(path) > 0 {
			list = append(list, Field{Path: slices.Clone(path), Schema: s, Class: class, Parent: parent})
		}
		if s.name != "" {
			if slices.Contains(above, s.name) {
				return
			}
			above = append(slices.Clone(above), s.name)
		}
		switch class {
		case "object":
			names := make([]string, 0, len(s.Properties))
			for name := range s.Properties {
				names = append(names, name)
			}
			sort.Strings(names)
			for _, name := range names {
				next := append(slices.Clone(path), name)
				if !slices.Contains(untouched, pathString(next)) {
					walk(next, s.Properties[name], s, above)
				}
			}
		case "array":
			walk(append(slices.Clone(path), "[]"), s.Items, nil, above)
		case "map":
			walk(append(slices.Clone(path), "{}"), s.Additional, nil, above)
		}
	}
	walk(nil, root, nil, nil)
	return list
}

// withKeys adds the members that objects have of a kind's maps: each is a field of its
// own.
func (all *Schemas) withKeys(list []Field, objects []map[string]any) []Field {
	for _, f := range slices.Clone(list) {
		if f.Path[len(f.Path)-1] != "{}" {
			continue
		}
		keys := map[string]bool{}
		for _, o := range objects {
			members(o, f.Path[:len(f.Path)-1], keys)
		}
		for _, key := range sortedKeys(keys) {
			f.Path = append(slices.Clone(f.Path[:len(f.Path)-1]), key)
			list = append(list, f)
		}
	}
	return list
}

// members notes the keys of the maps at a path.
func members(v any, path []string, keys map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		switch {
		case len(path) == 0:
			for key := range v {
				keys[key] = true
			}
		case path[0] == "{}":
			for _, e := range v {
				members(e, path[1:], keys)
			}
		default:
			members(v[path[0]], path[1:], keys)
		}
	case []any:
		if len(path) > 0 && path[0] == "[]" {
			for _, e := range v {
				members(e, path[1:], keys)
			}
		}
	}
}
