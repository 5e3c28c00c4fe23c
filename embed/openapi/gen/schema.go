//go:build openapi

package main

import (
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/builder3/util"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/skiff-sh/skiff/embed/openapi/gen/definitions"
)

const refPrefix = "#/components/schemas/"

// schemas are all definitions by model name, and which kinds each one is.
type schemas struct {
	scheme      *runtime.Scheme
	definitions map[string]common.OpenAPIDefinition
	kinds       map[string][]schema.GroupVersionKind
}

func newSchemas(scheme *runtime.Scheme) *schemas {
	s := &schemas{
		scheme: scheme,
		definitions: definitions.GetOpenAPIDefinitions(func(name string) spec.Ref {
			return spec.MustCreateRef(refPrefix + name)
		}),
		kinds: map[string][]schema.GroupVersionKind{},
	}
	for gvk := range scheme.AllKnownTypes() {
		if gvk.Version == runtime.APIVersionInternal {
			continue
		}
		if name := s.model(gvk); name != "" {
			s.kinds[name] = append(s.kinds[name], gvk)
		}
	}
	for _, list := range s.kinds {
		slices.SortFunc(list, func(a, b schema.GroupVersionKind) int { return strings.Compare(a.String(), b.String()) })
	}
	return s
}

// model returns the name of a kind's definition.
func (s *schemas) model(gvk schema.GroupVersionKind) string {
	obj, err := s.scheme.New(gvk)
	if err != nil {
		return ""
	}
	if named, ok := obj.(interface{ OpenAPIModelName() string }); ok {
		return named.OpenAPIModelName()
	}
	return ""
}

// collect adds a definition, and what it refers to, to a document's schemas.
func (s *schemas) collect(into map[string]*spec.Schema, name string) {
	if into[name] != nil {
		return
	}
	d, ok := s.definitions[name]
	if !ok {
		panic("no definition of " + name + ": its package is missing in scripts/openapi.sh")
	}
	copied := &spec.Schema{
		VendorExtensible:   spec.VendorExtensible{Extensions: maps.Clone(d.Schema.Extensions)},
		SchemaProps:        d.Schema.SchemaProps,
		SwaggerSchemaProps: d.Schema.SwaggerSchemaProps,
	}
	delete(copied.Extensions, common.ExtensionV2Schema)
	if kinds := s.kinds[name]; len(kinds) > 0 {
		var list []any
		for _, gvk := range kinds {
			list = append(list, kindExtension(gvk))
		}
		copied.AddExtension("x-kubernetes-group-version-kind", list)
	}
	into[name] = util.WrapRefs(copied)
	for _, dependency := range d.Dependencies {
		s.collect(into, dependency)
	}
}

func kindExtension(gvk schema.GroupVersionKind) map[string]any {
	return map[string]any{"group": gvk.Group, "version": gvk.Version, "kind": gvk.Kind}
}
