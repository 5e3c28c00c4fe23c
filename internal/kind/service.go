package kind

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Service describes the kind of that name. Whoever stores it completes it
// (CompleteService) and allocates its address families, addresses and node ports
// before it is prepared and validated.
var Service = &Kind{
	Resource:   schema.GroupVersionResource{Group: "", Version: "v1", Resource: "services"},
	Kind:       "Service",
	Singular:   "service",
	ShortNames: []string{"svc"},
	Categories: []string{"all"},
	Namespaced: true,
	New:        func() Object { return &corev1.Service{} },
	NewList:    func() runtime.Object { return &corev1.ServiceList{} },

	Default:       func(obj Object) { defaultService(obj.(*corev1.Service)) },
	PrepareCreate: func(obj Object) { prepareService(obj.(*corev1.Service)) },
	PrepareUpdate: func(obj, old Object) {
		prepareServiceUpdate(obj.(*corev1.Service), old.(*corev1.Service))
	},
	// Names have been DNS-1123 labels since 1.36; before, they had to begin
	// with a letter.
	Validate: func(obj Object) field.ErrorList {
		return append(newMetaErrors(obj, nil, apivalidation.NameIsDNSLabel), serviceErrors(obj.(*corev1.Service), nil)...)
	},
	ValidateUpdate: func(obj, old Object) field.ErrorList {
		s, o := obj.(*corev1.Service), old.(*corev1.Service)
		return slices.Concat(metaUpdateErrors(s, o), serviceUpdateErrors(s, o), serviceErrors(s, o))
	},
	Warnings:     func(obj, _ Object) []string { return serviceWarnings(obj.(*corev1.Service)) },
	Canonicalize: func(obj Object) { canonicalService(obj.(*corev1.Service)) },

	Subresources: []Subresource{
		{
			Name:  "proxy",
			Kind:  corev1.SchemeGroupVersion.WithKind("ServiceProxyOptions"),
			Verbs: []string{"create", "delete", "get", "patch", "update"},
		},
		{
			Name:  "status",
			Verbs: []string{"get", "patch", "update"},
			PrepareUpdate: func(obj, old Object) {
				old.(*corev1.Service).Spec.DeepCopyInto(&obj.(*corev1.Service).Spec)
			},
			ValidateUpdate: func(obj, old Object) field.ErrorList {
				return append(metaUpdateErrors(obj, old), serviceStatusErrors(obj.(*corev1.Service), old.(*corev1.Service))...)
			},
			Warnings: func(obj, _ Object) []string { return serviceStatusWarnings(obj.(*corev1.Service)) },
		},
	},

	Columns: []metav1.TableColumnDefinition{
		nameColumn,
		column("Type", corev1.ServiceSpec{}.SwaggerDoc()["type"]),
		column("Cluster-IP", corev1.ServiceSpec{}.SwaggerDoc()["clusterIP"]),
		column("External-IP", corev1.ServiceSpec{}.SwaggerDoc()["externalIPs"]),
		column("Port(s)", corev1.ServiceSpec{}.SwaggerDoc()["ports"]),
		ageColumn,
		wideColumn("Selector", corev1.ServiceSpec{}.SwaggerDoc()["selector"]),
	},
	Row: func(obj Object, now time.Time) []any { return serviceRow(obj.(*corev1.Service), now) },

	FieldNames: []string{"spec.clusterIP", "spec.type"},
	Fields: func(obj Object) fields.Set {
		s := obj.(*corev1.Service)
		return fields.Set{"spec.clusterIP": s.Spec.ClusterIP, "spec.type": string(s.Spec.Type)}
	},
}

func serviceRow(s *corev1.Service, now time.Time) []any {
	address := "<none>"
	if len(s.Spec.ClusterIPs) > 0 {
		address = s.Spec.ClusterIPs[0]
	}
	return []any{
		s.Name,
		string(s.Spec.Type),
		address,
		serviceExternalText(s),
		servicePortsText(s),
		since(s.CreationTimestamp.Time, now),
		labels.FormatLabels(s.Spec.Selector),
	}
}

func serviceExternalText(s *corev1.Service) string {
	var addresses []string
	switch s.Spec.Type {
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort:
		addresses = s.Spec.ExternalIPs
		if len(addresses) == 0 {
			return "<none>"
		}
	case corev1.ServiceTypeLoadBalancer:
		for _, ingress := range s.Status.LoadBalancer.Ingress {
			if ingress.IP != "" {
				addresses = append(addresses, ingress.IP)
			} else if ingress.Hostname != "" {
				addresses = append(addresses, ingress.Hostname)
			}
		}
		slices.Sort(addresses)
		addresses = append(slices.Compact(addresses), s.Spec.ExternalIPs...)
		if len(addresses) == 0 {
			return "<pending>"
		}
	case corev1.ServiceTypeExternalName:
		return s.Spec.ExternalName
	default:
		return "<unknown>"
	}
	return strings.Join(addresses, ",")
}

func servicePortsText(s *corev1.Service) string {
	if len(s.Spec.Ports) == 0 {
		return "<none>"
	}
	texts := make([]string, len(s.Spec.Ports))
	for i, p := range s.Spec.Ports {
		texts[i] = fmt.Sprintf("%d/%s", p.Port, p.Protocol)
		if p.NodePort > 0 {
			texts[i] = fmt.Sprintf("%d:%d/%s", p.Port, p.NodePort, p.Protocol)
		}
	}
	return strings.Join(texts, ",")
}
