package controller_test

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"

	"github.com/skiff-sh/skiff/internal/kind"
)

// endpoints returns what the slices and the Endpoints of a Service say.
func endpoints(p *plane, service string) string {
	var in, ports, out []string
	for _, s := range list[*discoveryv1.EndpointSlice](p, kind.EndpointSlice) {
		if s.Labels[discoveryv1.LabelServiceName] != service {
			continue
		}
		for _, e := range s.Endpoints {
			var is []string
			for _, c := range []struct {
				name string
				is   bool
			}{{"ready", *e.Conditions.Ready}, {"serving", *e.Conditions.Serving && !*e.Conditions.Ready}, {"terminating", *e.Conditions.Terminating}} {
				if c.is {
					is = append(is, c.name)
				}
			}
			in = append(in, e.Addresses[0]+":"+strings.Join(is, ","))
		}
		for _, port := range s.Ports {
			ports = append(ports, fmt.Sprintf(" %s:%d", *port.Name, *port.Port))
		}
	}
	for _, s := range get[*corev1.Endpoints](p, kind.Endpoints, service).Subsets {
		for _, a := range s.Addresses {
			out = append(out, a.IP)
		}
	}
	slices.Sort(in)
	return fmt.Sprintf("%v%s | %s", in, strings.Join(ports, ""), strings.Join(out, " "))
}

func eviction(pod *corev1.Pod) *policyv1.Eviction {
	return &policyv1.Eviction{ObjectMeta: object(pod.Name)}
}
