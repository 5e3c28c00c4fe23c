package kind

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
)

// Endpoints describes the kind of that name.
var Endpoints = &Kind{
	Resource:   schema.GroupVersionResource{Group: "", Version: "v1", Resource: "endpoints"},
	Kind:       "Endpoints",
	Singular:   "endpoints",
	ShortNames: []string{"ep"},
	Namespaced: true,
	New:        func() Object { return &corev1.Endpoints{} },
	NewList:    func() runtime.Object { return &corev1.EndpointsList{} },

	Default: func(obj Object) { defaultEndpoints(obj.(*corev1.Endpoints)) },
	Validate: func(obj Object) field.ErrorList {
		return endpointsErrors(obj.(*corev1.Endpoints), nil)
	},
	ValidateUpdate: func(obj, old Object) field.ErrorList {
		return append(metaUpdateErrors(obj, old), endpointsErrors(obj.(*corev1.Endpoints), old.(*corev1.Endpoints))...)
	},
	Warnings: func(obj, _ Object) []string { return endpointsWarnings(obj.(*corev1.Endpoints)) },

	Columns: []metav1.TableColumnDefinition{
		nameColumn,
		column("Endpoints", corev1.Endpoints{}.SwaggerDoc()["subsets"]),
		ageColumn,
	},
	Row: func(obj Object, now time.Time) []any {
		e := obj.(*corev1.Endpoints)
		return []any{e.Name, endpointsText(e), since(e.CreationTimestamp.Time, now)}
	},
}

func defaultEndpoints(e *corev1.Endpoints) {
	for i := range e.Subsets {
		for j := range e.Subsets[i].Ports {
			if p := &e.Subsets[i].Ports[j]; p.Protocol == "" {
				p.Protocol = corev1.ProtocolTCP
			}
		}
	}
}

// endpointsWarnings spares what our own controller writes.
func endpointsWarnings(e *corev1.Endpoints) []string {
	if e.Labels["endpoints.kubernetes.io/managed-by"] == "endpoint-controller" {
		return nil
	}
	var warnings []string
	for i := range e.Subsets {
		path := field.NewPath("subsets").Index(i)
		for _, list := range []struct {
			name      string
			addresses []corev1.EndpointAddress
		}{{"addresses", e.Subsets[i].Addresses}, {"notReadyAddresses", e.Subsets[i].NotReadyAddresses}} {
			for j, a := range list.addresses {
				warnings = append(warnings, validation.GetWarningsForIP(path.Child(list.name).Index(j).Child("ip"), a.IP)...)
			}
		}
	}
	return warnings
}

// endpointsErrors checks the whole. old may be nil; what did not change since
// may be as wrong as it was.
func endpointsErrors(e, old *corev1.Endpoints) field.ErrorList {
	var was Object
	if old != nil {
		was = old
	}
	errs := newMetaErrors(e, was, apivalidation.NameIsDNSSubdomain)
	subsets := subsetErrors(e.Subsets, field.NewPath("subsets"))
	if len(subsets) > 0 && old != nil && equality.Semantic.DeepEqual(old.Subsets, e.Subsets) {
		return errs
	}
	return append(errs, subsets...)
}

func subsetErrors(subsets []corev1.EndpointSubset, root *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range subsets {
		s, path := &subsets[i], root.Index(i)
		if len(s.Addresses) == 0 && len(s.NotReadyAddresses) == 0 {
			errs = append(errs, field.Required(path, "must specify `addresses` or `notReadyAddresses`"))
		}
		for j := range s.Addresses {
			errs = append(errs, endpointAddressErrors(&s.Addresses[j], path.Child("addresses").Index(j))...)
		}
		for j := range s.NotReadyAddresses {
			errs = append(errs, endpointAddressErrors(&s.NotReadyAddresses[j], path.Child("notReadyAddresses").Index(j))...)
		}
		for j := range s.Ports {
			errs = append(errs, endpointPortErrors(&s.Ports[j], len(s.Ports) > 1, path.Child("ports").Index(j))...)
		}
	}
	return errs
}

func endpointAddressErrors(a *corev1.EndpointAddress, path *field.Path) field.ErrorList {
	errs := ipAddress(path.Child("ip"), a.IP)
	if a.Hostname != "" {
		errs = append(errs, dnsLabel(path.Child("hostname"), a.Hostname)...)
	}
	if a.NodeName != nil {
		errs = append(errs, dnsSubdomain(path.Child("nodeName"), *a.NodeName)...)
	}
	return append(errs, specialIPErrors(a.IP, path.Child("ip"))...)
}

func endpointPortErrors(p *corev1.EndpointPort, named bool, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if p.Name != "" {
		errs = append(errs, dnsLabel(path.Child("name"), p.Name)...)
	} else if named {
		errs = append(errs, field.Required(path.Child("name"), ""))
	}
	errs = append(errs, portNumber(path.Child("port"), p.Port)...)
	errs = append(errs, protocolErrors(p.Protocol, path.Child("protocol"))...)
	if p.AppProtocol != nil {
		errs = append(errs, qualifiedName(path.Child("appProtocol"), *p.AppProtocol)...)
	}
	return errs
}

// protocolErrors checks the protocol of a Service's or an endpoint's port.
func protocolErrors(p corev1.Protocol, path *field.Path) field.ErrorList {
	return requiredOneOf(path, p, corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP)
}

// specialIPErrors refuses addresses that mean something else on every node:
// through an endpoint they would open a node's own services to the cluster.
func specialIPErrors(ip string, path *field.Path) field.ErrorList {
	addr, ok := looseIP(ip)
	if !ok {
		return field.ErrorList{field.Invalid(path, ip, "must be a valid IP address")}
	}
	var errs field.ErrorList
	if addr.IsUnspecified() {
		errs = append(errs, field.Invalid(path, ip, fmt.Sprintf("may not be unspecified (%v)", ip)))
	}
	if addr.IsLoopback() {
		errs = append(errs, field.Invalid(path, ip, "may not be in the loopback range (127.0.0.0/8, ::1/128)"))
	}
	if addr.IsLinkLocalUnicast() {
		errs = append(errs, field.Invalid(path, ip, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"))
	}
	if addr.IsLinkLocalMulticast() {
		errs = append(errs, field.Invalid(path, ip, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"))
	}
	return errs
}

// looseIP reads an address as it was once accepted, with leading zeros; whether
// it still is, ipAddress tells.
func looseIP(ip string) (netip.Addr, bool) {
	addr, ok := netip.AddrFromSlice(netutils.ParseIPSloppy(ip))
	return addr.Unmap(), ok
}

// shownEndpoints is how many addresses or ports a table cell lists.
const shownEndpoints = 3

// endpointsText lists the first ready addresses with each of their ports.
func endpointsText(e *corev1.Endpoints) string {
	if len(e.Subsets) == 0 {
		return "<none>"
	}
	var texts []string
	for i := range e.Subsets {
		s := &e.Subsets[i]
		if len(s.Ports) == 0 {
			for _, a := range s.Addresses {
				texts = append(texts, a.IP)
			}
		}
		for _, p := range s.Ports {
			for _, a := range s.Addresses {
				texts = append(texts, net.JoinHostPort(a.IP, strconv.Itoa(int(p.Port))))
			}
		}
	}
	return firstOf(texts)
}

// firstOf joins the first few texts and counts the rest.
func firstOf(texts []string) string {
	if len(texts) <= shownEndpoints {
		return strings.Join(texts, ",")
	}
	return fmt.Sprintf("%s + %d more...", strings.Join(texts[:shownEndpoints], ","), len(texts)-shownEndpoints)
}
