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

var (
	bodyTypes   = []string{"application/json", "application/yaml", "application/vnd.kubernetes.protobuf"}
	streamTypes = []string{"application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"}
	patchTypes  = []string{
		"application/json-patch+json", "application/merge-patch+json",
		"application/strategic-merge-patch+json", "application/apply-patch+yaml",
	}
)

// operationWords begin operationIds and descriptions.
var operationWords = map[string][2]string{
	"get": {"read", "read the specified "}, "list": {"list", "list or watch objects of kind "},
	"post": {"create", "create a "}, "put": {"replace", "replace the specified "},
	"patch": {"patch", "partially update the specified "}, "delete": {"delete", "delete a "},
	"deletecollection": {"deleteCollection", "delete collection of "},
}

// operation describes one verb on one path.
func (b *builder) operation(path string, r *metav1.APIResource, action string) *spec3.Operation {
	gvk := b.kindOf(r)
	words := operationWords[action]
	description := words[1] + gvk.Kind
	if _, sub, ok := strings.Cut(r.Name, "/"); ok {
		description = words[1][:len(words[1])-1] + " " + sub + " of " + gvk.Kind
	}
	if connects(r) && r.Name != "pods/log" {
		words[0], action = "connect"+upper(action), "connect"
		description = "connect to " + r.Name
	}
	o := &spec3.Operation{OperationProps: spec3.OperationProps{
		Tags:        []string{b.tag()},
		Description: description,
		OperationId: words[0] + b.operationSuffix(path, r),
		Parameters:  parametersOf(action),
	}}
	if !connects(r) {
		o.RequestBody = b.body(gvk, action)
	}
	o.Responses = b.responses(r, gvk, action)
	o.AddExtension("x-kubernetes-action", action)
	o.AddExtension("x-kubernetes-group-version-kind", kindExtension(gvk))
	return o
}

// tag groups operations as upstream does: core_v1, apps_v1.
func (b *builder) tag() string { return b.groupWord() + "_" + b.gv.Version }

func (b *builder) groupWord() string {
	if b.gv.Group == "" {
		return "core"
	}
	word, _, _ := strings.Cut(b.gv.Group, ".")
	return word
}

// operationSuffix is the rest of an operationId: CoreV1NamespacedPodStatus.
func (b *builder) operationSuffix(path string, r *metav1.APIResource) string {
	suffix := upper(b.groupWord()) + upper(b.gv.Version)
	if strings.Contains(path, "{namespace}") {
		suffix += "Namespaced"
	}
	main, sub, _ := strings.Cut(r.Name, "/")
	suffix += b.parentKind(main) + upper(sub)
	if r.Namespaced && !strings.Contains(path, "{namespace}") {
		suffix += "ForAllNamespaces"
	}
	return suffix
}

// parentKind returns the kind of the main resource of that name.
func (b *builder) parentKind(main string) string {
	for i := range b.resources {
		if b.resources[i].Name == main {
			return b.resources[i].Kind
		}
	}
	return upper(main)
}

func upper(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// body describes what an operation reads.
func (b *builder) body(gvk schema.GroupVersionKind, action string) *spec3.RequestBody {
	switch action {
	case "post", "put":
		return &spec3.RequestBody{RequestBodyProps: spec3.RequestBodyProps{Required: true, Content: b.content(gvk, "*/*")}}
	case "patch":
		return &spec3.RequestBody{RequestBodyProps: spec3.RequestBodyProps{
			Required: true, Content: b.content(metav1.SchemeGroupVersion.WithKind("Patch"), patchTypes...),
		}}
	case "delete", "deletecollection":
		options := schema.GroupVersionKind{Group: b.gv.Group, Version: b.gv.Version, Kind: "DeleteOptions"}
		return &spec3.RequestBody{RequestBodyProps: spec3.RequestBodyProps{Content: b.content(options, "*/*")}}
	}
	return nil
}

// content describes a body of a kind in several media types.
func (b *builder) content(gvk schema.GroupVersionKind, mediaTypes ...string) map[string]*spec3.MediaType {
	name := b.schemas.model(gvk)
	if gvk.Kind == "Patch" {
		name = metav1.Patch{}.OpenAPIModelName()
	}
	b.schemas.collect(b.used, name)
	content := map[string]*spec3.MediaType{}
	for _, t := range mediaTypes {
		content[t] = &spec3.MediaType{MediaTypeProps: spec3.MediaTypeProps{
			Schema: &spec.Schema{SchemaProps: spec.SchemaProps{Ref: spec.MustCreateRef(refPrefix + name)}},
		}}
	}
	return content
}

// connects reports whether a subresource is a connection to something else and
// reads and answers no objects: pods/log and those whose kind is only options.
func connects(r *metav1.APIResource) bool {
	return r.Name == "pods/log" || strings.Contains(r.Name, "/") && strings.HasSuffix(r.Kind, "Options")
}

// responses describes what an operation answers.
func (b *builder) responses(r *metav1.APIResource, gvk schema.GroupVersionKind, action string) *spec3.Responses {
	if connects(r) {
		text := map[string]*spec3.MediaType{"text/plain": {MediaTypeProps: spec3.MediaTypeProps{
			Schema: &spec.Schema{SchemaProps: spec.SchemaProps{Type: []string{"string"}}},
		}}}
		return codes(map[int]map[string]*spec3.MediaType{200: text})
	}
	status := metav1.Unversioned.WithKind("Status")
	answers := map[int]map[string]*spec3.MediaType{}
	switch action {
	case "list":
		list := gvk.GroupVersion().WithKind(gvk.Kind + "List")
		answers[200] = b.content(list, slices.Concat(bodyTypes, streamTypes)...)
	case "delete":
		answers[200] = b.content(status, bodyTypes...)
		answers[202] = answers[200]
	case "deletecollection":
		answers[200] = b.content(status, bodyTypes...)
	case "post":
		answers[200] = b.content(gvk, bodyTypes...)
		answers[201], answers[202] = answers[200], answers[200]
	case "put", "patch":
		answers[200] = b.content(gvk, bodyTypes...)
		answers[201] = answers[200]
	default:
		answers[200] = b.content(gvk, bodyTypes...)
	}
	return codes(answers)
}

// codes adds the answer that every operation has.
func codes(answers map[int]map[string]*spec3.MediaType) *spec3.Responses {
	words := map[int]string{200: "OK", 201: "Created", 202: "Accepted"}
	all := map[int]*spec3.Response{401: {ResponseProps: spec3.ResponseProps{Description: "Unauthorized"}}}
	for code, content := range answers {
		all[code] = &spec3.Response{ResponseProps: spec3.ResponseProps{Description: words[code], Content: content}}
	}
	return &spec3.Responses{ResponsesProps: spec3.ResponsesProps{StatusCodeResponses: all}}
}

// discovery describes the path of the group-version itself.
func (b *builder) discovery() *spec3.Operation {
	list := metav1.Unversioned.WithKind("APIResourceList")
	return &spec3.Operation{OperationProps: spec3.OperationProps{
		Tags:        []string{b.tag()},
		Description: "get available resources",
		OperationId: "get" + upper(b.groupWord()) + upper(b.gv.Version) + "APIResources",
		Responses:   codes(map[int]map[string]*spec3.MediaType{200: b.content(list, bodyTypes...)}),
	}}
}
