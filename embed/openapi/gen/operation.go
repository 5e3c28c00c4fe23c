//go:build openapi

package main

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/kind"
)

var (
	bodyTypes   = []string{"application/json", "application/yaml", "application/vnd.kubernetes.protobuf"}
	streamTypes = []string{"application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"}
	patchTypes  = []string{
		"application/json-patch+json", "application/merge-patch+json",
		"application/strategic-merge-patch+json", "application/apply-patch+yaml",
	}
)

// operation describes one method on one path.
func (b *builder) operation(path string, r *metav1.APIResource, m method) *spec3.Operation {
	gvk := b.kindOf(r)
	o := &spec3.Operation{OperationProps: spec3.OperationProps{
		Tags:        []string{b.groupWord() + "_" + b.gv.Version},
		Description: b.description(r, m),
		OperationId: b.operationID(path, r, m),
		Parameters:  b.parametersOf(path, gvk, m.action),
	}}
	if isLog(r) {
		o.Parameters = b.parametersOf(path, gvk, "")
		o.Parameters = append(o.Parameters, b.queryOf(b.gv.WithKind("PodLogOptions"), "connect")...)
		slices.SortFunc(o.Parameters, func(p, q *spec3.Parameter) int { return strings.Compare(p.Name, q.Name) })
	}
	o.RequestBody = b.body(gvk, m.action)
	o.Responses = b.responses(r, gvk, m.action)
	o.AddExtension("x-kubernetes-action", m.action)
	o.AddExtension("x-kubernetes-group-version-kind", kindExtension(gvk))
	return o
}

// description says what an operation does, in upstream's words.
func (b *builder) description(r *metav1.APIResource, m method) string {
	main, part, isPart := strings.Cut(r.Name, "/")
	noun := b.parentKind(main)
	ofPart := ""
	if isPart {
		ofPart = part + " of "
	}
	switch m.action {
	case "get":
		return "read " + ofPart + "the specified " + noun
	case "list":
		return "list or watch objects of kind " + noun
	case "post":
		return "create " + ofPart + withArticle(noun)
	case "put":
		return "replace " + ofPart + "the specified " + noun
	case "patch":
		return "partially update " + ofPart + "the specified " + noun
	case "delete":
		return "delete " + ofPart + withArticle(noun)
	case "deletecollection":
		return "delete collection of " + noun
	case "watchlist":
		return "watch individual changes to a list of " + noun + ". deprecated: use the 'watch' parameter with a list operation instead."
	case "watch":
		return "watch changes to an object of kind " + noun +
			". deprecated: use the 'watch' parameter with a list operation instead, filtered to a single item with the 'fieldSelector' parameter."
	}
	return "connect " + strings.ToUpper(m.name) + " requests to " + ofPart + noun
}

// withArticle puts the article before a noun; a plural has none.
func withArticle(noun string) string {
	switch {
	case strings.HasSuffix(noun, "s") && !strings.HasSuffix(noun, "ss"):
		return noun
	case strings.ContainsAny(noun[:1], "AEIOU"):
		return "an " + noun
	}
	return "a " + noun
}

// groupWord is a group's first word, as upstream puts it into tags and ids.
func (b *builder) groupWord() string {
	if b.gv.Group == "" {
		return "core"
	}
	word, _, _ := strings.Cut(b.gv.Group, ".")
	return word
}

// operationID names an operation: readCoreV1NamespacedPodStatus,
// connectCoreV1GetNamespacedPodProxyWithPath.
func (b *builder) operationID(path string, r *metav1.APIResource, m method) string {
	id := map[string]string{
		"get": "read", "list": "list", "post": "create", "put": "replace", "patch": "patch", "delete": "delete",
		"deletecollection": "delete", "watch": "watch", "watchlist": "watch", "connect": "connect",
	}[m.action] + upper(b.groupWord()) + upper(b.gv.Version)
	switch m.action {
	case "connect":
		id += upper(m.name)
	case "deletecollection":
		id += "Collection"
	}
	if strings.Contains(path, "{namespace}") {
		id += "Namespaced"
	}
	main, sub, _ := strings.Cut(r.Name, "/")
	id += b.parentKind(main) + upper(sub)
	if m.action == "watchlist" {
		id += "List"
	}
	if strings.HasSuffix(path, "/{path}") {
		id += "WithPath"
	}
	if r.Namespaced && !strings.Contains(path, "{namespace}") {
		id += "ForAllNamespaces"
	}
	return id
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
			Required: true, Content: b.contentOf(metav1.Patch{}.OpenAPIModelName(), patchTypes...),
		}}
	case "delete", "deletecollection":
		return &spec3.RequestBody{RequestBodyProps: spec3.RequestBodyProps{
			Content: b.contentOf(metav1.DeleteOptions{}.OpenAPIModelName(), "*/*"),
		}}
	}
	return nil
}

// content describes a body of a kind in several media types.
func (b *builder) content(gvk schema.GroupVersionKind, mediaTypes ...string) map[string]*spec3.MediaType {
	return b.contentOf(b.schemas.model(gvk), mediaTypes...)
}

func (b *builder) contentOf(name string, mediaTypes ...string) map[string]*spec3.MediaType {
	b.schemas.collect(b.used, name)
	content := map[string]*spec3.MediaType{}
	for _, t := range mediaTypes {
		content[t] = &spec3.MediaType{MediaTypeProps: spec3.MediaTypeProps{
			Schema: &spec.Schema{SchemaProps: spec.SchemaProps{Ref: spec.MustCreateRef(refPrefix + name)}},
		}}
	}
	return content
}

// connects reports whether a subresource is a way through to something else: its
// kind is only options.
func connects(r *metav1.APIResource) bool {
	return strings.Contains(r.Name, "/") && strings.HasSuffix(r.Kind, "Options")
}

// isLog tells the subresource that answers with a text.
func isLog(r *metav1.APIResource) bool { return r.Name == "pods/log" }

// responses describes what an operation answers.
func (b *builder) responses(r *metav1.APIResource, gvk schema.GroupVersionKind, action string) *spec3.Responses {
	answers := map[int]map[string]*spec3.MediaType{}
	switch action {
	case "connect":
		answers[200] = textContent("*/*")
	case "list":
		answers[200] = b.content(gvk.GroupVersion().WithKind(gvk.Kind+"List"), slices.Concat(bodyTypes, streamTypes)...)
	case "watch", "watchlist":
		answers[200] = b.contentOf(metav1.WatchEvent{}.OpenAPIModelName(), slices.Concat(bodyTypes, streamTypes)...)
	case "delete":
		answers[200] = b.contentOf(deleteAnswer(gvk), bodyTypes...)
		answers[202] = answers[200]
	case "deletecollection":
		answers[200] = b.contentOf(metav1.Status{}.OpenAPIModelName(), bodyTypes...)
	case "post":
		answers[200] = b.content(gvk, bodyTypes...)
		answers[201], answers[202] = answers[200], answers[200]
	case "put", "patch":
		answers[200] = b.content(gvk, bodyTypes...)
		answers[201] = answers[200]
	default:
		answers[200] = b.content(gvk, bodyTypes...)
		if isLog(r) {
			answers[200] = textContent(append([]string{"text/plain"}, bodyTypes...)...)
		}
	}
	return codes(answers)
}

// deleteAnswer is the model of what is answered when an object is gone.
func deleteAnswer(gvk schema.GroupVersionKind) string {
	for _, k := range kind.All {
		if k.GVK() == gvk {
			return api.DeleteAnswer(api.Request{Kind: k}, k.New(), true).(modelled).OpenAPIModelName()
		}
	}
	return metav1.Status{}.OpenAPIModelName()
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
		Tags:        []string{b.groupWord() + "_" + b.gv.Version},
		Description: "get available resources",
		OperationId: "get" + upper(b.groupWord()) + upper(b.gv.Version) + "APIResources",
		Responses:   codes(map[int]map[string]*spec3.MediaType{200: b.content(list, bodyTypes...)}),
	}}
}
