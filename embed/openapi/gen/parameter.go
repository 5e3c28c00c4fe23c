//go:build openapi

package main

import (
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// documented is an options type with the descriptions of its fields.
type documented interface{ SwaggerDoc() map[string]string }

// parametersOf returns the query parameters of an action: the fields of its
// options.
func parametersOf(action string) []*spec3.Parameter {
	switch action {
	case "list":
		return queryParameters(metav1.ListOptions{})
	case "post":
		return queryParameters(metav1.CreateOptions{})
	case "put":
		return queryParameters(metav1.UpdateOptions{})
	case "patch":
		return queryParameters(metav1.PatchOptions{})
	case "delete":
		return queryParameters(metav1.DeleteOptions{}, "preconditions")
	case "deletecollection":
		all := queryParameters(metav1.ListOptions{}, "watch", "allowWatchBookmarks")
		for _, p := range queryParameters(metav1.DeleteOptions{}, "preconditions") {
			if !slices.ContainsFunc(all, func(q *spec3.Parameter) bool { return q.Name == p.Name }) {
				all = append(all, p)
			}
		}
		return all
	}
	return nil
}

// queryParameters reads the fields of an options type, those left out excepted.
func queryParameters(options documented, without ...string) []*spec3.Parameter {
	docs := options.SwaggerDoc()
	var all []*spec3.Parameter
	t := reflect.TypeOf(options)
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name == "" || slices.Contains(without, name) {
			continue
		}
		all = append(all, &spec3.Parameter{ParameterProps: spec3.ParameterProps{
			Name: name, In: "query", Description: docs[name], Schema: schemaOf(t.Field(i).Type),
		}})
	}
	return all
}

// schemaOf is a parameter's type as upstream gives it: all of them plain values
// that may be given once.
func schemaOf(t reflect.Type) *spec.Schema {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	name := "string"
	switch t.Kind() {
	case reflect.Bool:
		name = "boolean"
	case reflect.Int64:
		name = "integer"
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
