package main

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	discovery "k8s.io/api/apidiscovery/v2"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

//go:embed bases
var bases embed.FS

// Resource is one that skiff serves: what discovery says of it, valid objects, and
// all that can be done to their fields.
type Resource struct {
	schema.GroupVersionResource
	Kind       schema.GroupVersionKind
	Namespaced bool
	Verbs      []string
	Parts      []Part // subresources

	bases     []map[string]any
	schemas   *Schemas
	pools     Pools
	fields    []Field
	mutations []Mutation // in the seed's order
	telling   map[string][]Mutation

	sequences  []sequence
	changeable []Mutation // where most fields are not
	creating   Plan
	changing   map[string]Plan // by the part that is changed; "": the whole
}

// Part is a subresource.
type Part struct {
	Name   string
	Kind   schema.GroupVersionKind
	Verbs  []string
	bodies []body
}

// body is what is posted to a subresource, or to a resource that stores nothing.
type body struct {
	object    map[string]any
	mutations []Mutation
	plan      Plan
}

// Name is the resource as a person names it: pods, deployments.apps.
func (r *Resource) Name() string { return r.GroupResource().String() }

// Stored says whether objects of it can be got back.
func (r *Resource) Stored() bool { return slices.Contains(r.Verbs, "get") }

// path is the URL's path of the resource in a namespace.
func (r *Resource) path(namespace string) string {
	var b strings.Builder
	if r.Group == "" {
		b.WriteString("/api/" + r.Version)
	} else {
		b.WriteString("/apis/" + r.Group + "/" + r.Version)
	}
	if r.Namespaced && namespace != "" {
		b.WriteString("/namespaces/" + namespace)
	}
	return b.String() + "/" + r.Resource
}

// discover asks a server for what it serves.
func discover(ctx context.Context, s *side) ([]*Resource, error) {
	var all []*Resource
	for _, path := range []string{"/api", "/apis"} {
		answer := s.do(ctx, Request{Method: "GET", Path: path, Headers: map[string]string{
			"Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
		}}, nil)
		if answer.Code != 200 {
			return nil, fmt.Errorf("%s: %s answers %d: %s %w", s.name, path, answer.Code, answer.Body, answer.Err)
		}
		var list discovery.APIGroupDiscoveryList
		if err := json.Unmarshal(answer.Body, &list); err != nil {
			return nil, err
		}
		for _, group := range list.Items {
			for _, version := range group.Versions {
				for _, r := range version.Resources {
					all = append(all, newResource(schema.GroupVersion{Group: group.Name, Version: version.Version}, r))
				}
			}
		}
	}
	return all, nil
}

func newResource(v schema.GroupVersion, d discovery.APIResourceDiscovery) *Resource {
	r := &Resource{
		GroupVersionResource: v.WithResource(d.Resource), Kind: kindOf(d.ResponseKind, v),
		Namespaced: d.Scope == discovery.ScopeNamespace, Verbs: d.Verbs,
	}
	for _, s := range d.Subresources {
		r.Parts = append(r.Parts, Part{Name: s.Subresource, Kind: kindOf(s.ResponseKind, v), Verbs: s.Verbs})
	}
	return r
}

// kindOf fills in the group and version that a document leaves out.
func kindOf(k any, v schema.GroupVersion) schema.GroupVersionKind {
	type gvk = struct{ Group, Version, Kind string }
	var out gvk
	data, _ := json.Marshal(k)
	_ = json.Unmarshal(data, &out)
	if out.Version == "" {
		out.Group, out.Version = v.Group, v.Version
	}
	return schema.GroupVersionKind{Group: out.Group, Version: out.Version, Kind: out.Kind}
}

// furnish gives the resources their valid objects, schemas and mutations. Every one
// must have some: a kind that skiff has learned and the twin has not is an error.
func furnish(all []*Resource, schemas *Schemas, seed uint64) error {
	bodies, err := readBodies()
	if err != nil {
		return err
	}
	pools := Pools{}
	for _, r := range all {
		r.schemas, r.pools = schemas, pools
		for i := range r.Parts {
			r.Parts[i].bodies = newBodies(bodies[r.Name()+"/"+r.Parts[i].Name], schemas, seed)
		}
		if !r.Stored() {
			list := newBodies(bodies[r.Name()], schemas, seed)
			if len(list) == 0 && r.Resource != "selfsubjectrulesreviews" {
				return fmt.Errorf("there is nothing to post to %s: add to e2e/twin/bases/bodies.yaml", r.Name())
			}
			r.Parts = []Part{{bodies: list}}
			continue
		}
		if r.bases, err = readBases("bases/" + r.Name() + ".yaml"); err != nil {
			return fmt.Errorf("valid objects of %s: %w (add them)", r.Name(), err)
		}
		if r.sequences, err = readSequences(r.Name()); err != nil {
			return err
		}
		if schemas.kinds[r.Kind] == nil {
			return fmt.Errorf("upstream publishes no schema of %s", r.Kind)
		}
		for _, b := range r.bases {
			pools.gather("", b)
		}
		r.fields = schemas.withKeys(schemas.fields(schemas.kinds[r.Kind]), r.bases)
		r.mutations = ranked(sensible(mutations(r.fields), r.bases), seed)
		r.telling = tellingBy(r.mutations)
		r.changeable = changing(r.mutations, r.Name())
	}
	return nil
}

func newBodies(objects []map[string]any, schemas *Schemas, seed uint64) []body {
	var list []body
	for _, o := range objects {
		version, _ := schema.ParseGroupVersion(text(o, "apiVersion"))
		s := schemas.kinds[version.WithKind(text(o, "kind"))]
		if s == nil {
			s = &Schema{}
		}
		own := []map[string]any{o}
		order := ranked(sensible(mutations(schemas.withKeys(schemas.fields(s), own)), own), seed)
		list = append(list, body{o, order, newPlan(order, own, seed)})
	}
	return list
}

func readBases(file string) ([]map[string]any, error) {
	data, err := bases.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var list []map[string]any
	for _, document := range bytes.Split(data, []byte("\n---\n")) {
		object, err := parseYAML(document)
		if err != nil {
			return nil, err
		}
		list = append(list, object)
	}
	return list, nil
}

// readBodies returns what is posted, by what it is posted to.
func readBodies() (map[string][]map[string]any, error) {
	list, err := readBases("bases/bodies.yaml")
	if err != nil {
		return nil, err
	}
	all := map[string][]map[string]any{}
	for _, entry := range list {
		object, _ := entry["body"].(map[string]any)
		all[text(entry, "to")] = append(all[text(entry, "to")], object)
	}
	return all, nil
}
