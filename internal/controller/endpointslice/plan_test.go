package endpointslice

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

var now = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func service(change ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default", UID: "svc", Labels: map[string]string{"own": "label"}}}
	s.Spec.ClusterIP = "10.43.0.7"
	s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	s.Spec.Ports = []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, TargetPort: intstr.FromInt32(8080)}}
	for _, c := range change {
		c(s)
	}
	return s
}

func headless(s *corev1.Service)  { s.Spec.ClusterIP = corev1.ClusterIPNone }
func noPorts(s *corev1.Service)   { s.Spec.Ports = nil }
func publishes(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true }
func dual(s *corev1.Service) {
	s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
}
func byName(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromString("web") }

// pod returns a ready one with the address 10.42.0.n.
func pod(n int, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("p%d", n), Namespace: "default", UID: types.UID(fmt.Sprintf("p%d", n))}}
	p.Spec.NodeName = "a"
	p.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 8000, Protocol: corev1.ProtocolTCP}}}}
	p.Status.Phase = corev1.PodRunning
	p.Status.PodIP = fmt.Sprintf("10.42.%d.%d", n/200, n%200)
	p.Status.PodIPs = []corev1.PodIP{{IP: p.Status.PodIP}, {IP: fmt.Sprintf("fd00::%x", n)}}
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	for _, c := range change {
		c(p)
	}
	return p
}

func unready(p *corev1.Pod)  { p.Status.Conditions[0].Status = corev1.ConditionFalse }
func deleted(p *corev1.Pod)  { p.DeletionTimestamp = &metav1.Time{Time: now} }
func failed(p *corev1.Pod)   { p.Status.Phase = corev1.PodFailed }
func homeless(p *corev1.Pod) { p.Status.PodIP, p.Status.PodIPs = "", nil }
func lost(p *corev1.Pod)     { p.Spec.NodeName = "gone" }
func portless(p *corev1.Pod) { p.Spec.Containers[0].Ports = nil }
func otherPort(p *corev1.Pod) {
	p.Spec.Containers[0].Ports[0].ContainerPort = 9000
}
func named(p *corev1.Pod) { p.Spec.Hostname, p.Spec.Subdomain = "me", "web" }

func zone(node string) (string, bool) { return "z1", node == "a" }

func pods(n int, change ...func(*corev1.Pod)) []*corev1.Pod {
	var list []*corev1.Pod
	for i := range n {
		list = append(list, pod(i+1, change...))
	}
	return list
}

// show returns "[ports] address:conditions …".
func show(s *discoveryv1.EndpointSlice) string {
	var out []string
	for _, p := range s.Ports {
		out = append(out, fmt.Sprintf("%s=%d", *p.Name, *p.Port))
	}
	text := fmt.Sprintf("%s%v", s.AddressType, out)
	for _, e := range s.Endpoints {
		text += " " + e.Addresses[0] + ":"
		for _, c := range []struct {
			letter string
			is     *bool
		}{{"r", e.Conditions.Ready}, {"s", e.Conditions.Serving}, {"t", e.Conditions.Terminating}} {
			if *c.is {
				text += c.letter
			}
		}
		if e.Hostname != nil {
			text += "@" + *e.Hostname
		}
	}
	return text
}

func showLegacy(e *corev1.Endpoints) string {
	var out []string
	for _, s := range e.Subsets {
		var ports []string
		for _, p := range s.Ports {
			ports = append(ports, fmt.Sprintf("%s=%d", p.Name, p.Port))
		}
		text := fmt.Sprintf("%v", ports)
		for _, a := range s.Addresses {
			text += " " + a.IP
		}
		for _, a := range s.NotReadyAddresses {
			text += " -" + a.IP
		}
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}

func TestSlicesAndEndpoints(t *testing.T) {
	for _, c := range []struct {
		name         string
		svc          *corev1.Service
		pods         []*corev1.Pod
		want, legacy string
	}{
		{"nobody", service(), nil, "IPv4[]", ""},
		{"one", service(), pods(1), "IPv4[http=8080] 10.42.0.1:rs", "[http=8080] 10.42.0.1"},
		{"not ready", service(), pods(1, unready), "IPv4[http=8080] 10.42.0.1:", "[http=8080] -10.42.0.1"},
		{"not ready but published", service(publishes), pods(1, unready), "IPv4[http=8080] 10.42.0.1:r", "[http=8080] 10.42.0.1"},
		{"terminating", service(), pods(1, deleted), "IPv4[http=8080] 10.42.0.1:st", ""},
		{"terminating but published", service(publishes), pods(1, deleted), "IPv4[http=8080] 10.42.0.1:rst", "[http=8080] 10.42.0.1"},
		{"ended", service(), pods(1, failed), "IPv4[]", ""},
		{"without an address", service(), pods(1, homeless), "IPv4[]", ""},
		{"on a node that has gone", service(), pods(1, lost), "IPv4[]", ""},
		{"on a node that has gone but published", service(publishes), pods(1, lost), "IPv4[http=8080] 10.42.0.1:rs", "[http=8080] 10.42.0.1"},
		{"port by name", service(byName), pods(1), "IPv4[http=8000] 10.42.0.1:rs", "[http=8000] 10.42.0.1"},
		{"ports that differ", service(byName), []*corev1.Pod{pod(1), pod(2, otherPort)}, "IPv4[http=8000] 10.42.0.1:rs | IPv4[http=9000] 10.42.0.2:rs", "[http=8000] 10.42.0.1; [http=9000] 10.42.0.2"},
		{"no such port", service(byName), pods(1, portless), "IPv4[] 10.42.0.1:rs", ""},
		{"ports that some share", service(func(s *corev1.Service) {
			byName(s)
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "more", Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(1)})
		}), []*corev1.Pod{pod(1), pod(2, otherPort)}, "IPv4[http=8000 more=1] 10.42.0.1:rs | IPv4[http=9000 more=1] 10.42.0.2:rs",
			"[http=8000] 10.42.0.1; [http=9000] 10.42.0.2; [more=1] 10.42.0.1 10.42.0.2"},
		{"headless without ports", service(headless, noPorts), pods(1, named), "IPv4[] 10.42.0.1:rs@me", "[] 10.42.0.1"},
		{"both families", service(dual), pods(1), "IPv4[http=8080] 10.42.0.1:rs | IPv6[http=8080] fd00::1:rs", "[http=8080] 10.42.0.1"},
		{"both families, nobody", service(dual), nil, "IPv4[] | IPv6[]", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			list := backends(c.svc, c.pods, zone)
			p := plan(c.svc, list, nil, now)
			var got []string
			for _, s := range p.Create {
				got = append(got, show(s))
			}
			slices.Sort(got)
			if text := strings.Join(got, " | "); text != c.want {
				t.Errorf("slices %q, want %q", text, c.want)
			}
			if text := showLegacy(legacy(c.svc, list, now)); text != c.legacy {
				t.Errorf("Endpoints %q, want %q", text, c.legacy)
			}
		})
	}
}

func TestMetadata(t *testing.T) {
	svc := service(headless)
	list := backends(svc, pods(1), zone)
	s := plan(svc, list, nil, now.Add(1234567)).Create[0]
	want := map[string]string{
		"own": "label", "kubernetes.io/service-name": "web", "service.kubernetes.io/headless": "",
		"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
	}
	if fmt.Sprint(s.Labels) != fmt.Sprint(want) {
		t.Errorf("labels %v", s.Labels)
	}
	if fmt.Sprint(s.Annotations) != "map[endpoints.kubernetes.io/last-change-trigger-time:2026-01-01T12:00:00.001234567Z]" {
		t.Errorf("annotations %v", s.Annotations)
	}
	if ref := s.OwnerReferences[0]; s.GenerateName != "web-" || ref.UID != "svc" || !*ref.Controller || !*ref.BlockOwnerDeletion {
		t.Errorf("%+v", s.ObjectMeta)
	}
	if e := s.Endpoints[0]; *e.Zone != "z1" || *e.NodeName != "a" || e.TargetRef.UID != "p1" {
		t.Errorf("endpoint %+v", e)
	}
	l := legacy(svc, list, now)
	want = map[string]string{"own": "label", "service.kubernetes.io/headless": "", "endpoints.kubernetes.io/managed-by": "endpoint-controller"}
	if fmt.Sprint(l.Labels) != fmt.Sprint(want) {
		t.Errorf("labels of Endpoints %v", l.Labels)
	}
}

// settle makes what a plan says, and returns the slices there are then.
func settle(p Plan, have []*discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
	var next []*discoveryv1.EndpointSlice
	for _, s := range have {
		for _, u := range p.Update {
			if u.Name == s.Name {
				s = u
			}
		}
		if !slices.ContainsFunc(p.Delete, func(d *discoveryv1.EndpointSlice) bool { return d.Name == s.Name }) {
			next = append(next, s)
		}
	}
	for _, s := range p.Create {
		s.Name = fmt.Sprintf("s%d", len(next))
		next = append(next, s)
	}
	return next
}

// One Pod's change rewrites one slice, and what is full is split.
func TestSlicesChangeLittle(t *testing.T) {
	svc := service()
	all := pods(250)
	have := settle(plan(svc, backends(svc, all, zone), nil, now), nil)
	if len(have) != 3 || len(have[0].Endpoints) != 100 || len(have[2].Endpoints) != 50 {
		t.Fatalf("%d slices", len(have))
	}
	for _, c := range []struct {
		name string
		pods []*corev1.Pod
		want [3]int // created, updated, deleted
	}{
		{"nothing new", all, [3]int{0, 0, 0}},
		{"one is not ready", append(slices.Clone(all[1:]), pod(1, unready)), [3]int{0, 1, 0}},
		{"one more", append(slices.Clone(all), pod(251)), [3]int{0, 1, 0}},
		{"many more", append(slices.Clone(all), pods(400)[250:]...), [3]int{1, 1, 0}},
		{"the last slice is empty", all[:200], [3]int{0, 0, 1}},
		{"nobody is left", nil, [3]int{1, 0, 3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := plan(svc, backends(svc, c.pods, zone), have, now.Add(time.Hour))
			if got := [3]int{len(p.Create), len(p.Update), len(p.Delete)}; got != c.want {
				t.Fatalf("created, updated, deleted %v, want %v", got, c.want)
			}
			after := settle(p, have)
			seen := map[string]int{}
			for _, s := range after {
				for _, e := range s.Endpoints {
					seen[e.Addresses[0]]++
				}
			}
			for _, pod := range c.pods {
				if seen[pod.Status.PodIP] != 1 {
					t.Errorf("%s is there %d times", pod.Status.PodIP, seen[pod.Status.PodIP])
				}
			}
			if len(seen) != len(c.pods) {
				t.Errorf("%d addresses of %d Pods", len(seen), len(c.pods))
			}
			if again := plan(svc, backends(svc, c.pods, zone), after, now); len(again.Create)+len(again.Update)+len(again.Delete) > 0 {
				t.Errorf("it never comes to rest: %+v", again)
			}
		})
	}
}

func TestOverCapacity(t *testing.T) {
	svc := service()
	list := slices.Concat(pods(10, unready), pods(1005)[5:])
	e := legacy(svc, backends(svc, list, zone), now)
	if e.Annotations[overCapacity] != "truncated" || len(e.Subsets[0].Addresses) != 1000 || len(e.Subsets[0].NotReadyAddresses) != 0 {
		t.Errorf("%v, %d ready, %d not", e.Annotations, len(e.Subsets[0].Addresses), len(e.Subsets[0].NotReadyAddresses))
	}
	if e := legacy(svc, backends(svc, pods(1000), zone), now); e.Annotations[overCapacity] != "" {
		t.Errorf("%v", e.Annotations)
	}
}

func TestTrigger(t *testing.T) {
	at := func(seconds int) metav1.Time { return metav1.NewTime(now.Add(time.Duration(seconds) * time.Second)) }
	readyAt := func(seconds int) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Status.Conditions[0].LastTransitionTime = at(seconds) }
	}
	svc := service()
	svc.CreationTimestamp = at(0)
	var before trigger
	for i, c := range []struct {
		pods []*corev1.Pod
		want time.Time
	}{
		{[]*corev1.Pod{pod(1, readyAt(5))}, at(0).Time},
		{[]*corev1.Pod{pod(1, readyAt(5))}, time.Time{}},
		{[]*corev1.Pod{pod(1, readyAt(9)), pod(2, readyAt(7))}, at(7).Time},
		{[]*corev1.Pod{pod(1, readyAt(9))}, time.Time{}},
	} {
		next, since := before.after(svc, c.pods)
		if !since.Equal(c.want) {
			t.Errorf("%d: %v, want %v", i, since, c.want)
		}
		before = next
	}
}
