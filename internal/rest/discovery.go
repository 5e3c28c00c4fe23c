package rest

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"

	discoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skiff-sh/skiff/internal/kind"
)

// mainVerbs are the verbs of every kind, in upstream's order.
var mainVerbs = []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}

// subresource is a subresource as discovery shows it.
type subresource struct {
	name  string
	kind  schema.GroupVersionKind
	verbs []string
}

// subresources returns what a resource has below it, by name. A face shows
// none: what is below belongs to the storage version.
func (r *resource) subresources() []subresource {
	if r.face != nil {
		return nil
	}
	var all []subresource
	for _, s := range r.kind.Subresources {
		gvk := s.Kind
		if gvk.Empty() {
			gvk = r.gvk
		}
		verbs := slices.Sorted(slices.Values(s.Verbs))
		all = append(all, subresource{s.Name, gvk, verbs})
	}
	slices.SortFunc(all, func(a, b subresource) int { return strings.Compare(a.name, b.name) })
	return all
}

// discoveryDocuments are computed once: the kinds never change.
type discoveryDocuments struct {
	core, groups *discoveryv2.APIGroupDiscoveryList
	coreTag      string
	groupsTag    string
	resources    map[groupVersion]*metav1.APIResourceList
	apiGroups    metav1.APIGroupList
}

func newDiscoveryDocuments(order []*group) *discoveryDocuments {
	d := &discoveryDocuments{
		core:      &discoveryv2.APIGroupDiscoveryList{},
		groups:    &discoveryv2.APIGroupDiscoveryList{},
		resources: map[groupVersion]*metav1.APIResourceList{},
	}
	for _, g := range order {
		d.resources[g.groupVersion] = g.resourceList()
		if g.group == "" {
			d.core.Items = append(d.core.Items, discoveryv2.APIGroupDiscovery{Versions: []discoveryv2.APIVersionDiscovery{g.aggregated()}})
			continue
		}
		d.addGroup(g)
	}
	d.coreTag, d.groupsTag = tagOf(d.core), tagOf(d.groups)
	return d
}

// addGroup adds a version to its group, which it founds if it is the first.
func (d *discoveryDocuments) addGroup(g *group) {
	version := metav1.GroupVersionForDiscovery{GroupVersion: g.group + "/" + g.version, Version: g.version}
	last := len(d.groups.Items) - 1
	if last >= 0 && d.groups.Items[last].Name == g.group {
		d.groups.Items[last].Versions = append(d.groups.Items[last].Versions, g.aggregated())
		d.apiGroups.Groups[last].Versions = append(d.apiGroups.Groups[last].Versions, version)
		return
	}
	d.groups.Items = append(d.groups.Items, discoveryv2.APIGroupDiscovery{
		ObjectMeta: metav1.ObjectMeta{Name: g.group},
		Versions:   []discoveryv2.APIVersionDiscovery{g.aggregated()},
	})
	d.apiGroups.Groups = append(d.apiGroups.Groups, metav1.APIGroup{
		Name: g.group, Versions: []metav1.GroupVersionForDiscovery{version}, PreferredVersion: version,
	})
}

// tagOf is upstream's ETag: the upper-case SHA-512 of the document.
func tagOf(list *discoveryv2.APIGroupDiscoveryList) string {
	data, err := list.Marshal()
	if err != nil {
		panic(err) // built from constants a moment ago
	}
	return fmt.Sprintf("%X", sha512.Sum512(data))
}

// resourceList is the document of a group-version before aggregation.
func (g *group) resourceList() *metav1.APIResourceList {
	list := &metav1.APIResourceList{GroupVersion: schema.GroupVersion{Group: g.group, Version: g.version}.String()}
	if g.group == "" {
		list.APIResources = append(list.APIResources, metav1.APIResource{
			Name: "bindings", SingularName: "binding", Namespaced: true, Kind: "Binding", Verbs: []string{"create"},
		})
	}
	for _, r := range g.order {
		list.APIResources = append(list.APIResources, metav1.APIResource{
			Name: r.gvr.Resource, SingularName: r.kind.Singular, Namespaced: r.kind.Namespaced, Kind: r.gvk.Kind,
			Verbs: verbsOf(r.kind), ShortNames: r.kind.ShortNames, Categories: r.kind.Categories,
			StorageVersionHash: storageVersionHash(r.kind.GVK()),
		})
		for _, s := range r.subresources() {
			item := metav1.APIResource{Name: r.gvr.Resource + "/" + s.name, Namespaced: r.kind.Namespaced, Kind: s.kind.Kind, Verbs: s.verbs}
			if s.kind.GroupVersion() != r.gvk.GroupVersion() {
				item.Group, item.Version = s.kind.Group, s.kind.Version
			}
			list.APIResources = append(list.APIResources, item)
		}
	}
	for _, review := range reviewKinds[g.groupVersion] {
		list.APIResources = append(list.APIResources, metav1.APIResource{
			Name: review.resource, SingularName: review.singular(), Namespaced: review.namespaced, Kind: review.kind, Verbs: []string{"create"},
		})
	}
	return list
}

// storageVersionHash identifies in which version objects are stored, to those who
// migrate them.
func storageVersionHash(gvk schema.GroupVersionKind) string {
	sum := sha256.Sum256([]byte(gvk.Group + "/" + gvk.Version + "/" + gvk.Kind))
	return base64.StdEncoding.EncodeToString(sum[:8])
}

// verbsOf returns the verbs of the main resource. Namespaces cannot be deleted
// as a collection.
func verbsOf(k *kind.Kind) []string {
	if k.Resource.Resource == "namespaces" {
		return []string{"create", "delete", "get", "list", "patch", "update", "watch"}
	}
	return mainVerbs
}

// aggregated is the group-version in the aggregated document.
func (g *group) aggregated() discoveryv2.APIVersionDiscovery {
	version := discoveryv2.APIVersionDiscovery{Version: g.version, Freshness: discoveryv2.DiscoveryFreshnessCurrent}
	create := func(resource, singular, kind string, namespaced bool) {
		version.Resources = append(version.Resources, discoveryv2.APIResourceDiscovery{
			Resource: resource, SingularResource: singular, Scope: scopeOf(namespaced), Verbs: []string{"create"},
			ResponseKind: &metav1.GroupVersionKind{Kind: kind},
		})
	}
	if g.group == "" {
		create("bindings", "binding", "Binding", true)
	}
	for _, r := range g.order {
		item := discoveryv2.APIResourceDiscovery{
			Resource: r.gvr.Resource, SingularResource: r.kind.Singular, Scope: scopeOf(r.kind.Namespaced),
			ResponseKind: g.discoveryGVK(r.gvk), Verbs: verbsOf(r.kind), ShortNames: r.kind.ShortNames, Categories: r.kind.Categories,
		}
		for _, s := range r.subresources() {
			item.Subresources = append(item.Subresources, discoveryv2.APISubresourceDiscovery{
				Subresource: s.name, ResponseKind: g.discoveryGVK(s.kind), Verbs: s.verbs,
			})
		}
		version.Resources = append(version.Resources, item)
	}
	for _, review := range reviewKinds[g.groupVersion] {
		create(review.resource, review.singular(), review.kind, review.namespaced)
	}
	return version
}

func scopeOf(namespaced bool) discoveryv2.ResourceScope {
	if namespaced {
		return discoveryv2.ScopeNamespace
	}
	return discoveryv2.ScopeCluster
}

// discoveryGVK names a kind, and its group-version where that is another one.
func (g *group) discoveryGVK(gvk schema.GroupVersionKind) *metav1.GroupVersionKind {
	if gvk.Group == g.group && gvk.Version == g.version {
		return &metav1.GroupVersionKind{Kind: gvk.Kind}
	}
	return &metav1.GroupVersionKind{Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind}
}

// groupPaths returns the handlers of /apis and of each group, which do not mind
// methods.
func (h *Handler) groupPaths() map[string]http.HandlerFunc {
	paths := map[string]http.HandlerFunc{"/apis": h.apiGroups, "/apis/": h.apiGroups}
	for i := range h.discovery.apiGroups.Groups {
		g := &h.discovery.apiGroups.Groups[i]
		serve := func(w http.ResponseWriter, r *http.Request) {
			h.writeAny(w, r, http.StatusOK, g, schema.GroupVersionKind{Version: "v1", Kind: "APIGroup"})
		}
		paths["/apis/"+g.Name], paths["/apis/"+g.Name+"/"] = serve, serve
	}
	return paths
}

// apiGroups serves /apis.
func (h *Handler) apiGroups(w http.ResponseWriter, r *http.Request) {
	d := h.discovery
	if !h.aggregated(w, r, d.groups, d.groupsTag) {
		h.writeAny(w, r, http.StatusOK, &d.apiGroups, schema.GroupVersionKind{Version: "v1", Kind: "APIGroupList"})
	}
}

// discoveryPaths returns the handlers of /api and of the group-versions.
func (h *Handler) discoveryPaths() map[string]http.HandlerFunc {
	d := h.discovery
	old := func(kind string) schema.GroupVersionKind { return schema.GroupVersionKind{Kind: kind} } // older than that field
	paths := map[string]http.HandlerFunc{
		"/api": func(w http.ResponseWriter, r *http.Request) {
			if h.aggregated(w, r, d.core, d.coreTag) {
				return
			}
			versions := &metav1.APIVersions{Versions: []string{"v1"}, ServerAddressByClientCIDRs: []metav1.ServerAddressByClientCIDR{
				{ClientCIDR: "0.0.0.0/0", ServerAddress: r.Host},
			}}
			h.writeAny(w, r, http.StatusOK, versions, old("APIVersions"))
		},
	}
	for gv, list := range d.resources {
		p, gvk := "/apis/"+gv.group+"/"+gv.version, schema.GroupVersionKind{Version: "v1", Kind: "APIResourceList"}
		if gv.group == "" {
			p, gvk = "/api/"+gv.version, old("APIResourceList")
		}
		paths[p] = func(w http.ResponseWriter, r *http.Request) { h.writeAny(w, r, http.StatusOK, list, gvk) }
	}
	return paths
}

// aggregated answers with the aggregated document if the client asks for it
// before any other form.
func (h *Handler) aggregated(w http.ResponseWriter, r *http.Request, list *discoveryv2.APIGroupDiscoveryList, tag string) bool {
	for _, c := range clauses(strings.Join(r.Header["Accept"], ",")) {
		f, ok := c.form(false, false)
		if ok {
			return false
		}
		if !c.wantsAggregated(&f) {
			continue
		}
		w.Header().Set("ETag", `"`+tag+`"`)
		w.Header().Set("Vary", "Accept")
		if strings.Contains(r.Header.Get("If-None-Match"), tag) {
			w.WriteHeader(http.StatusNotModified)
			return true
		}
		h.writeAggregated(w, r, list, f)
		return true
	}
	return false
}

// wantsAggregated tells as=APIGroupDiscoveryList;g=apidiscovery.k8s.io;v=v2.
func (c clause) wantsAggregated(f *form) bool {
	if c.kind != "application" || !slices.Contains(c.params, "as=APIGroupDiscoveryList") ||
		!slices.Contains(c.params, "g=apidiscovery.k8s.io") || !slices.Contains(c.params, "v=v2") {
		return false
	}
	switch c.subtype {
	case "json":
		return true
	case "vnd.kubernetes.protobuf":
		f.media = mediaProtobuf
		return true
	}
	return false
}

func (h *Handler) writeAggregated(w http.ResponseWriter, r *http.Request, list *discoveryv2.APIGroupDiscoveryList, f form) {
	b := takeBuffer()
	defer giveBuffer(b)
	gvk := schema.GroupVersionKind{Group: "apidiscovery.k8s.io", Version: "v2", Kind: "APIGroupDiscoveryList"}
	err := appendAny(b, list, gvk, f.media)
	if err == nil {
		err = finish(b, f)
	}
	if err != nil {
		h.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", f.contentType(false)+";g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
	writeCached(w, r, http.StatusOK, b, []string{"public"})
}

// Discovery returns the discovery documents of the kinds' group-versions, in
// order: for those who describe what is served.
func Discovery(kinds []*kind.Kind) []*metav1.APIResourceList {
	_, order := newGroups(kinds)
	var all []*metav1.APIResourceList
	for _, g := range order {
		all = append(all, g.resourceList())
	}
	return all
}
