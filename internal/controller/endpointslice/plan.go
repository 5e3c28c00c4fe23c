package endpointslice

import (
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skiff-sh/skiff/internal/kind"
)

const (
	managedBy = "endpointslice-controller.k8s.io"
	// mostPerSlice is upstream's default for --max-endpoints-per-slice.
	mostPerSlice = 100
)

// Plan is what makes a Service's slices right.
type Plan struct {
	Create []*discoveryv1.EndpointSlice
	Update []*discoveryv1.EndpointSlice // with the resourceVersion they were seen at
	Delete []*discoveryv1.EndpointSlice
}

// plan compares the slices there are with the backends there should be.
// Endpoints stay in the slice they are in, so that one Pod's change rewrites
// one slice. since goes into the slices that change.
func plan(svc *corev1.Service, want []backend, have []*discoveryv1.EndpointSlice, since time.Time) Plan {
	groups := map[string][]backend{}
	served := map[discoveryv1.AddressType]bool{}
	for _, b := range want {
		key := portsKey(b.family, b.ports)
		groups[key] = append(groups[key], b)
		served[b.family] = true
	}
	empty := map[string]discoveryv1.AddressType{}
	for _, family := range families(svc) {
		if !served[family] { // an empty slice says that the Service was looked at
			key := portsKey(family, nil)
			groups[key], empty[key] = nil, family
		}
	}
	existing := map[string][]*discoveryv1.EndpointSlice{}
	for _, s := range have {
		key := portsKey(s.AddressType, s.Ports)
		existing[key] = append(existing[key], s)
	}
	var p Plan
	for _, key := range slices.Sorted(maps.Keys(existing)) {
		if _, wanted := groups[key]; !wanted {
			p.Delete = append(p.Delete, existing[key]...)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		p.group(svc, groups[key], existing[key], empty[key])
	}
	for _, s := range slices.Concat(p.Create, p.Update) {
		s.Annotations = annotations(s.Annotations, nil)
		if !since.IsZero() {
			s.Annotations[corev1.EndpointsLastChangeTriggerTime] = since.UTC().Format(time.RFC3339Nano)
		}
	}
	return p
}

// group brings the slices of one set of ports to hold its backends; where there
// are none, family is that of the empty slice.
func (p *Plan) group(svc *corev1.Service, want []backend, have []*discoveryv1.EndpointSlice, family discoveryv1.AddressType) {
	missing := map[types.UID]backend{}
	for _, b := range want {
		missing[b.pod.UID] = b
	}
	next := make([]*discoveryv1.EndpointSlice, len(have))
	for i, s := range have {
		next[i] = s.DeepCopy()
		next[i].Endpoints = keep(s.Endpoints, missing)
		label(next[i], svc)
	}
	rest := inOrder(want, missing)
	for _, s := range next {
		room := min(len(rest), max(0, mostPerSlice-len(s.Endpoints)))
		s.Endpoints = append(s.Endpoints, rest[:room]...)
		rest = rest[room:]
	}
	for len(rest) > 0 || len(next) == 0 {
		room := min(len(rest), mostPerSlice)
		s := newSlice(svc, want, rest[:room], family)
		next = append(next, s)
		p.Create = append(p.Create, s)
		rest = rest[room:]
	}
	filled := len(want) > 0
	for i, s := range next[:len(have)] {
		switch {
		case len(s.Endpoints) == 0 && (filled || i > 0):
			p.Delete = append(p.Delete, have[i])
		case !equality.Semantic.DeepEqual(s, have[i]):
			p.Update = append(p.Update, s)
		}
	}
}

// keep returns the endpoints that are still wanted, as they should be now, and
// takes them out of missing.
func keep(endpoints []discoveryv1.Endpoint, missing map[types.UID]backend) []discoveryv1.Endpoint {
	var kept []discoveryv1.Endpoint
	for _, e := range endpoints {
		if e.TargetRef == nil {
			continue
		}
		if b, ok := missing[e.TargetRef.UID]; ok {
			kept = append(kept, b.endpoint)
			delete(missing, e.TargetRef.UID)
		}
	}
	return kept
}

func inOrder(want []backend, missing map[types.UID]backend) []discoveryv1.Endpoint {
	var list []discoveryv1.Endpoint
	for _, b := range want {
		if _, ok := missing[b.pod.UID]; ok {
			list = append(list, b.endpoint)
		}
	}
	return list
}

func newSlice(svc *corev1.Service, group []backend, endpoints []discoveryv1.Endpoint, family discoveryv1.AddressType) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName:    svc.Name + "-",
			Namespace:       svc.Namespace,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(svc, kind.Service.GVK())},
		},
		AddressType: family,
		Endpoints:   slices.Clone(endpoints),
	}
	if len(group) > 0 {
		s.AddressType, s.Ports = group[0].family, group[0].ports
	}
	label(s, svc)
	return s
}

// label gives the slice the Service's labels and its own.
func label(s *discoveryv1.EndpointSlice, svc *corev1.Service) {
	labels := map[string]string{}
	for key, value := range svc.Labels {
		switch key {
		case discoveryv1.LabelServiceName, discoveryv1.LabelManagedBy, corev1.IsHeadlessService:
		default:
			labels[key] = value
		}
	}
	labels[discoveryv1.LabelServiceName] = svc.Name
	labels[discoveryv1.LabelManagedBy] = managedBy
	if svc.Spec.ClusterIP == corev1.ClusterIPNone {
		labels[corev1.IsHeadlessService] = ""
	}
	s.Labels = labels
}
