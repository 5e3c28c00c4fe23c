package api_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/kind"
)

func (c *cluster) service(name string, change ...func(*corev1.Service)) *corev1.Service {
	c.t.Helper()
	return c.create(kind.Service, service(name, change...)).(*corev1.Service)
}

func (c *cluster) changeService(name string, change func(*corev1.Service)) (*corev1.Service, error) {
	out, err := c.Modify(context.Background(), to(kind.Service, "default", name), func(obj kind.Object) error {
		change(obj.(*corev1.Service))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out.(*corev1.Service), nil
}

func clusterIP(ip string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.ClusterIP = ip }
}

func ofType(t corev1.ServiceType) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.Type = t }
}

func onPort(port int32) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.Type, s.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, port }
}

// claimed returns the names of an allocation table.
func (c *cluster) claimed(table string) []string {
	names := []string{}
	c.state.Claims(table, func(name, _ string) bool { names = append(names, name); return true })
	return names
}

func TestServiceAddress(t *testing.T) {
	c := newCluster(t)
	s := c.service("web")
	ip, err := netip.ParseAddr(s.Spec.ClusterIP)
	if err != nil || !netip.MustParsePrefix("10.43.0.0/16").Contains(ip) || ip.Compare(netip.MustParseAddr("10.43.1.0")) <= 0 {
		t.Errorf("address %s, want one above the band for those who ask", s.Spec.ClusterIP)
	}
	if !slices.Equal(s.Spec.ClusterIPs, []string{s.Spec.ClusterIP}) || !slices.Equal(s.Spec.IPFamilies, []corev1.IPFamily{corev1.IPv4Protocol}) ||
		*s.Spec.IPFamilyPolicy != corev1.IPFamilyPolicySingleStack {
		t.Errorf("spec %+v", s.Spec)
	}
	c.service("dns", clusterIP("10.43.0.10"))
	for name, want := range map[string]struct{ ip, text string }{
		"taken":     {"10.43.0.10", `Service "taken" is invalid: spec.clusterIPs: Invalid value: ["10.43.0.10"]: failed to allocate IP 10.43.0.10: provided IP is already allocated`},
		"outside":   {"10.44.0.1", "failed to allocate IP 10.44.0.1: the provided network does not match the current range"},
		"network":   {"10.43.0.0", "does not match the current range"},
		"broadcast": {"10.43.255.255", "does not match the current range"},
		"family":    {"fd00::1", "IPv6 is not configured on this cluster"},
		"nonsense":  {"abc", "spec.clusterIPs[0]: Invalid value"},
	} {
		_, err := c.Create(context.Background(), to(kind.Service, "default", name), service(name, clusterIP(want.ip)))
		wantStatus(t, err, metav1.StatusReasonInvalid, want.text)
	}
	c.delete(kind.Service, "default", "dns", metav1.DeleteOptions{})
	c.service("again", clusterIP("10.43.0.10"))
}

func TestServiceWithoutAddress(t *testing.T) {
	c := newCluster(t)
	headless := c.service("headless", clusterIP("None"))
	if !slices.Equal(headless.Spec.ClusterIPs, []string{"None"}) || *headless.Spec.IPFamilyPolicy != corev1.IPFamilyPolicySingleStack {
		t.Errorf("headless %+v", headless.Spec)
	}
	alone := c.service("alone", clusterIP("None"), func(s *corev1.Service) { s.Spec.Selector = nil })
	if *alone.Spec.IPFamilyPolicy != corev1.IPFamilyPolicyRequireDualStack || len(alone.Spec.IPFamilies) != 2 {
		t.Errorf("headless without selector %+v", alone.Spec)
	}
	alias := c.service("alias", ofType(corev1.ServiceTypeExternalName), func(s *corev1.Service) { s.Spec.ExternalName = "example.com" })
	if alias.Spec.ClusterIP != "" || alias.Spec.IPFamilies != nil {
		t.Errorf("alias %+v", alias.Spec)
	}
	if got := c.claimed("clusterips"); len(got) != 0 {
		t.Errorf("claimed %v", got)
	}
}

func TestServiceFamilies(t *testing.T) {
	c := newCluster(t, serviceCIDRs("10.43.0.0/24", "fd43::/112"))
	dual := c.service("dual", func(s *corev1.Service) { s.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicyPreferDualStack) })
	if len(dual.Spec.ClusterIPs) != 2 || !netip.MustParseAddr(dual.Spec.ClusterIPs[1]).Is6() || dual.Spec.ClusterIP != dual.Spec.ClusterIPs[0] {
		t.Fatalf("dual %+v", dual.Spec)
	}
	six := c.service("six", func(s *corev1.Service) { s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol} })
	if len(six.Spec.ClusterIPs) != 1 || !netip.MustParseAddr(six.Spec.ClusterIP).Is6() {
		t.Errorf("six %+v", six.Spec)
	}
	if got := c.claimed("clusterips"); len(got) != 3 {
		t.Errorf("claimed %v", got)
	}
	back, err := c.changeService("dual", func(s *corev1.Service) { s.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicySingleStack) })
	if err != nil || len(back.Spec.ClusterIPs) != 1 || back.Spec.ClusterIP != dual.Spec.ClusterIP {
		t.Errorf("back to one: %v %v", back, err)
	}
	if got := c.claimed("clusterips"); len(got) != 2 {
		t.Errorf("claimed %v after the second address was given back", got)
	}
	single := newCluster(t)
	_, err = single.Create(context.Background(), to(kind.Service, "default", "d"), service("d", func(s *corev1.Service) {
		s.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicyRequireDualStack)
	}))
	wantStatus(t, err, metav1.StatusReasonInvalid, "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services")
}

func TestServicePutKeepsWhatWasAllocated(t *testing.T) {
	c := newCluster(t)
	first := c.service("web", ofType(corev1.ServiceTypeNodePort))
	before := c.state.Revision()
	manifest := service("web", ofType(corev1.ServiceTypeNodePort))
	out, err := c.Update(context.Background(), at(kind.Service, manifest), manifest)
	if err != nil {
		t.Fatal(err)
	}
	if c.state.Revision() != before || out.GetResourceVersion() != first.ResourceVersion {
		t.Errorf("the same manifest again made %+v of %+v", out.(*corev1.Service).Spec, first.Spec)
	}
	_, err = c.changeService("web", func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "10.43.9.9", []string{"10.43.9.9"} })
	wantStatus(t, err, metav1.StatusReasonInvalid, "spec.clusterIPs[0]: Invalid value: [\"10.43.9.9\"]: may not change once set")
}

func TestServiceNodePorts(t *testing.T) {
	c := newCluster(t)
	s := c.service("web", ofType(corev1.ServiceTypeNodePort), func(s *corev1.Service) {
		s.Spec.Ports = []corev1.ServicePort{
			{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP}, {Name: "dns-tcp", Port: 53, Protocol: corev1.ProtocolTCP}, {Name: "http", Port: 80},
		}
	})
	p := s.Spec.Ports
	if p[0].NodePort < 30086 || p[0].NodePort > 32767 || p[0].NodePort != p[1].NodePort || p[2].NodePort == p[0].NodePort {
		t.Errorf("ports %+v", p)
	}
	c.service("fixed", onPort(30080))
	for name, want := range map[string]struct {
		port int32
		text string
	}{
		"taken":   {30080, "spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated"},
		"outside": {80, "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767"},
	} {
		_, err := c.Create(context.Background(), to(kind.Service, "default", name), service(name, onPort(want.port)))
		wantStatus(t, err, metav1.StatusReasonInvalid, want.text)
	}
	moved, err := c.changeService("fixed", func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 30081 })
	if err != nil || moved.Spec.Ports[0].NodePort != 30081 {
		t.Fatalf("moved %v, %v", moved, err)
	}
	c.service("next", onPort(30080))
	plain, err := c.changeService("fixed", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP })
	if err != nil || plain.Spec.Ports[0].NodePort != 0 || plain.Spec.ClusterIP != moved.Spec.ClusterIP {
		t.Fatalf("plain %v, %v", plain, err)
	}
	c.service("last", onPort(30081))
}

// What is allocated is found wanting before the rest is looked at, addresses before
// ports.
func TestServiceFaultsInOrder(t *testing.T) {
	c := newCluster(t)
	c.service("taken", onPort(30080))
	ports := func(ports ...corev1.ServicePort) func(*corev1.Service) {
		return func(s *corev1.Service) { s.Spec.Type, s.Spec.Ports = corev1.ServiceTypeNodePort, ports }
	}
	affine := func(s *corev1.Service) { s.Spec.SessionAffinity = "Cookie" }
	for name, want := range map[string]struct {
		change []func(*corev1.Service)
		text   string
	}{
		"address": {[]func(*corev1.Service){clusterIP("x"), onPort(30080), affine},
			`Service "address" is invalid: spec.clusterIPs[0]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)`},
		"port": {[]func(*corev1.Service){onPort(30080), affine},
			`Service "port" is invalid: spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated`},
		"rest": {[]func(*corev1.Service){affine}, `Service "rest" is invalid: spec.sessionAffinity: Unsupported value: "Cookie"`},
		// A port that comes first is given what a later one of its number asks for.
		"later": {[]func(*corev1.Service){ports(corev1.ServicePort{Name: "a", Port: 80}, corev1.ServicePort{Name: "b", Port: 80, Protocol: "UDP", NodePort: 30080})},
			`spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated`},
		"twice": {[]func(*corev1.Service){ports(corev1.ServicePort{Name: "a", Port: 80, NodePort: 30090}, corev1.ServicePort{Name: "b", Port: 81, NodePort: 30090})},
			`spec.ports[1].nodePort: Invalid value: 30090: provided port is already allocated`},
		"health": {[]func(*corev1.Service){ofType(corev1.ServiceTypeLoadBalancer), func(s *corev1.Service) {
			s.Spec.ExternalTrafficPolicy, s.Spec.HealthCheckNodePort = "Local", 30080
		}}, "failed to allocate requested HealthCheck NodePort 30080: provided port is already allocated"},
	} {
		reason := metav1.StatusReasonInvalid
		if name == "health" {
			reason = metav1.StatusReasonInternalError
		}
		_, err := c.Create(context.Background(), to(kind.Service, "default", name), service(name, want.change...))
		wantStatus(t, err, reason, want.text)
	}
	_, err := c.changeService("taken", ports(corev1.ServicePort{Port: 80, NodePort: 30080}, corev1.ServicePort{Port: 81, NodePort: 30080}))
	wantStatus(t, err, "", "duplicate nodePort: {TCP 30080}")
	if got := c.claimed("nodeports"); !slices.Equal(got, []string{"30080"}) {
		t.Errorf("claimed %v", got)
	}
}

// A dry run names what nobody gets, and claims nothing.
func TestServiceDryRun(t *testing.T) {
	c := newCluster(t)
	req := to(kind.Service, "default", "web")
	req.DryRun = true
	out, err := c.Create(context.Background(), req, service("web", ofType(corev1.ServiceTypeLoadBalancer), func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = "Local" }))
	if err != nil {
		t.Fatal(err)
	}
	if s := out.(*corev1.Service).Spec; s.ClusterIP != "10.43.0.0" || s.Ports[0].NodePort != 32769 || s.HealthCheckNodePort != 32770 {
		t.Errorf("%+v", s)
	}
	_, err = c.Create(context.Background(), req, service("web", clusterIP("10.44.0.1")))
	wantStatus(t, err, metav1.StatusReasonInvalid, "the provided IP (10.44.0.1) is not in the valid range. The range of valid IPs is 10.43.0.0/16")
	_, err = c.Create(context.Background(), req, service("web", onPort(-1), ofType(corev1.ServiceTypeLoadBalancer), func(s *corev1.Service) {
		s.Spec.ExternalTrafficPolicy = "Local"
		s.Spec.Ports[0].Protocol = "X"
	}))
	wantStatus(t, err, metav1.StatusReasonInvalid, "is invalid: spec.ports[0].protocol: Unsupported value") // and nothing else
	if _, err := c.Create(context.Background(), req, service("web", onPort(101))); err != nil {
		t.Errorf("a dry run with a port out of range: %v", err)
	}
	if got := append(c.claimed("clusterips"), c.claimed("nodeports")...); len(got) != 0 {
		t.Errorf("claimed %v", got)
	}
}

// Ports that come later each get a node port of their own.
func TestServiceGainsPorts(t *testing.T) {
	c := newCluster(t)
	c.service("dns", ofType(corev1.ServiceTypeNodePort), func(s *corev1.Service) {
		s.Spec.Ports = []corev1.ServicePort{{Name: "udp", Port: 53, Protocol: corev1.ProtocolUDP}}
	})
	s, err := c.changeService("dns", func(s *corev1.Service) {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "tcp", Port: 53, Protocol: corev1.ProtocolTCP})
	})
	if err != nil || s.Spec.Ports[0].NodePort == s.Spec.Ports[1].NodePort || len(c.claimed("nodeports")) != 2 {
		t.Errorf("%+v, %v", s, err)
	}
}

// The Endpoints of a Service go with it.
func TestServiceTakesItsEndpoints(t *testing.T) {
	c := newCluster(t)
	for _, name := range []string{"web", "other"} {
		c.create(kind.Endpoints, &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}})
	}
	c.service("web")
	c.delete(kind.Service, "default", "web", metav1.DeleteOptions{})
	if left := c.list(kind.Endpoints, "default", metav1.ListOptions{}).Items; len(left) != 1 || left[0].GetName() != "other" {
		t.Errorf("left are %v", left)
	}
}

func TestServiceChangesType(t *testing.T) {
	c := newCluster(t)
	c.service("s")
	if _, err := c.changeService("s", func(s *corev1.Service) {
		s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, "example.com"
	}); err != nil {
		t.Fatal(err)
	}
	if got := c.claimed("clusterips"); len(got) != 0 {
		t.Errorf("an alias holds %v", got)
	}
	out, err := c.changeService("s", func(s *corev1.Service) { s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeClusterIP, "" })
	if err != nil || out.Spec.ClusterIP == "" || len(c.claimed("clusterips")) != 1 {
		t.Errorf("back from an alias: %v, %v", out, err)
	}
}

func TestServiceLoadBalancer(t *testing.T) {
	c := newCluster(t)
	s := c.service("lb", ofType(corev1.ServiceTypeLoadBalancer), func(s *corev1.Service) {
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	})
	if s.Spec.HealthCheckNodePort == 0 || s.Spec.Ports[0].NodePort == 0 || s.Spec.HealthCheckNodePort == s.Spec.Ports[0].NodePort {
		t.Fatalf("spec %+v", s.Spec)
	}
	s, err := c.changeService("lb", func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyCluster })
	if err != nil || s.Spec.HealthCheckNodePort != 0 || len(c.claimed("nodeports")) != 1 {
		t.Errorf("spec %+v, claimed %v, %v", s, c.claimed("nodeports"), err)
	}
	bare := c.service("bare", ofType(corev1.ServiceTypeLoadBalancer), func(s *corev1.Service) {
		s.Spec.AllocateLoadBalancerNodePorts = new(false)
	})
	if bare.Spec.Ports[0].NodePort != 0 {
		t.Errorf("a node port that nobody asked for: %+v", bare.Spec.Ports)
	}
}

// The lower part of a range is for those who ask for a certain address, until
// there is nothing else.
func TestServiceAddressesFromAboveFirst(t *testing.T) {
	c := newCluster(t, serviceCIDRs("10.43.0.0/26"))
	first := netip.MustParseAddr("10.43.0.17")
	for i := range 46 {
		s := c.service(fmt.Sprintf("s%d", i))
		if ip := netip.MustParseAddr(s.Spec.ClusterIP); ip.Compare(first) < 0 {
			t.Fatalf("address %d is %s, with free ones from %s on", i, ip, first)
		}
	}
	if ip := netip.MustParseAddr(c.service("last").Spec.ClusterIP); ip.Compare(first) >= 0 {
		t.Errorf("address %s was given twice", ip)
	}
}

func TestServiceRangesRunOut(t *testing.T) {
	c := newCluster(t, serviceCIDRs("10.43.0.0/28"), nodePorts(30000, 30002))
	for i := range 14 {
		c.service(fmt.Sprintf("s%d", i))
	}
	_, err := c.Create(context.Background(), to(kind.Service, "default", "one-more"), service("one-more"))
	wantStatus(t, err, metav1.StatusReasonInternalError, "failed to allocate a serviceIP for Service \"one-more\": range is full")
	c.delete(kind.Service, "default", "s3", metav1.DeleteOptions{})
	c.service("one-more")

	c.delete(kind.Service, "default", "s4", metav1.DeleteOptions{})
	_, err = c.Create(context.Background(), to(kind.Service, "default", "ports"), service("ports", ofType(corev1.ServiceTypeNodePort), func(s *corev1.Service) {
		s.Spec.Ports = nil
		for i := range int32(4) {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: fmt.Sprint("p", i), Port: 80 + i})
		}
	}))
	wantStatus(t, err, metav1.StatusReasonInternalError, "failed to allocate a nodePort: range is full")
	if got := c.claimed("nodeports"); len(got) != 0 {
		t.Errorf("a Service that was not created holds %v", got)
	}
}

// Many at once for the last addresses and ports: each goes to one Service, and
// every claim belongs to a Service that is there.
func TestServiceAllocationRaces(t *testing.T) {
	c := newCluster(t, serviceCIDRs("10.43.0.0/27"), nodePorts(30000, 30063))
	var wg sync.WaitGroup
	var mu sync.Mutex
	created := 0
	for i := range 40 {
		wg.Go(func() {
			name := fmt.Sprintf("s%d", i)
			_, err := c.Create(context.Background(), to(kind.Service, "default", name), service(name, ofType(corev1.ServiceTypeNodePort)))
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				created++
			}
		})
	}
	for range 4 { // one address that several ask for
		wg.Go(func() {
			s := service("", clusterIP("10.43.0.5"))
			s.GenerateName = "fixed-"
			if _, err := c.Create(context.Background(), to(kind.Service, "default", ""), s); err == nil {
				mu.Lock()
				created++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if created != 30 {
		t.Errorf("%d Services have one of 30 addresses", created)
	}
	owners := map[string]string{}
	for _, obj := range c.list(kind.Service, "default", metav1.ListOptions{}).Items {
		s := obj.(*corev1.Service)
		for _, name := range append(slices.Clone(s.Spec.ClusterIPs), fmt.Sprint(s.Spec.Ports[0].NodePort)) {
			if name != "0" && owners[name] != "" {
				t.Errorf("%s belongs to %s and %s", name, owners[name], s.Name)
			}
			owners[name] = "default/" + s.Name
		}
	}
	for _, table := range []string{"clusterips", "nodeports"} {
		c.state.Claims(table, func(name, owner string) bool {
			if owners[name] != owner {
				t.Errorf("%s %s is held by %q, want %q", table, name, owner, owners[name])
			}
			return true
		})
	}
}
