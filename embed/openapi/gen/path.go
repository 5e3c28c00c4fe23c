//go:build openapi

package main

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/spec3"
)

// builder makes the document of one group-version.
type builder struct {
	name      string // the document's path below /openapi/v3
	gv        schema.GroupVersion
	resources []metav1.APIResource
	schemas   *schemas
	used      map[string]bool // names of schemas
	paths     map[string]*spec3.Path
}

func newBuilder(list *metav1.APIResourceList, s *schemas) *builder {
	gv, err := schema.ParseGroupVersion(list.GroupVersion)
	if err != nil {
		panic(err) // discovery never names such a group-version
	}
	b := &builder{gv: gv, resources: list.APIResources, schemas: s, used: map[string]bool{}, paths: map[string]*spec3.Path{}}
	b.name = "apis/" + gv.Group + "/" + gv.Version
	if gv.Group == "" {
		b.name = "api/" + gv.Version
	}
	return b
}

// build adds the paths of the group-version; there are none where it has no
// resources.
func (b *builder) build() {
	if len(b.resources) == 0 {
		return
	}
	b.paths["/"+b.name+"/"] = &spec3.Path{PathProps: spec3.PathProps{Get: b.discovery()}}
	for i := range b.resources {
		b.resource(&b.resources[i])
	}
}

// method is how a verb of discovery is asked for on a path.
type method struct{ verb, name, action string }

var (
	collectionMethods = []method{{"list", "get", "list"}, {"create", "post", "post"}, {"deletecollection", "delete", "deletecollection"}}
	itemMethods       = []method{{"get", "get", "get"}, {"update", "put", "put"}, {"patch", "patch", "patch"}, {"delete", "delete", "delete"}}
	partMethods       = append([]method{{"create", "post", "post"}}, itemMethods...)
	listMethods       = collectionMethods[:1]
	watchListMethods  = []method{{"watch", "get", "watchlist"}}
	watchMethods      = []method{{"watch", "get", "watch"}}
	// A way through has verbs for what it takes; with one for deleting it takes all.
	connectMethods = []method{
		{"get", "get", "connect"}, {"create", "post", "connect"}, {"update", "put", "connect"}, {"patch", "patch", "connect"},
		{"delete", "delete", "connect"}, {"delete", "head", "connect"}, {"delete", "options", "connect"},
	}
)

// resource adds the paths of a resource or subresource.
func (b *builder) resource(r *metav1.APIResource) {
	main, sub, isSub := strings.Cut(r.Name, "/")
	base, scope := "/"+b.name+"/", ""
	if r.Namespaced {
		scope = "namespaces/{namespace}/"
	}
	item := base + scope + main + "/{name}"
	switch {
	case isSub && connects(r):
		b.add(item+"/"+sub, r, connectMethods)
		if sub == "proxy" {
			b.add(item+"/"+sub+"/{path}", r, connectMethods)
		}
	case isSub:
		b.add(item+"/"+sub, r, partMethods)
	default:
		b.add(base+scope+main, r, collectionMethods)
		b.add(item, r, itemMethods)
		b.add(base+"watch/"+scope+main, r, watchListMethods)
		b.add(base+"watch/"+scope+main+"/{name}", r, watchMethods)
		if r.Namespaced {
			b.add(base+main, r, listMethods)
			b.add(base+"watch/"+main, r, watchListMethods)
		}
	}
}

// add adds one path with the operations for those verbs that the resource has.
func (b *builder) add(path string, r *metav1.APIResource, methods []method) {
	operations := map[string]*spec3.Operation{}
	for _, m := range methods {
		if slices.Contains(r.Verbs, m.verb) {
			operations[m.name] = b.operation(path, r, m)
		}
	}
	if len(operations) == 0 {
		return
	}
	b.paths[path] = &spec3.Path{PathProps: spec3.PathProps{
		Parameters: extractShared(operations),
		Get:        operations["get"], Put: operations["put"], Post: operations["post"], Delete: operations["delete"],
		Options: operations["options"], Head: operations["head"], Patch: operations["patch"],
	}}
}

// kindOf returns the kind of a resource's bodies.
func (b *builder) kindOf(r *metav1.APIResource) schema.GroupVersionKind {
	gvk := b.gv.WithKind(r.Kind)
	if r.Version != "" {
		gvk.Group, gvk.Version = r.Group, r.Version
	}
	return gvk
}
