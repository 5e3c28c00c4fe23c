//go:build openapi

package main

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// builder makes the document of one group-version.
type builder struct {
	gv        schema.GroupVersion
	resources []metav1.APIResource
	schemas   *schemas
	used      map[string]*spec.Schema
	paths     map[string]*spec3.Path
}

func newBuilder(list *metav1.APIResourceList, s *schemas) *builder {
	gv, err := schema.ParseGroupVersion(list.GroupVersion)
	if err != nil {
		panic(err) // discovery never names such a group-version
	}
	return &builder{gv: gv, resources: list.APIResources, schemas: s, used: map[string]*spec.Schema{}, paths: map[string]*spec3.Path{}}
}

// name is the document's path below /openapi/v3.
func (b *builder) name() string {
	if b.gv.Group == "" {
		return "api/" + b.gv.Version
	}
	return "apis/" + b.gv.Group + "/" + b.gv.Version
}

// document builds everything.
func (b *builder) document() *spec3.OpenAPI {
	b.paths["/"+b.name()+"/"] = &spec3.Path{PathProps: spec3.PathProps{Get: b.discovery()}}
	for i := range b.resources {
		b.resource(&b.resources[i])
	}
	return &spec3.OpenAPI{
		Version: "3.0.0",
		Info:    &spec.Info{InfoProps: spec.InfoProps{Title: "Kubernetes", Version: "v1.36.3"}},
		Paths:   &spec3.Paths{Paths: b.paths},
		Components: &spec3.Components{
			Schemas: b.used,
			SecuritySchemes: spec3.SecuritySchemes{"BearerToken": {SecuritySchemeProps: spec3.SecuritySchemeProps{
				Type: "apiKey", Name: "authorization", In: "header", Description: "Bearer Token authentication",
			}}},
		},
	}
}

// resource adds the paths of a resource or subresource.
func (b *builder) resource(r *metav1.APIResource) {
	main, sub, isSub := strings.Cut(r.Name, "/")
	base := "/" + b.name() + "/"
	var scope []*spec3.Parameter
	if r.Namespaced {
		base += "namespaces/{namespace}/"
		scope = append(scope, pathParameter("namespace", "object name and auth scope, such as for teams and projects"))
	}
	base += main
	item := base + "/{name}"
	named := slices.Concat([]*spec3.Parameter{pathParameter("name", "name of the "+b.kindOf(r).Kind)}, scope, []*spec3.Parameter{pretty()})
	scope = append(scope, pretty())
	if isSub {
		b.add(item+"/"+sub, r, named, map[string]string{"get": "get", "create": "post", "update": "put", "patch": "patch", "delete": "delete"})
		return
	}
	b.add(base, r, scope, map[string]string{"list": "list", "create": "post", "deletecollection": "deletecollection"})
	b.add(item, r, named, map[string]string{"get": "get", "update": "put", "patch": "patch", "delete": "delete"})
	if r.Namespaced && slices.Contains(r.Verbs, "list") {
		b.add("/"+b.name()+"/"+main, r, []*spec3.Parameter{pretty()}, map[string]string{"list": "list"})
	}
}

// add adds one path with the operations for those verbs that the resource has.
func (b *builder) add(path string, r *metav1.APIResource, parameters []*spec3.Parameter, actions map[string]string) {
	p := &spec3.Path{PathProps: spec3.PathProps{Parameters: parameters}}
	found := false
	for verb, action := range actions {
		if !slices.Contains(r.Verbs, verb) {
			continue
		}
		found = true
		operation := b.operation(path, r, action)
		switch action {
		case "get", "list":
			p.Get = operation
		case "post":
			p.Post = operation
		case "put":
			p.Put = operation
		case "patch":
			p.Patch = operation
		case "delete", "deletecollection":
			p.Delete = operation
		}
	}
	if found {
		b.paths[path] = p
	}
}

// kindOf returns the kind of a resource's bodies.
func (b *builder) kindOf(r *metav1.APIResource) schema.GroupVersionKind {
	gvk := b.gv.WithKind(r.Kind)
	if r.Version != "" {
		gvk.Group, gvk.Version = r.Group, r.Version
	}
	return gvk
}
