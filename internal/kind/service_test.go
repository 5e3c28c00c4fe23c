package kind

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func ptr[T any](v T) *T { return &v }

// service returns a defaulted ClusterIP Service with one port, as it is stored.
func service(change ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"},
		Spec: corev1.ServiceSpec{
			Selector:   map[string]string{"app": "web"},
			ClusterIP:  "10.43.0.1",
			ClusterIPs: []string{"10.43.0.1"},
			Ports:      []corev1.ServicePort{{Port: 80}},
		},
	}
	s.Spec.IPFamilies, s.Spec.IPFamilyPolicy = []corev1.IPFamily{"IPv4"}, ptr(corev1.IPFamilyPolicySingleStack)
	for _, c := range change {
		c(s)
	}
	defaultService(s)
	return s
}

func ofType(t corev1.ServiceType, nodePorts ...int32) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Spec.Type = t
		for i, port := range nodePorts {
			s.Spec.Ports[i].NodePort = port
		}
	}
}

func TestServiceDefaults(t *testing.T) {
	s := &corev1.Service{Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}, {Port: 53, Protocol: "UDP", TargetPort: intstr.FromString("dns")}}}}
	defaultService(s)
	want := corev1.ServiceSpec{
		Type:                  "ClusterIP",
		SessionAffinity:       "None",
		InternalTrafficPolicy: ptr(corev1.ServiceInternalTrafficPolicyCluster),
		Ports: []corev1.ServicePort{
			{Port: 80, Protocol: "TCP", TargetPort: intstr.FromInt32(80)},
			{Port: 53, Protocol: "UDP", TargetPort: intstr.FromString("dns")},
		},
	}
	if d := cmp.Diff(want, s.Spec); d != "" {
		t.Error(d)
	}

	s = &corev1.Service{
		Spec:   corev1.ServiceSpec{Type: "LoadBalancer", SessionAffinity: "ClientIP"},
		Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}, {Hostname: "a"}}}},
	}
	defaultService(s)
	if got := *s.Spec.SessionAffinityConfig.ClientIP.TimeoutSeconds; got != 10800 {
		t.Errorf("timeoutSeconds %d", got)
	}
	if s.Spec.ExternalTrafficPolicy != "Cluster" || !*s.Spec.AllocateLoadBalancerNodePorts {
		t.Errorf("load balancer defaults: %+v", s.Spec)
	}
	if g := s.Status.LoadBalancer.Ingress; *g[0].IPMode != "VIP" || g[1].IPMode != nil {
		t.Errorf("ipMode: %+v", g)
	}

	s = &corev1.Service{Spec: corev1.ServiceSpec{Type: "ExternalName", ExternalName: "example.com"}}
	defaultService(s)
	if s.Spec.InternalTrafficPolicy != nil || s.Spec.ExternalTrafficPolicy != "" {
		t.Errorf("an external name has no traffic policies: %+v", s.Spec)
	}
	s = &corev1.Service{Spec: corev1.ServiceSpec{SessionAffinity: "None", ExternalIPs: []string{"192.0.2.1"}, SessionAffinityConfig: &corev1.SessionAffinityConfig{}}}
	defaultService(s)
	if s.Spec.SessionAffinityConfig != nil || s.Spec.ExternalTrafficPolicy != "Cluster" {
		t.Errorf("defaults with external addresses: %+v", s.Spec)
	}
}

func TestServicePrepareCreate(t *testing.T) {
	s := service(func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "None", nil })
	s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}
	CompleteService(s, nil)
	Service.PrepareCreate(s)
	if !slices.Equal(s.Spec.ClusterIPs, []string{"None"}) {
		t.Errorf("clusterIPs %v", s.Spec.ClusterIPs)
	}
	if s.Status.LoadBalancer.Ingress != nil {
		t.Error("status was taken from the client")
	}
}

func TestServiceCanonicalForm(t *testing.T) {
	s := service(func(s *corev1.Service) {
		s.Spec = corev1.ServiceSpec{Type: "ExternalName", ExternalName: "a.b", ClusterIP: "10.43.0.1", InternalTrafficPolicy: ptr(corev1.ServiceInternalTrafficPolicyLocal)}
	})
	Service.Canonicalize(s)
	if s.Spec.InternalTrafficPolicy != nil || !slices.Equal(s.Spec.ClusterIPs, []string{"10.43.0.1"}) {
		t.Errorf("%+v", s.Spec)
	}
}

func TestServiceValidation(t *testing.T) {
	cases := []struct {
		name   string
		change func(*corev1.Service)
		want   string
	}{
		{"good", func(*corev1.Service) {}, ""},
		{"no ports", func(s *corev1.Service) { s.Spec.Ports = nil }, "spec.ports: Required value"},
		{"headless without ports", func(s *corev1.Service) {
			s.Spec.ClusterIP, s.Spec.ClusterIPs, s.Spec.Ports = "None", []string{"None"}, nil
		}, ""},
		{"headless node port", func(s *corev1.Service) {
			s.Spec.ClusterIP, s.Spec.ClusterIPs, s.Spec.Type = "None", []string{"None"}, "NodePort"
		},
			`spec.clusterIPs[0]: Invalid value: "None": may not be set to 'None' for NodePort services`},
		{"type", func(s *corev1.Service) { s.Spec.Type = "Magic" },
			`spec.type: Unsupported value: "Magic": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"`},
		{"port 0", func(s *corev1.Service) { s.Spec.Ports[0].Port, s.Spec.Ports[0].TargetPort = 0, intstr.FromInt32(1) },
			"spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"},
		{"protocol", func(s *corev1.Service) { s.Spec.Ports[0].Protocol = "tcp" },
			`spec.ports[0].protocol: Unsupported value: "tcp": supported values: "SCTP", "TCP", "UDP"`},
		{"target port name", func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromString("a_b") },
			`spec.ports[0].targetPort: Invalid value: "a_b": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)`},
		{"two ports without names", func(s *corev1.Service) {
			s.Spec.Ports = []corev1.ServicePort{{Port: 80}, {Port: 81}}
		}, "spec.ports[0].name: Required value\nspec.ports[1].name: Required value"},
		{"port twice", func(s *corev1.Service) {
			s.Spec.Ports = []corev1.ServicePort{{Name: "a", Port: 80}, {Name: "a", Port: 80}}
		}, `spec.ports[1].name: Duplicate value: "a"` + "\n" + `spec.ports[1]: Duplicate value: {"Name":"","Protocol":"TCP","AppProtocol":null,"Port":80,"TargetPort":0,"NodePort":0}`},
		{"same port, other protocol", func(s *corev1.Service) {
			s.Spec.Ports = []corev1.ServicePort{{Name: "a", Port: 53}, {Name: "b", Port: 53, Protocol: "UDP"}}
		}, ""},
		{"node port of a ClusterIP", ofType("ClusterIP", 30000), "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"},
		{"node port twice", func(s *corev1.Service) {
			s.Spec.Type, s.Spec.Ports = "NodePort", []corev1.ServicePort{{Name: "a", Port: 1, NodePort: 30000}, {Name: "b", Port: 2, NodePort: 30000}}
		}, "spec.ports[1].nodePort: Duplicate value: 30000"},
		{"affinity", func(s *corev1.Service) { s.Spec.SessionAffinity = "Cookie" },
			`spec.sessionAffinity: Unsupported value: "Cookie": supported values: "ClientIP", "None"`},
		{"affinity timeout", func(s *corev1.Service) {
			s.Spec.SessionAffinity = "ClientIP"
			s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: ptr(int32(86401))}}
		}, "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 86401: must be greater than 0 and less than 86400"},
		{"address", func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "10.43.0.300", []string{"10.43.0.300"} },
			`spec.clusterIPs[0]: Invalid value: "10.43.0.300": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)`},
		{"leading zero", func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "10.43.0.01", []string{"10.43.0.01"} },
			`spec.clusterIPs[0]: Invalid value: "10.43.0.01": must not have leading 0s`},
		{"addresses apart", func(s *corev1.Service) { s.Spec.ClusterIPs = []string{"10.43.0.2"} },
			"spec.clusterIPs: Invalid value: [\"10.43.0.2\"]: first value must match `clusterIP`"},
		{"other family than said", func(s *corev1.Service) { s.Spec.IPFamilies = []corev1.IPFamily{"IPv6"} },
			"spec.clusterIPs[0]: Invalid value: \"10.43.0.1\": expected an IPv6 value as indicated by `ipFamilies[0]`"},
		{"family", func(s *corev1.Service) { s.Spec.IPFamilies = []corev1.IPFamily{"IPv4", "IPv5"} },
			`spec.ipFamilies[1]: Unsupported value: "IPv5": supported values: "IPv4", "IPv6"`},
		{"family twice", func(s *corev1.Service) { s.Spec.IPFamilies = []corev1.IPFamily{"IPv4", "IPv4"} },
			`spec.ipFamilies[1]: Duplicate value: "IPv4"`},
		{"two of one family", func(s *corev1.Service) { s.Spec.ClusterIPs = []string{"10.43.0.1", "10.43.0.2"} },
			`spec.clusterIPs: Invalid value: ["10.43.0.1","10.43.0.2"]: may specify no more than one IP for each IP family`},
		{"two families", func(s *corev1.Service) { s.Spec.ClusterIPs = []string{"10.43.0.1", "fd00::1"} }, ""},
		{"policy", func(s *corev1.Service) { s.Spec.IPFamilyPolicy = ptr(corev1.IPFamilyPolicy("Both")) },
			`spec.ipFamilyPolicy: Unsupported value: "Both": supported values: "PreferDualStack", "RequireDualStack", "SingleStack"`},
		{"external address on loopback", func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"127.0.0.1"} },
			`spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)`},
		{"external name", func(s *corev1.Service) {
			s.Spec = corev1.ServiceSpec{Type: "ExternalName", ExternalName: "a.example.com."}
		}, ""},
		{"external name without a name", func(s *corev1.Service) { s.Spec = corev1.ServiceSpec{Type: "ExternalName"} },
			"spec.externalName: Required value"},
		{"external name with address", ofType("ExternalName"),
			"spec.clusterIPs: Forbidden: may not be set for ExternalName services\nspec.ipFamilies: Forbidden: may not be set for ExternalName services\n" +
				"spec.ipFamilyPolicy: Forbidden: may not be set for ExternalName services\nspec.externalName: Required value"},
		{"external policy without outside", func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = "Local" },
			`spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services`},
		{"source ranges", func(s *corev1.Service) { s.Spec.LoadBalancerSourceRanges = []string{" 10.0.0.0/8"} },
			"spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'"},
		{"class", func(s *corev1.Service) { s.Spec.LoadBalancerClass = ptr("a/b") },
			"spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'"},
		{"local balancer without health port", func(s *corev1.Service) { s.Spec.Type, s.Spec.ExternalTrafficPolicy = "LoadBalancer", "Local" },
			"spec.healthCheckNodePort: Required value"},
		{"distribution", func(s *corev1.Service) { s.Spec.TrafficDistribution = ptr("Far") },
			`spec.trafficDistribution: Unsupported value: "Far": supported values: "PreferClose", "PreferSameZone", "PreferSameNode"`},
		{"topology annotations", func(s *corev1.Service) {
			s.Annotations = map[string]string{"service.kubernetes.io/topology-aware-hints": "auto", "service.kubernetes.io/topology-mode": "x"}
		}, `metadata.annotations[service.kubernetes.io/topology-mode]: Invalid value: "x": must match annotations[service.kubernetes.io/topology-aware-hints] when both are specified`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var want []string
			if c.want != "" {
				want = strings.Split(c.want, "\n")
			}
			sameErrors(t, Service.Validate(service(c.change)), want...)
		})
	}
}

// TestServiceUpdate sends what a client that knows only spec.type and
// spec.ports would, and looks at what comes of it.
func TestServiceUpdate(t *testing.T) {
	cases := []struct {
		name     string
		old, new func(*corev1.Service)
		want     func(*testing.T, *corev1.Service)
		errors   string
	}{
		{
			name: "applied again without what was allocated",
			old:  ofType("NodePort", 30080),
			new:  func(s *corev1.Service) { s.Spec.Type, s.Spec.ClusterIP, s.Spec.ClusterIPs = "NodePort", "", nil },
			want: func(t *testing.T, s *corev1.Service) {
				if s.Spec.ClusterIP != "10.43.0.1" || s.Spec.Ports[0].NodePort != 30080 || len(s.Spec.ClusterIPs) != 1 {
					t.Errorf("allocations lost: %+v", s.Spec)
				}
			},
		},
		{
			name: "a node port that moves to another port",
			old: func(s *corev1.Service) {
				s.Spec.Type, s.Spec.Ports = "NodePort", []corev1.ServicePort{{Name: "a", Port: 80, NodePort: 30080}, {Name: "b", Port: 81, NodePort: 30081}}
			},
			new: func(s *corev1.Service) {
				s.Spec.Type, s.Spec.Ports = "NodePort", []corev1.ServicePort{{Name: "a", Port: 80}, {Name: "b", Port: 81, NodePort: 30080}}
			},
			want: func(t *testing.T, s *corev1.Service) {
				if s.Spec.Ports[0].NodePort != 0 || s.Spec.Ports[1].NodePort != 30080 {
					t.Errorf("ports %+v", s.Spec.Ports)
				}
			},
		},
		{
			name: "NodePort to ClusterIP",
			old:  ofType("NodePort", 30080),
			new: func(s *corev1.Service) {
				ofType("ClusterIP", 30080)(s)
				s.Spec.ExternalTrafficPolicy = "Cluster"
			},
			want: func(t *testing.T, s *corev1.Service) {
				if s.Spec.Ports[0].NodePort != 0 || s.Spec.ExternalTrafficPolicy != "" {
					t.Errorf("kept what only NodePort has: %+v", s.Spec)
				}
			},
		},
		{
			name:   "NodePort to ClusterIP with another node port",
			old:    ofType("NodePort", 30080),
			new:    ofType("ClusterIP", 30081),
			errors: "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
		},
		{
			name: "ClusterIP to ExternalName",
			old:  func(*corev1.Service) {},
			new: func(s *corev1.Service) {
				s.Spec.Type, s.Spec.ExternalName = "ExternalName", "example.com"
			},
			want: func(t *testing.T, s *corev1.Service) {
				if s.Spec.ClusterIP != "" || s.Spec.ClusterIPs != nil || s.Spec.IPFamilies != nil || s.Spec.IPFamilyPolicy != nil {
					t.Errorf("kept an address: %+v", s.Spec)
				}
			},
		},
		{
			name:   "another address",
			old:    func(*corev1.Service) {},
			new:    func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "10.43.0.2", []string{"10.43.0.2"} },
			errors: `spec.clusterIPs[0]: Invalid value: ["10.43.0.2"]: may not change once set`,
		},
		{
			name:   "another address, the old field only",
			old:    func(*corev1.Service) {},
			new:    func(s *corev1.Service) { s.Spec.ClusterIP = "10.43.0.2" },
			errors: `spec.clusterIPs[0]: Invalid value: ["10.43.0.2"]: may not change once set`,
		},
		{
			name:   "to headless",
			old:    func(*corev1.Service) {},
			new:    func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "None", []string{"None"} },
			errors: `spec.clusterIPs[0]: Invalid value: ["None"]: may not change once set`,
		},
		{
			name:   "another class",
			old:    func(s *corev1.Service) { ofType("LoadBalancer", 30080)(s); s.Spec.LoadBalancerClass = ptr("a/b") },
			new:    func(s *corev1.Service) { ofType("LoadBalancer", 30080)(s); s.Spec.LoadBalancerClass = ptr("a/c") },
			errors: `spec.loadBalancerClass: Invalid value: "a/c": may not change once set`,
		},
		{
			name: "LoadBalancer to ClusterIP",
			old:  func(s *corev1.Service) { ofType("LoadBalancer", 30080)(s); s.Spec.LoadBalancerClass = ptr("a/b") },
			new: func(s *corev1.Service) {
				ofType("ClusterIP", 30080)(s)
				s.Spec.LoadBalancerClass, s.Spec.AllocateLoadBalancerNodePorts = ptr("a/b"), ptr(true)
			},
			want: func(t *testing.T, s *corev1.Service) {
				if s.Spec.LoadBalancerClass != nil || s.Spec.AllocateLoadBalancerNodePorts != nil || s.Status.LoadBalancer.Ingress != nil {
					t.Errorf("kept what only LoadBalancer has: %+v", s)
				}
			},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			old, s := service(c.old), service(c.new)
			old.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}
			before := old.DeepCopy()
			CompleteService(s, old)
			Service.PrepareUpdate(s, old)
			if c.errors == "" {
				sameErrors(t, Service.ValidateUpdate(s, old))
			} else {
				sameErrors(t, Service.ValidateUpdate(s, old), c.errors)
			}
			if c.want != nil {
				c.want(t, s)
			}
			if d := cmp.Diff(before, old); d != "" {
				t.Errorf("the old object changed: %s", d)
			}
		})
	}
}

func TestServiceStatus(t *testing.T) {
	old := service(ofType("LoadBalancer", 30080))
	s := old.DeepCopy()
	s.Spec.Ports = nil
	s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}, {Hostname: "192.0.2.2"}}
	status := Service.Subresource("status")
	status.PrepareUpdate(s, old)
	if len(s.Spec.Ports) != 1 {
		t.Error("a status update changed the spec")
	}
	sameErrors(t, status.ValidateUpdate(s, old),
		`status.loadBalancer.ingress[1].hostname: Invalid value: "192.0.2.2": must be a DNS name, not an IP address`)
	plain := service()
	plain.Status = s.Status
	sameErrors(t, status.ValidateUpdate(plain, service()),
		"status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'")
}

func TestServiceRow(t *testing.T) {
	now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	cases := []struct {
		name   string
		change func(*corev1.Service)
		want   []any
	}{
		{"ClusterIP", func(*corev1.Service) {}, []any{"web", "ClusterIP", "10.43.0.1", "<none>", "80/TCP", "5h", "app=web"}},
		{"headless", func(s *corev1.Service) {
			s.Spec.ClusterIP, s.Spec.ClusterIPs, s.Spec.Selector = "None", []string{"None"}, nil
		},
			[]any{"web", "ClusterIP", "None", "<none>", "80/TCP", "5h", "<none>"}},
		{"NodePort", func(s *corev1.Service) {
			s.Spec.Ports = []corev1.ServicePort{{Name: "a", Port: 80, NodePort: 30080}, {Name: "b", Port: 53, Protocol: "UDP"}}
			s.Spec.Type, s.Spec.ExternalIPs = "NodePort", []string{"192.0.2.7"}
		}, []any{"web", "NodePort", "10.43.0.1", "192.0.2.7", "80:30080/TCP,53/UDP", "5h", "app=web"}},
		{"pending", ofType("LoadBalancer", 30080), []any{"web", "LoadBalancer", "10.43.0.1", "<pending>", "80:30080/TCP", "5h", "app=web"}},
		{"balanced", func(s *corev1.Service) {
			ofType("LoadBalancer", 30080)(s)
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.9"}, {Hostname: "192.0.2.1.example.com"}}
		}, []any{"web", "LoadBalancer", "10.43.0.1", "192.0.2.1.example.com,192.0.2.9", "80:30080/TCP", "5h", "app=web"}},
		{"ExternalName", func(s *corev1.Service) {
			s.Spec = corev1.ServiceSpec{Type: "ExternalName", ExternalName: "example.com"}
		}, []any{"web", "ExternalName", "<none>", "example.com", "<none>", "5h", "<none>"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := service(c.change)
			s.CreationTimestamp = metav1.NewTime(now.Add(-5 * time.Hour))
			if d := cmp.Diff(c.want, Service.Row(s, now)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestServiceWarnings(t *testing.T) {
	s := service(func(s *corev1.Service) {
		s.Spec.ExternalIPs, s.Spec.ExternalName = []string{"192.0.2.1"}, "a"
		s.Spec.TrafficDistribution = ptr("PreferClose")
	})
	want := []string{"spec.externalIPs is deprecated and may no longer be implemented in some clusters",
		`spec.externalName is ignored when spec.type is not "ExternalName"`,
		`spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"`,
	}
	if d := cmp.Diff(want, Service.Warnings(s, nil)); d != "" {
		t.Error(d)
	}
	if got := Service.Warnings(service(), nil); len(got) > 0 {
		t.Errorf("warnings for a plain Service: %q", got)
	}
}
