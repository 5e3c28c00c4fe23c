package rest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skiff-sh/skiff/internal/kind"
)

// resource is a kind as one group-version shows it.
type resource struct {
	kind *kind.Kind
	face *kind.Face // nil: the storage version
	gvr  schema.GroupVersionResource
	gvk  schema.GroupVersionKind

	// deprecation is the warning that goes with every answer, "" for most.
	deprecation string

	// The constant beginnings of encoded objects and lists.
	jsonType, jsonListType []byte
}

func newResource(k *kind.Kind, face *kind.Face) *resource {
	r := &resource{kind: k, face: face, gvr: k.Resource}
	if face != nil {
		r.gvr = face.Resource
	}
	r.gvk = r.gvr.GroupVersion().WithKind(k.Kind)
	r.deprecation = deprecationOf(r.new(), r.gvk)
	r.jsonType = typePrefix(r.gvk)
	r.jsonListType = typePrefix(r.listGVK())
	return r
}

// deprecationOf is upstream's warning about a type that its package marks as
// deprecated.
func deprecationOf(obj any, gvk schema.GroupVersionKind) string {
	deprecated, ok := obj.(interface {
		APILifecycleDeprecated() (major, minor int)
	})
	if !ok {
		return ""
	}
	major, minor := deprecated.APILifecycleDeprecated()
	text := fmt.Sprintf("%s %s is deprecated in v%d.%d+", gvk.GroupVersion(), gvk.Kind, major, minor)
	if replaced, ok := obj.(interface {
		APILifecycleReplacement() schema.GroupVersionKind
	}); ok {
		by := replaced.APILifecycleReplacement()
		text += fmt.Sprintf("; use %s %s", by.GroupVersion(), by.Kind)
	}
	return text
}

// typePrefix is how JSON objects begin: `{"kind":"Pod","apiVersion":"v1",`.
func typePrefix(gvk schema.GroupVersionKind) []byte {
	if gvk.Version == "" {
		return []byte(`{"kind":"` + gvk.Kind + `",`)
	}
	return []byte(`{"kind":"` + gvk.Kind + `","apiVersion":"` + gvk.GroupVersion().String() + `",`)
}

func (r *resource) listGVK() schema.GroupVersionKind {
	return r.gvr.GroupVersion().WithKind(r.gvk.Kind + "List")
}

// new returns an empty object of the resource's own type.
func (r *resource) new() kind.Object {
	if r.face != nil {
		return r.face.New()
	}
	return r.kind.New()
}

// stored converts to the storage version.
func (r *resource) stored(obj kind.Object) kind.Object {
	if r.face != nil {
		return r.face.ToStored(obj)
	}
	return obj
}

// served converts from the storage version.
func (r *resource) served(obj kind.Object) kind.Object {
	if r.face != nil {
		return r.face.FromStored(obj)
	}
	return obj
}

// columns returns the table's columns and the function that fills a row from
// an object of the resource's own type.
func (r *resource) columns() ([]metav1.TableColumnDefinition, func(kind.Object, time.Time) []any) {
	if r.face != nil && r.face.Row != nil {
		return r.face.Columns, r.face.Row
	}
	if r.kind.Row == nil {
		return defaultColumns, defaultRow
	}
	if r.face == nil {
		return r.kind.Columns, r.kind.Row
	}
	return r.kind.Columns, func(obj kind.Object, now time.Time) []any {
		return r.kind.Row(r.face.ToStored(obj), now)
	}
}

// group is one group-version with its resources.
type group struct {
	groupVersion
	resources map[string]*resource
	order     []*resource // by name, as discovery lists them
}

// groupOrder is upstream's order of groups in discovery: by their priority,
// then by name.
var groupOrder = []string{
	"", "apps", "events.k8s.io", "authentication.k8s.io", "authorization.k8s.io",
	"autoscaling", "batch", "certificates.k8s.io", "networking.k8s.io", "policy",
	"rbac.authorization.k8s.io", "storage.k8s.io", "admissionregistration.k8s.io",
	"apiextensions.k8s.io", "scheduling.k8s.io", "coordination.k8s.io",
	"node.k8s.io", "discovery.k8s.io", "flowcontrol.apiserver.k8s.io",
}

// newGroups lays the kinds and their faces out by group-version.
func newGroups(kinds []*kind.Kind) (map[groupVersion]*group, []*group) {
	groups := map[groupVersion]*group{}
	add := func(r *resource) {
		gv := groupVersion{r.gvr.Group, r.gvr.Version}
		g := groups[gv]
		if g == nil {
			g = &group{groupVersion: gv, resources: map[string]*resource{}}
			groups[gv] = g
		}
		g.resources[r.gvr.Resource] = r
		g.order = append(g.order, r)
	}
	for _, k := range kinds {
		add(newResource(k, nil))
		for i := range k.Faces {
			add(newResource(k, &k.Faces[i]))
		}
	}
	for gv := range reviewKinds {
		if groups[gv] == nil {
			groups[gv] = &group{groupVersion: gv}
		}
	}
	var order []*group
	for _, g := range groups {
		slices.SortFunc(g.order, func(a, b *resource) int {
			return strings.Compare(a.gvr.Resource, b.gvr.Resource)
		})
		order = append(order, g)
	}
	slices.SortFunc(order, compareGroups)
	return groups, order
}

// compareGroups sorts by groupOrder, unknown ones last, then by version.
func compareGroups(a, b *group) int {
	rank := func(name string) int {
		if i := slices.Index(groupOrder, name); i >= 0 {
			return i
		}
		return len(groupOrder)
	}
	if d := rank(a.group) - rank(b.group); d != 0 {
		return d
	}
	if d := strings.Compare(a.group, b.group); d != 0 {
		return d
	}
	return strings.Compare(a.version, b.version)
}
