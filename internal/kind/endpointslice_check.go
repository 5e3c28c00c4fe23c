package kind

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The limits of one EndpointSlice.
const (
	maxSliceEndpoints = 1000
	maxSlicePorts     = 20000
	maxSliceAddresses = 100
	maxSliceHints     = 8
)

// endpointSliceWarnings spares what our own controllers write.
func endpointSliceWarnings(s *discoveryv1.EndpointSlice, created bool) []string {
	var warnings []string
	if created && s.AddressType == discoveryv1.AddressTypeFQDN {
		warnings = append(warnings, "spec.addressType: FQDN endpoints are deprecated")
	}
	switch s.Labels[discoveryv1.LabelManagedBy] {
	case "endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io":
		return warnings
	}
	for i := range s.Endpoints {
		warnings = append(warnings, ipWarnings(field.NewPath("endpoints").Index(i).Child("addresses"), s.Endpoints[i].Addresses)...)
	}
	return warnings
}

// endpointSliceErrors checks the whole. old may be nil; endpoints that did not
// change since may be as wrong as they were.
func endpointSliceErrors(s, old *discoveryv1.EndpointSlice) field.ErrorList {
	var was Object
	if old != nil {
		was = old
	}
	errs := newMetaErrors(s, was, apivalidation.NameIsDNSSubdomain)
	errs = append(errs, requiredOneOf(field.NewPath("addressType"), s.AddressType,
		discoveryv1.AddressTypeFQDN, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6)...)
	errs = append(errs, slicePortErrors(s.Ports, field.NewPath("ports"))...)
	endpoints := sliceEndpointsErrors(s, field.NewPath("endpoints"))
	if len(endpoints) > 0 && old != nil && equality.Semantic.DeepEqual(old.Endpoints, s.Endpoints) {
		return errs
	}
	return append(errs, endpoints...)
}

func sliceEndpointsErrors(s *discoveryv1.EndpointSlice, path *field.Path) field.ErrorList {
	if len(s.Endpoints) > maxSliceEndpoints {
		return field.ErrorList{field.TooMany(path, len(s.Endpoints), maxSliceEndpoints)}
	}
	var errs field.ErrorList
	for i := range s.Endpoints {
		errs = append(errs, sliceEndpointErrors(&s.Endpoints[i], s.AddressType, path.Index(i))...)
	}
	return errs
}

func sliceEndpointErrors(e *discoveryv1.Endpoint, t discoveryv1.AddressType, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	addresses := path.Child("addresses")
	if len(e.Addresses) == 0 {
		errs = append(errs, field.Required(addresses, "must contain at least 1 address"))
	} else if len(e.Addresses) > maxSliceAddresses {
		errs = append(errs, field.TooMany(addresses, len(e.Addresses), maxSliceAddresses))
	}
	for i, address := range e.Addresses {
		errs = append(errs, sliceAddressErrors(address, t, addresses, i)...)
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

// sliceAddressErrors speaks of the whole list where the family is wrong, as
// upstream does.
func sliceAddressErrors(address string, t discoveryv1.AddressType, list *field.Path, i int) field.ErrorList {
	path := list.Index(i)
	var errs field.ErrorList
	switch t {
	case discoveryv1.AddressTypeIPv4:
		errs = ipAddress(path, address)
	case discoveryv1.AddressTypeIPv6:
		errs = validation.IsValidIP(path, address)
	case discoveryv1.AddressTypeFQDN:
		return validation.IsFullyQualifiedDomainName(path, address)
	default:
		return nil
	}
	if len(errs) > 0 {
		return errs
	}
	if addr, ok := looseIP(address); !ok || addr.Is4() != (t == discoveryv1.AddressTypeIPv4) {
		errs = append(errs, field.Invalid(list, address, "must be an "+string(t)+" address"))
	}
	return append(errs, specialIPErrors(address, path)...)
}

// sliceHintErrors says nothing of nodes where there are too many zones.
func sliceHintErrors(h *discoveryv1.EndpointHints, path *field.Path) field.ErrorList {
	zones, nodes := path.Child("forZones"), path.Child("forNodes")
	if len(h.ForZones) > maxSliceHints {
		return field.ErrorList{field.TooMany(zones, len(h.ForZones), maxSliceHints)}
	}
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, zone := range h.ForZones {
		at := zones.Index(i).Child("name")
		errs = append(errs, oneOfAKind(seen, at, zone.Name)...)
		errs = append(errs, invalidEach(at, zone.Name, validation.IsValidLabelValue(zone.Name))...)
	}
	if len(h.ForNodes) > maxSliceHints {
		return append(errs, field.TooMany(nodes, len(h.ForNodes), maxSliceHints))
	}
	clear(seen)
	for i, node := range h.ForNodes {
		at := nodes.Index(i).Child("name")
		errs = append(errs, oneOfAKind(seen, at, node.Name)...)
		errs = append(errs, dnsSubdomain(at, node.Name)...)
	}
	return errs
}

// oneOfAKind notes that a name was seen, and says so if it was before.
func oneOfAKind(seen map[string]bool, path *field.Path, name string) field.ErrorList {
	if seen[name] {
		return field.ErrorList{field.Duplicate(path, name)}
	}
	seen[name] = true
	return nil
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
		errs = append(errs, oneOfAKind(seen, at.Child("name"), name)...)
		if p.Protocol == nil {
			errs = append(errs, field.Required(at.Child("protocol"), ""))
		} else {
			errs = append(errs, oneOf(at.Child("protocol"), *p.Protocol, corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP)...)
		}
		if p.AppProtocol != nil {
			errs = append(errs, qualifiedName(at.Child("appProtocol"), *p.AppProtocol)...)
		}
	}
	return errs
}
