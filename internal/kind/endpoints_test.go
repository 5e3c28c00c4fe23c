package kind

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestEndpoints(t *testing.T) {
	e := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Subsets: []corev1.EndpointSubset{
		{},
		{
			Addresses:         []corev1.EndpointAddress{{IP: "10.42.0.1"}, {IP: "169.254.1.1"}, {IP: "10.042.0.1"}},
			NotReadyAddresses: []corev1.EndpointAddress{{IP: "0.0.0.0", Hostname: "a.b", NodeName: ptr("N")}},
			Ports:             []corev1.EndpointPort{{Port: 80}, {Name: "b", Port: 0, Protocol: "IP", AppProtocol: ptr("a b")}},
		},
	}}
	Endpoints.Default(e)
	if e.Subsets[1].Ports[0].Protocol != "TCP" {
		t.Errorf("protocol %q", e.Subsets[1].Ports[0].Protocol)
	}
	var got []string
	for _, err := range Endpoints.Validate(e) {
		text, _, _ := strings.Cut(err.Error(), " (e.g.")
		got = append(got, text)
	}
	want := []string{
		"subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`",
		`subsets[1].addresses[1].ip: Invalid value: "169.254.1.1": may not be in the link-local range (169.254.0.0/16, fe80::/10)`,
		`subsets[1].addresses[2].ip: Invalid value: "10.042.0.1": must not have leading 0s`,
		`subsets[1].notReadyAddresses[0].hostname: Invalid value: "a.b": must not contain dots`,
		`subsets[1].notReadyAddresses[0].nodeName: Invalid value: "N": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character`,
		`subsets[1].notReadyAddresses[0].ip: Invalid value: "0.0.0.0": may not be unspecified (0.0.0.0)`,
		"subsets[1].ports[0].name: Required value",
		"subsets[1].ports[1].port: Invalid value: 0: must be between 1 and 65535, inclusive",
		`subsets[1].ports[1].protocol: Unsupported value: "IP": supported values: "SCTP", "TCP", "UDP"`,
	}
	if d := cmp.Diff(want, got[:min(len(want), len(got))]); d != "" {
		t.Error(d)
	}
	if len(got) != len(want)+1 || !strings.HasPrefix(got[len(want)], "subsets[1].ports[1].appProtocol: Invalid value") {
		t.Errorf("errors after those: %q", got[len(want):])
	}
	if d := cmp.Diff([]string{`subsets[1].addresses[2].ip: non-standard IP address "10.042.0.1" is invalid: use "10.42.0.1"`}, Endpoints.Warnings(e, nil)); d != "" {
		t.Error(d)
	}
	// What is wrong already does not stand in the way of other changes.
	labelled := e.DeepCopy()
	labelled.Labels = map[string]string{"endpoints.kubernetes.io/managed-by": "endpoint-controller"}
	sameErrors(t, Endpoints.ValidateUpdate(labelled, e))
	if got := Endpoints.Warnings(labelled, e); got != nil {
		t.Errorf("our own controller is warned: %q", got)
	}
}

func TestEndpointsRow(t *testing.T) {
	address := func(ips ...string) (list []corev1.EndpointAddress) {
		for _, ip := range ips {
			list = append(list, corev1.EndpointAddress{IP: ip})
		}
		return list
	}
	for _, c := range []struct {
		want    string
		subsets []corev1.EndpointSubset
	}{
		{"<none>", nil},
		{"10.42.0.1:80,10.42.0.2:80,10.42.0.1:81 + 1 more...", []corev1.EndpointSubset{{Addresses: address("10.42.0.1", "10.42.0.2"), Ports: []corev1.EndpointPort{{Port: 80}, {Port: 81}}}}},
		{"10.42.0.1,10.42.0.2", []corev1.EndpointSubset{{Addresses: address("10.42.0.1", "10.42.0.2")}}},
		{"[fd00::1]:80", []corev1.EndpointSubset{{Addresses: address("fd00::1"), Ports: []corev1.EndpointPort{{Port: 80}}}}},
		{"", []corev1.EndpointSubset{{NotReadyAddresses: address("10.42.0.1"), Ports: []corev1.EndpointPort{{Port: 80}}}}},
	} {
		rowOf(t, Endpoints, &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Subsets: c.subsets}, "web", c.want, "3h")
	}
}

func slice(change ...func(*discoveryv1.EndpointSlice)) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "web-1", Generation: 4, Labels: map[string]string{"a": "b"}},
		AddressType: "IPv4",
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.42.0.1"}}},
		Ports:       []discoveryv1.EndpointPort{{Port: ptr(int32(80))}},
	}
	for _, c := range change {
		c(s)
	}
	EndpointSlice.Default(s)
	return s
}

func TestEndpointSliceDefaults(t *testing.T) {
	s := slice()
	if p := s.Ports[0]; *p.Name != "" || *p.Protocol != "TCP" {
		t.Errorf("port %+v", p)
	}
	if d := cmp.Diff(discoveryv1.EndpointConditions{}, s.Endpoints[0].Conditions); d != "" {
		t.Error("conditions were filled in:", d)
	}
	empty := &discoveryv1.EndpointSlice{Endpoints: []discoveryv1.Endpoint{}, Ports: []discoveryv1.EndpointPort{}}
	if EndpointSlice.Canonicalize(empty); empty.Endpoints != nil || empty.Ports != nil {
		t.Errorf("empty lists: %+v", empty)
	}
	s.Endpoints[0].DeprecatedTopology = map[string]string{"a": "b"}
	EndpointSlice.PrepareCreate(s)
	if s.Generation != 1 || s.Endpoints[0].DeprecatedTopology != nil {
		t.Errorf("%+v", s)
	}
}

func TestEndpointSliceGeneration(t *testing.T) {
	cases := []struct {
		name   string
		change func(*discoveryv1.EndpointSlice)
		want   int64
	}{
		{"nothing", func(s *discoveryv1.EndpointSlice) { s.Generation = 99 }, 4},
		{"annotations", func(s *discoveryv1.EndpointSlice) { s.Annotations = map[string]string{"a": "b"} }, 4},
		{"labels", func(s *discoveryv1.EndpointSlice) { s.Labels = nil }, 5},
		{"endpoints", func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].Conditions.Ready = ptr(true) }, 5},
		{"ports", func(s *discoveryv1.EndpointSlice) { s.Ports = nil }, 5},
	}
	for _, c := range cases {
		s := slice(c.change)
		EndpointSlice.PrepareUpdate(s, slice())
		if s.Generation != c.want {
			t.Errorf("%s: generation %d, want %d", c.name, s.Generation, c.want)
		}
	}
}

func TestEndpointSliceValidation(t *testing.T) {
	address := func(of discoveryv1.AddressType, addresses ...string) func(*discoveryv1.EndpointSlice) {
		return func(s *discoveryv1.EndpointSlice) { s.AddressType, s.Endpoints[0].Addresses = of, addresses }
	}
	cases := []struct {
		name   string
		change func(*discoveryv1.EndpointSlice)
		want   []string
	}{
		{"good", func(*discoveryv1.EndpointSlice) {}, nil},
		{"no type", address("", "10.42.0.1"), []string{"addressType: Required value"}},
		{"type", address("IP", "10.42.0.1"), []string{`addressType: Unsupported value: "IP": supported values: "FQDN", "IPv4", "IPv6"`}},
		{"no address", address("IPv4"), []string{"endpoints[0].addresses: Required value: must contain at least 1 address"}},
		{"many addresses", address("FQDN", strings.Split(strings.Repeat("a.b,", 100)+"a.b", ",")...), []string{"endpoints[0].addresses: Too many: 101: must have at most 100 items"}},
		{"family", address("IPv4", "fd00::1"), []string{`endpoints[0].addresses: Invalid value: "fd00::1": must be an IPv4 address`}},
		{"other family", address("IPv6", "10.42.0.1"), []string{`endpoints[0].addresses: Invalid value: "10.42.0.1": must be an IPv6 address`}},
		{"loopback", address("IPv6", "::1"), []string{`endpoints[0].addresses[0]: Invalid value: "::1": may not be in the loopback range (127.0.0.0/8, ::1/128)`}},
		{"two ports of one name", func(s *discoveryv1.EndpointSlice) { s.Ports = append(s.Ports, discoveryv1.EndpointPort{}) },
			[]string{`ports[1].name: Duplicate value: ""`}},
		{"protocol", func(s *discoveryv1.EndpointSlice) { s.Ports[0].Protocol = ptr(corev1.Protocol("IP")) },
			[]string{`ports[0].protocol: Unsupported value: "IP": supported values: "SCTP", "TCP", "UDP"`}},
		{"hints", func(s *discoveryv1.EndpointSlice) {
			s.Endpoints[0].Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "a"}, {Name: "a"}}, ForNodes: make([]discoveryv1.ForNode, 9)}
		}, []string{`endpoints[0].hints.forZones[1].name: Duplicate value: "a"`, "endpoints[0].hints.forNodes: Too many: 9: must have at most 8 items"}},
		{"long form", address("IPv6", "fd00:0::1"), []string{`endpoints[0].addresses[0]: Invalid value: "fd00:0::1": must be in canonical form ("fd00::1")`}},
		{"name with a dot", address("FQDN", "a"), []string{`endpoints[0].addresses[0]: Invalid value: "a": should be a domain with at least two segments separated by dots`}},
		{"ports first", func(s *discoveryv1.EndpointSlice) {
			s.Ports[0].Protocol, s.Endpoints[0].Addresses = nil, nil
		}, []string{"ports[0].protocol: Required value", "endpoints[0].addresses: Required value: must contain at least 1 address"}},
		{"many zones", func(s *discoveryv1.EndpointSlice) {
			s.Endpoints[0].Hints = &discoveryv1.EndpointHints{ForZones: make([]discoveryv1.ForZone, 9), ForNodes: make([]discoveryv1.ForNode, 9)}
		}, []string{"endpoints[0].hints.forZones: Too many: 9: must have at most 8 items"}},
		{"many endpoints", func(s *discoveryv1.EndpointSlice) { s.Endpoints = make([]discoveryv1.Endpoint, 1001) },
			[]string{"endpoints: Too many: 1001: must have at most 1000 items"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := slice()
			c.change(s)
			for i := range s.Ports {
				if s.Ports[i].Name == nil {
					s.Ports[i].Name = ptr("")
				}
			}
			if c.name != "ports first" {
				EndpointSlice.Default(s)
			}
			sameErrors(t, EndpointSlice.Validate(s), c.want...)
		})
	}
	sameErrors(t, EndpointSlice.ValidateUpdate(slice(address("IPv6", "fd00::1")), slice()), `addressType: Invalid value: "IPv6": field is immutable`)
	// What was accepted once does not stand in the way of other changes.
	known := slice(address("IPv4", "10.42.00.1"))
	sameErrors(t, EndpointSlice.Validate(known), `endpoints[0].addresses[0]: Invalid value: "10.42.00.1": must not have leading 0s`)
	sameErrors(t, EndpointSlice.ValidateUpdate(known, known))
}

func TestEndpointSliceWarnings(t *testing.T) {
	s := slice(func(s *discoveryv1.EndpointSlice) {
		s.AddressType, s.Endpoints[0].Addresses = "FQDN", []string{"010.0.0.1"}
	})
	const fqdn, odd = "spec.addressType: FQDN endpoints are deprecated", `endpoints[0].addresses[0]: non-standard IP address "010.0.0.1" is invalid: use "10.0.0.1"`
	if d := cmp.Diff([]string{fqdn, odd}, EndpointSlice.Warnings(s, nil)); d != "" {
		t.Error("create:", d)
	}
	if d := cmp.Diff([]string{odd}, EndpointSlice.Warnings(s, s)); d != "" {
		t.Error("update:", d)
	}
	s.Labels["endpointslice.kubernetes.io/managed-by"] = "endpointslice-controller.k8s.io"
	if d := cmp.Diff([]string{fqdn}, EndpointSlice.Warnings(s, nil)); d != "" {
		t.Error("our own:", d)
	}
}

func TestEndpointSliceRow(t *testing.T) {
	rowOf(t, EndpointSlice, slice(), "web-1", "IPv4", "80", "10.42.0.1", "3h")
	s := slice(func(s *discoveryv1.EndpointSlice) {
		s.Ports = []discoveryv1.EndpointPort{{Name: ptr("http")}, {Port: ptr(int32(1))}, {Port: ptr(int32(2))}, {Port: ptr(int32(3))}}
		s.Endpoints = []discoveryv1.Endpoint{{Addresses: []string{"10.42.0.1", "10.42.0.2"}}, {Addresses: []string{"10.42.0.3"}}}
	})
	rowOf(t, EndpointSlice, s, "web-1", "IPv4", "http,1,2 + 1 more...", "10.42.0.1,10.42.0.2,10.42.0.3", "3h")
	s = &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: "a"}}
	rowOf(t, EndpointSlice, s, "a", "", "<unset>", "<unset>", "3h")
	s.Ports, s.Endpoints = []discoveryv1.EndpointPort{{Name: ptr("")}}, []discoveryv1.Endpoint{{}}
	rowOf(t, EndpointSlice, s, "a", "", "<unset>", "<unset>", "3h")
}
