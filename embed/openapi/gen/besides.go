//go:build openapi

package main

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// document is one that is read under a path of its own.
type document struct {
	name, tag, id, description string
	types                      []string
	model                      string // "": a text
}

// besides returns the builders of what is served besides group-versions.
func besides(lists []*metav1.APIResourceList, s *schemas) []*builder {
	kind := func(kind string) string { return s.model(metav1.Unversioned.WithKind(kind)) }
	all := []document{
		{"api", "core", "getCoreAPIVersions", "get available API versions", bodyTypes, kind("APIVersions")},
		{"apis", "apis", "getAPIVersions", "get available API versions", bodyTypes, kind("APIGroupList")},
		{"version", "version", "getCodeVersion", "get the version information for this server", bodyTypes[:1], version.Info{}.OpenAPIModelName()},
		{
			".well-known/openid-configuration", "WellKnown", "getServiceAccountIssuerOpenIDConfiguration",
			"get service account issuer OpenID configuration, also known as the 'OIDC discovery doc'", bodyTypes[:1], "",
		},
		{
			"openid/v1/jwks", "openid", "getServiceAccountIssuerOpenIDKeyset",
			"get service account issuer OpenID JSON Web Key Set (contains public token verification keys)", []string{"application/jwk-set+json"}, "",
		},
	}
	seen := map[string]bool{"": true}
	for _, list := range lists {
		gv, _ := schema.ParseGroupVersion(list.GroupVersion) // newBuilder has seen to it
		if !seen[gv.Group] {
			seen[gv.Group] = true
			word := (&builder{gv: gv}).groupWord()
			all = append(all, document{"apis/" + gv.Group, word, "get" + upper(word) + "APIGroup", "get information of a group", bodyTypes, kind("APIGroup")})
		}
	}
	var builders []*builder
	for _, d := range all {
		builders = append(builders, d.builder(s))
	}
	return builders
}

func (d *document) builder(s *schemas) *builder {
	b := &builder{name: d.name, schemas: s, used: map[string]bool{}, paths: map[string]*spec3.Path{}}
	content := textContent(d.types...)
	if d.model != "" {
		content = b.contentOf(d.model, d.types...)
	}
	b.paths["/"+d.name+"/"] = &spec3.Path{PathProps: spec3.PathProps{Get: &spec3.Operation{OperationProps: spec3.OperationProps{
		Tags: []string{d.tag}, Description: d.description, OperationId: d.id,
		Responses: codes(map[int]map[string]*spec3.MediaType{200: content}),
	}}}}
	return b
}

// textContent describes a body that is no object.
func textContent(mediaTypes ...string) map[string]*spec3.MediaType {
	content := map[string]*spec3.MediaType{}
	for _, t := range mediaTypes {
		content[t] = &spec3.MediaType{MediaTypeProps: spec3.MediaTypeProps{
			Schema: &spec.Schema{SchemaProps: spec.SchemaProps{Type: []string{"string"}}},
		}}
	}
	return content
}
