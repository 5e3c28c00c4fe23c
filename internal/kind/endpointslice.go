package kind

import (
	"cmp"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// EndpointSlice describes the kind of that name.
var EndpointSlice = &Kind{
	Resource:   schema.GroupVersionResource{Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"},
	Kind:       "EndpointSlice",
	Singular:   "endpointslice",
	Namespaced: true,
	New:        func() Object { return &discoveryv1.EndpointSlice{} },
	NewList:    func() runtime.Object { return &discoveryv1.EndpointSliceList{} },

	Default: func(obj Object) { defaultEndpointSlice(obj.(*discoveryv1.EndpointSlice)) },
	PrepareCreate: func(obj Object) {
		obj.SetGeneration(1)
		dropTopology(obj.(*discoveryv1.EndpointSlice))
	},
	PrepareUpdate: func(obj, old Object) {
		prepareEndpointSlice(obj.(*discoveryv1.EndpointSlice), old.(*discoveryv1.EndpointSlice))
	},
	Canonicalize: func(obj Object) { canonicalSlice(obj.(*discoveryv1.EndpointSlice)) },
	Validate: func(obj Object) field.ErrorList {
		return endpointSliceErrors(obj.(*discoveryv1.EndpointSlice), nil)
	},
	ValidateUpdate: func(obj, old Object) field.ErrorList {
		s, o := obj.(*discoveryv1.EndpointSlice), old.(*discoveryv1.EndpointSlice)
		return append(endpointSliceErrors(s, o),
			immutable(field.NewPath("addressType"), s.AddressType, o.AddressType)...)
	},
	Warnings: func(obj, old Object) []string {
		return endpointSliceWarnings(obj.(*discoveryv1.EndpointSlice), old == nil)
	},

	Columns: []metav1.TableColumnDefinition{
		nameColumn,
		column("AddressType", discoveryv1.EndpointSlice{}.SwaggerDoc()["addressType"]),
		column("Ports", discoveryv1.EndpointSlice{}.SwaggerDoc()["ports"]),
		column("Endpoints", discoveryv1.EndpointSlice{}.SwaggerDoc()["endpoints"]),
		ageColumn,
	},
	Row: func(obj Object, now time.Time) []any {
		s := obj.(*discoveryv1.EndpointSlice)
		return []any{s.Name, string(s.AddressType), slicePortsText(s), sliceEndpointsText(s), since(s.CreationTimestamp.Time, now)}
	},
}

// defaultEndpointSlice leaves the conditions alone: an endpoint that says
// nothing of itself counts as ready, which is for readers to know.
func defaultEndpointSlice(s *discoveryv1.EndpointSlice) {
	for i := range s.Ports {
		p := &s.Ports[i]
		if p.Name == nil {
			p.Name = new(string)
		}
		if p.Protocol == nil {
			tcp := corev1.ProtocolTCP
			p.Protocol = &tcp
		}
	}
}

// canonicalSlice shows no list where there is nothing in it: it reads as null.
func canonicalSlice(s *discoveryv1.EndpointSlice) {
	if len(s.Endpoints) == 0 {
		s.Endpoints = nil
	}
	if len(s.Ports) == 0 {
		s.Ports = nil
	}
}

// prepareEndpointSlice raises the generation also when labels change, since
// they say whose endpoints these are.
func prepareEndpointSlice(s, old *discoveryv1.EndpointSlice) {
	s.Generation = old.Generation
	moved := !equality.Semantic.DeepEqual(s.Endpoints, old.Endpoints)
	if moved || s.AddressType != old.AddressType ||
		!equality.Semantic.DeepEqual(s.Ports, old.Ports) ||
		!equality.Semantic.DeepEqual(s.Labels, old.Labels) {
		s.Generation = old.Generation + 1
	}
	if moved {
		dropTopology(s)
	}
}

// dropTopology clears a field of v1beta1 that v1 shows but does not take.
func dropTopology(s *discoveryv1.EndpointSlice) {
	for i := range s.Endpoints {
		s.Endpoints[i].DeprecatedTopology = nil
	}
}

func slicePortsText(s *discoveryv1.EndpointSlice) string {
	texts := make([]string, 0, len(s.Ports))
	for i := range s.Ports {
		switch p := &s.Ports[i]; {
		case p.Port != nil:
			texts = append(texts, strconv.Itoa(int(*p.Port)))
		case p.Name != nil:
			texts = append(texts, *p.Name)
		default:
			texts = append(texts, "*")
		}
	}
	return cmp.Or(firstOf(texts), "<unset>")
}

func sliceEndpointsText(s *discoveryv1.EndpointSlice) string {
	var texts []string
	for i := range s.Endpoints {
		texts = append(texts, s.Endpoints[i].Addresses...)
	}
	return cmp.Or(firstOf(texts), "<unset>")
}
