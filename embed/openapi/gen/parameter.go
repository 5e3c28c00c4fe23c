//go:build openapi

package main

import (
	"bytes"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// documented is an options type with the descriptions of its fields.
type documented interface{ SwaggerDoc() map[string]string }

// parametersOf returns all parameters of an action on a path, in order.
func (b *builder) parametersOf(path string, gvk schema.GroupVersionKind, action string) []*spec3.Parameter {
	all := b.queryOf(gvk, action)
	if action != "connect" {
		all = append(all, pretty())
	}
	if strings.Contains(path, "{name}") {
		all = append(all, pathParameter("name", "name of the "+gvk.Kind))
	}
	if strings.Contains(path, "{namespace}") {
		all = append(all, pathParameter("namespace", "object name and auth scope, such as for teams and projects"))
	}
	if strings.Contains(path, "{path}") {
		all = append(all, pathParameter("path", "path to the resource"))
	}
	slices.SortStableFunc(all, func(p, q *spec3.Parameter) int {
		return strings.Compare(p.Name+" "+p.In, q.Name+" "+q.In)
	})
	return all
}

// queryOf returns the query parameters of an action: the fields of its options.
func (b *builder) queryOf(gvk schema.GroupVersionKind, action string) []*spec3.Parameter {
	switch action {
	case "list", "watch", "watchlist":
		return queryParameters(metav1.ListOptions{})
	case "post":
		return queryParameters(metav1.CreateOptions{})
	case "put":
		return queryParameters(metav1.UpdateOptions{})
	case "patch":
		return queryParameters(metav1.PatchOptions{})
	case "delete":
		return queryParameters(metav1.DeleteOptions{})
	case "deletecollection":
		all := queryParameters(metav1.ListOptions{}, "watch", "allowWatchBookmarks")
		for _, p := range queryParameters(metav1.DeleteOptions{}) {
			if !slices.ContainsFunc(all, func(q *spec3.Parameter) bool { return q.Name == p.Name }) {
				all = append(all, p)
			}
		}
		return all
	case "connect":
		options, err := b.schemas.scheme.New(gvk)
		if err != nil {
			panic(err) // discovery names kinds that there are
		}
		return queryParameters(reflect.ValueOf(options).Elem().Interface().(documented))
	}
	return nil
}

// queryParameters reads the plain fields of an options type, those left out
// excepted.
func queryParameters(options documented, without ...string) []*spec3.Parameter {
	docs := options.SwaggerDoc()
	var all []*spec3.Parameter
	t := reflect.TypeOf(options)
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		of := schemaOf(t.Field(i).Type)
		if name == "" || of == nil || slices.Contains(without, name) {
			continue
		}
		all = append(all, &spec3.Parameter{ParameterProps: spec3.ParameterProps{
			Name: name, In: "query", Description: docs[name], Schema: of,
		}})
	}
	return all
}

// schemaOf is a parameter's type as upstream gives it: all of them plain values
// that may be given once. Nil: a query cannot have it.
func schemaOf(t reflect.Type) *spec.Schema {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	name := "string"
	switch t.Kind() {
	case reflect.Bool:
		name = "boolean"
	case reflect.Int64, reflect.Int32:
		name = "integer"
	case reflect.Struct:
		return nil
	}
	return &spec.Schema{SchemaProps: spec.SchemaProps{Type: []string{name}, UniqueItems: true}}
}

func pathParameter(name, description string) *spec3.Parameter {
	return &spec3.Parameter{ParameterProps: spec3.ParameterProps{
		Name: name, In: "path", Description: description, Required: true, Schema: schemaOf(reflect.TypeFor[string]()),
	}}
}

func pretty() *spec3.Parameter {
	return &spec3.Parameter{ParameterProps: spec3.ParameterProps{
		Name: "pretty", In: "query", Schema: schemaOf(reflect.TypeFor[string]()),
		Description: "If 'true', then the output is pretty printed. Defaults to 'false' unless the user-agent indicates a browser or command-line HTTP tool (curl and wget).",
	}}
}

// extractShared takes from a path's operations the parameters that all of them
// have, and returns these.
func extractShared(operations map[string]*spec3.Operation) []*spec3.Parameter {
	has := func(o *spec3.Operation, p *spec3.Parameter) bool {
		return slices.ContainsFunc(o.Parameters, func(q *spec3.Parameter) bool { return bytes.Equal(plainJSON(p), plainJSON(q)) })
	}
	var shared []*spec3.Parameter
	for _, o := range operations {
		shared = slices.Clone(o.Parameters)
		break
	}
	for _, o := range operations {
		shared = slices.DeleteFunc(shared, func(p *spec3.Parameter) bool { return !has(o, p) })
	}
	all := &spec3.Operation{OperationProps: spec3.OperationProps{Parameters: shared}}
	for _, o := range operations {
		o.Parameters = slices.DeleteFunc(o.Parameters, func(p *spec3.Parameter) bool { return has(all, p) })
	}
	return shared
}
