package kind

import (
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
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
	Validate: func(obj Object) field.ErrorList {
		return endpointSliceErrors(obj.(*discoveryv1.EndpointSlice), nil)
	},
	ValidateUpdate: func(obj, old Object) field.ErrorList {
		s, o := obj.(*discoveryv1.EndpointSlice), old.(*discoveryv1.EndpointSlice)
		return append(endpointSliceErrors(s, o),
			immutable(field.NewPath("addressType"), s.AddressType, o.AddressType)...)
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

// The limits of one EndpointSlice.
const (
	maxSliceEndpoints = 1000
	maxSlicePorts     = 20000
	maxSliceAddresses = 100
	maxSliceHints     = 8
)

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

// prepareEndpointSlice raises the generation also when labels change, since
// they say whose endpoints these are.
func prepareEndpointSlice(s, old *discoveryv1.EndpointSlice) {
	s.Generation = old.Generation
	if !equality.Semantic.DeepEqual(s.Endpoints, old.Endpoints) {
		dropTopology(s)
	}
	if s.AddressType != old.AddressType ||
		!equality.Semantic.DeepEqual(s.Endpoints, old.Endpoints) ||
		!equality.Semantic.DeepEqual(s.Ports, old.Ports) ||
		!equality.Semantic.DeepEqual(s.Labels, old.Labels) {
		s.Generation = old.Generation + 1
	}
}

// dropTopology clears a field of v1beta1 that v1 shows but does not take.
func dropTopology(s *discoveryv1.EndpointSlice) {
	for i := range s.Endpoints {
		s.Endpoints[i].DeprecatedTopology = nil
	}
}

// endpointSliceErrors accepts addresses that old, which may be nil, already has.
func endpointSliceErrors(s, old *discoveryv1.EndpointSlice) field.ErrorList {
	errs := requiredOneOf(field.NewPath("addressType"), s.AddressType,
		discoveryv1.AddressTypeFQDN, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6)
	var known []string
	if old != nil {
		for i := range old.Endpoints {
			known = append(known, old.Endpoints[i].Addresses...)
		}
	}
	endpoints := field.NewPath("endpoints")
	if len(s.Endpoints) > maxSliceEndpoints {
		errs = append(errs, field.TooMany(endpoints, len(s.Endpoints), maxSliceEndpoints))
	} else {
		for i := range s.Endpoints {
			errs = append(errs, sliceEndpointErrors(&s.Endpoints[i], s.AddressType, known, endpoints.Index(i))...)
		}
	}
	return append(errs, slicePortErrors(s.Ports, field.NewPath("ports"))...)
}

func sliceEndpointErrors(e *discoveryv1.Endpoint, t discoveryv1.AddressType, known []string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	addresses := path.Child("addresses")
	if len(e.Addresses) == 0 {
		errs = append(errs, field.Required(addresses, "must contain at least 1 address"))
	} else if len(e.Addresses) > maxSliceAddresses {
		errs = append(errs, field.TooMany(addresses, len(e.Addresses), maxSliceAddresses))
	}
	for i, address := range e.Addresses {
		errs = append(errs, sliceAddressErrors(address, t, known, addresses.Index(i))...)
	}
	if e.NodeName != nil {
		errs = append(errs, dnsSubdomain(path.Child("nodeName"), *e.NodeName)...)
	}
	if e.Hostname != nil {
		errs = append(errs, dnsLabel(path.Child("hostname"), *e.Hostname)...)
	}
	if e.Hints != nil {
		errs = append(errs, sliceHintErrors(e.Hints, path.Child("hints"))...)
	}
	return errs
}

func sliceAddressErrors(address string, t discoveryv1.AddressType, known []string, path *field.Path) field.ErrorList {
	switch t {
	case discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6:
		errs := ipAddress(path, address, known...)
		if addr, ok := looseIP(address); ok && addr.Is4() != (t == discoveryv1.AddressTypeIPv4) {
			errs = append(errs, field.Invalid(path, address, "must be an "+string(t)+" address"))
		}
		return append(errs, specialIPErrors(address, path)...)
	case discoveryv1.AddressTypeFQDN:
		return validation.IsFullyQualifiedDomainName(path, address)
	}
	return nil
}

func sliceHintErrors(h *discoveryv1.EndpointHints, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	zones, nodes := path.Child("forZones"), path.Child("forNodes")
	seen := map[string]bool{}
	if len(h.ForZones) > maxSliceHints {
		errs = append(errs, field.TooMany(zones, len(h.ForZones), maxSliceHints))
	} else {
		for i, zone := range h.ForZones {
			at := zones.Index(i).Child("name")
			if seen[zone.Name] {
				errs = append(errs, field.Duplicate(at, zone.Name))
			}
			seen[zone.Name] = true
			errs = append(errs, invalidEach(at, zone.Name, validation.IsValidLabelValue(zone.Name))...)
		}
	}
	clear(seen)
	if len(h.ForNodes) > maxSliceHints {
		return append(errs, field.TooMany(nodes, len(h.ForNodes), maxSliceHints))
	}
	for i, node := range h.ForNodes {
		at := nodes.Index(i).Child("name")
		if seen[node.Name] {
			errs = append(errs, field.Duplicate(at, node.Name))
		}
		seen[node.Name] = true
		errs = append(errs, dnsSubdomain(at, node.Name)...)
	}
	return errs
}

func slicePortErrors(ports []discoveryv1.EndpointPort, path *field.Path) field.ErrorList {
	if len(ports) > maxSlicePorts {
		return field.ErrorList{field.TooMany(path, len(ports), maxSlicePorts)}
	}
	var errs field.ErrorList
	seen := map[string]bool{}
	for i := range ports {
		p, at := &ports[i], path.Index(i)
		name := ""
		if p.Name != nil {
			name = *p.Name
		}
		if name != "" {
			errs = append(errs, dnsLabel(at.Child("name"), name)...)
		}
		if seen[name] {
			errs = append(errs, field.Duplicate(at.Child("name"), name))
		}
		seen[name] = true
		protocol := corev1.Protocol("")
		if p.Protocol != nil {
			protocol = *p.Protocol
		}
		errs = append(errs, protocolErrors(protocol, at.Child("protocol"))...)
		if p.AppProtocol != nil {
			errs = append(errs, qualifiedName(at.Child("appProtocol"), *p.AppProtocol)...)
		}
	}
	return errs
}

func slicePortsText(s *discoveryv1.EndpointSlice) string {
	if len(s.Ports) == 0 {
		return "<unset>"
	}
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
	return firstOf(texts)
}

func sliceEndpointsText(s *discoveryv1.EndpointSlice) string {
	if len(s.Endpoints) == 0 {
		return "<unset>"
	}
	var texts []string
	for i := range s.Endpoints {
		texts = append(texts, s.Endpoints[i].Addresses...)
	}
	return firstOf(texts)
}
