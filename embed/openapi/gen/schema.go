//go:build openapi

package main

import (
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/builder3/util"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/skiff-sh/skiff/embed/openapi/gen/definitions"
)

const refPrefix = "#/components/schemas/"

// modelled is a type that says what documents call it.
type modelled interface{ OpenAPIModelName() string }

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
	for _, shared := range []string{"DeleteOptions", "WatchEvent"} {
		gvk := metav1.SchemeGroupVersion.WithKind(shared)
		s.kinds[s.model(gvk)] = everywhere(shared)
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
	if named, ok := obj.(modelled); ok {
		return named.OpenAPIModelName()
	}
	return ""
}

// collect adds a definition, and what it refers to, to a document's schemas.
func (s *schemas) collect(into map[string]bool, name string) {
	if into[name] {
		return
	}
	d, ok := s.definitions[name]
	if !ok {
		panic("no definition of " + name + ": its package is missing in scripts/openapi.sh")
	}
	into[name] = true
	for _, dependency := range d.Dependencies {
		s.collect(into, dependency)
	}
}

// differs tells whether a schema says something else in each document.
func (s *schemas) differs(name string) bool { return len(s.kinds[name]) > 1 }

// schema returns a definition as a schema. Given a group and version, it names of
// the kinds only those there, and those of the core group, v1.
func (s *schemas) schema(name string, only ...string) *spec.Schema {
	d := s.definitions[name]
	copied := &spec.Schema{
		VendorExtensible:   spec.VendorExtensible{Extensions: maps.Clone(d.Schema.Extensions)},
		SchemaProps:        d.Schema.SchemaProps,
		SwaggerSchemaProps: d.Schema.SwaggerSchemaProps,
	}
	delete(copied.Extensions, common.ExtensionV2Schema)
	var list []any
	for _, gvk := range s.kinds[name] {
		if len(only) == 2 && gvk.Group != "" && (gvk.Group != only[0] || gvk.Version != only[1]) {
			continue
		}
		list = append(list, kindExtension(gvk))
	}
	if list != nil {
		copied.AddExtension("x-kubernetes-group-version-kind", list)
	}
	return util.WrapRefs(copied)
}

func kindExtension(gvk schema.GroupVersionKind) map[string]any {
	return map[string]any{"group": gvk.Group, "version": gvk.Version, "kind": gvk.Kind}
}

// everywhere returns a kind in all group-versions that upstream's server knows,
// those it does not serve included.
func everywhere(kind string) []schema.GroupVersionKind {
	var all []schema.GroupVersionKind
	for _, line := range []string{
		" v1", "admission.k8s.io v1 v1beta1", "admissionregistration.k8s.io v1 v1alpha1 v1beta1", "apiextensions.k8s.io v1 v1beta1",
		"apiregistration.k8s.io v1 v1beta1", "apps v1 v1beta1 v1beta2", "authentication.k8s.io v1 v1alpha1 v1beta1",
		"authorization.k8s.io v1 v1beta1", "autoscaling v1 v2", "batch v1 v1beta1", "certificates.k8s.io v1 v1alpha1 v1beta1",
		"coordination.k8s.io v1 v1alpha2 v1beta1", "discovery.k8s.io v1 v1beta1", "events.k8s.io v1 v1beta1", "extensions v1beta1",
		"flowcontrol.apiserver.k8s.io v1 v1beta1 v1beta2 v1beta3", "imagepolicy.k8s.io v1alpha1", "internal.apiserver.k8s.io v1alpha1",
		"networking.k8s.io v1 v1beta1", "node.k8s.io v1 v1alpha1 v1beta1", "policy v1 v1beta1",
		"rbac.authorization.k8s.io v1 v1alpha1 v1beta1", "resource.k8s.io v1 v1alpha3 v1beta1 v1beta2",
		"scheduling.k8s.io v1 v1alpha2 v1beta1", "storage.k8s.io v1 v1alpha1 v1beta1", "storagemigration.k8s.io v1beta1",
	} {
		words := strings.Split(line, " ")
		for _, version := range words[1:] {
			all = append(all, schema.GroupVersionKind{Group: words[0], Version: version, Kind: kind})
		}
	}
	return all
}
