package agent

import (
	"context"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/skiff-sh/skiff/internal/agent/cgroup"
)

func ptr[T any](v T) *T { return &v }

// memoryObjects are ConfigMaps and Secrets by name.
type memoryObjects struct {
	configMaps map[string]*corev1.ConfigMap
	secrets    map[string]*corev1.Secret
}

func (m memoryObjects) ConfigMap(_ context.Context, _, name string) (*corev1.ConfigMap, error) {
	if cm := m.configMaps[name]; cm != nil {
		return cm, nil
	}
	return nil, apierrors.NewNotFound(corev1.Resource("configmap"), name)
}

func (m memoryObjects) Secret(_ context.Context, _, name string) (*corev1.Secret, error) {
	if s := m.secrets[name]; s != nil {
		return s, nil
	}
	return nil, apierrors.NewNotFound(corev1.Resource("secret"), name)
}

func TestEnvironment(t *testing.T) {
	pod := webPod()
	pod.Labels = map[string]string{"app": "web"}
	pod.Status.PodIP = "10.42.0.9"
	c := &pod.Spec.Containers[0]
	c.Resources.Limits = corev1.ResourceList{"memory": resource.MustParse("64Mi")}
	c.EnvFrom = []corev1.EnvFromSource{
		{Prefix: "P_", ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "m"}}},
		{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}}},
		{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "absent"}, Optional: ptr(true)}},
	}
	field := func(path string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
	}
	c.Env = []corev1.EnvVar{
		{Name: "A", Value: "1"},
		{Name: "B", Value: "$(A)-$(DB_SERVICE_HOST)-$(NONE)-$$(A)"},
		{Name: "IP", ValueFrom: field("status.podIP")},
		{Name: "LABEL", ValueFrom: field("metadata.labels['app']")},
		{Name: "NODE", ValueFrom: field("spec.nodeName")},
		{Name: "MEM", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.memory", Divisor: resource.MustParse("1Mi")}}},
		{Name: "CPU", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.cpu"}}},
		{Name: "KEY", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "m"}, Key: "k"}}},
		{Name: "PW", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}, Key: "pw"}}},
		{Name: "MAYBE", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}, Key: "none", Optional: ptr(true)}}},
	}
	e := environment{
		Pod: pod, Container: c, Services: map[string]string{"DB_SERVICE_HOST": "10.43.0.5"},
		Limits: corev1.ResourceList{"cpu": resource.MustParse("2")},
		Objects: memoryObjects{
			configMaps: map[string]*corev1.ConfigMap{"m": {Data: map[string]string{"k": "v"}}},
			secrets:    map[string]*corev1.Secret{"s": {Data: map[string][]byte{"pw": []byte("x")}}},
		},
	}
	got, err := e.build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"A": "1", "B": "1-10.43.0.5-$(NONE)-$(A)", "IP": "10.42.0.9", "LABEL": "web", "NODE": "n1", "MEM": "64", "CPU": "2",
		"KEY": "v", "PW": "x", "P_k": "v", "pw": "x", "DB_SERVICE_HOST": "10.43.0.5",
	}
	if !maps.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	c.Env = []corev1.EnvVar{{Name: "X", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "m"}, Key: "gone"}}}}
	if _, err := e.build(t.Context()); err == nil || err.Error() != "couldn't find key gone in ConfigMap default/m" {
		t.Errorf("error is %v", err)
	}
}

func TestServiceEnv(t *testing.T) {
	services := map[string][]*corev1.Service{"default": {
		{Spec: corev1.ServiceSpec{ClusterIP: "10.43.0.1", Ports: []corev1.ServicePort{{Name: "https", Port: 443, Protocol: "TCP"}}}},
		{Spec: corev1.ServiceSpec{ClusterIP: "10.43.0.7", Ports: []corev1.ServicePort{{Port: 53, Protocol: "UDP"}}}},
		{Spec: corev1.ServiceSpec{ClusterIP: "None", Ports: []corev1.ServicePort{{Port: 1}}}},
	}}
	for i, name := range []string{"kubernetes", "my-dns", "headless"} {
		services["default"][i].Name = name
	}
	list := func(ns string) ([]*corev1.Service, error) { return slices.Clone(services[ns]), nil }
	got, err := serviceEnv(webPod(), list)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"KUBERNETES_SERVICE_HOST": "10.43.0.1", "KUBERNETES_SERVICE_PORT": "443", "KUBERNETES_SERVICE_PORT_HTTPS": "443",
		"KUBERNETES_PORT": "tcp://10.43.0.1:443", "KUBERNETES_PORT_443_TCP": "tcp://10.43.0.1:443",
		"KUBERNETES_PORT_443_TCP_PROTO": "tcp", "KUBERNETES_PORT_443_TCP_PORT": "443", "KUBERNETES_PORT_443_TCP_ADDR": "10.43.0.1",
		"MY_DNS_SERVICE_HOST": "10.43.0.7", "MY_DNS_SERVICE_PORT": "53", "MY_DNS_PORT": "udp://10.43.0.7:53",
		"MY_DNS_PORT_53_UDP": "udp://10.43.0.7:53", "MY_DNS_PORT_53_UDP_PROTO": "udp", "MY_DNS_PORT_53_UDP_PORT": "53", "MY_DNS_PORT_53_UDP_ADDR": "10.43.0.7",
	}
	if !maps.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	alone, err := serviceEnv(webPod(func(p *corev1.Pod) { p.Spec.EnableServiceLinks = ptr(false) }), list)
	if err != nil || len(alone) != 8 {
		t.Errorf("without links: %v, %v", alone, err)
	}
}

func TestCommandLine(t *testing.T) {
	image := Image{Entrypoint: []string{"/e"}, Cmd: []string{"$(A)"}}
	lookup := func(name string) (string, bool) { return "1", name == "A" }
	for _, test := range []struct{ command, args, want []string }{
		{nil, nil, []string{"/e", "$(A)"}},
		{nil, []string{"x$(A)"}, []string{"/e", "x1"}},
		{[]string{"/c", "$(A)"}, nil, []string{"/c", "1"}},
		{[]string{"/c"}, []string{"$(B)", "$$(A)"}, []string{"/c", "$(B)", "$(A)"}},
	} {
		if got := commandLine(&corev1.Container{Command: test.command, Args: test.args}, image, lookup); !slices.Equal(got, test.want) {
			t.Errorf("command %q args %q: got %q, want %q", test.command, test.args, got, test.want)
		}
	}
}

func TestHostsFile(t *testing.T) {
	pod := webPod(func(p *corev1.Pod) {
		p.Spec.Hostname, p.Spec.Subdomain = "h", "sub"
		p.Spec.HostAliases = []corev1.HostAlias{{IP: "1.2.3.4", Hostnames: []string{"foo", "bar"}}}
	})
	got := hostsFile(pod, []netip.Addr{netip.MustParseAddr("10.42.0.9")}, "cluster.local", "")
	want := "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n" +
		"fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n" +
		"10.42.0.9\th.sub.default.svc.cluster.local\th\n\n# Entries added by HostAliases.\n1.2.3.4\tfoo\tbar\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	pod.Spec.HostNetwork = true
	if got := hostsFile(pod, nil, "cluster.local", "127.0.0.1 me\n"); !strings.HasPrefix(got, "# Kubernetes-managed hosts file (host network).\n127.0.0.1 me\n") {
		t.Errorf("on the host's network: %s", got)
	}
}

func TestKernelHostname(t *testing.T) {
	pod := webPod(func(p *corev1.Pod) { p.Spec.Subdomain = "sub" })
	for want, change := range map[string]func(*corev1.PodSpec){
		"web":                               func(*corev1.PodSpec) {},
		"web.sub.default.svc.cluster.local": func(s *corev1.PodSpec) { s.SetHostnameAsFQDN = ptr(true) },
		"other":                             func(s *corev1.PodSpec) { s.HostnameOverride = ptr("other") },
	} {
		p := pod.DeepCopy()
		change(&p.Spec)
		if got, err := kernelHostname(p, "cluster.local"); got != want || err != nil {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
	pod.Name, pod.Spec.SetHostnameAsFQDN = strings.Repeat("x", 60), ptr(true)
	if _, err := kernelHostname(pod, "cluster.local"); err == nil {
		t.Error("a name that is too long for the kernel passes")
	}
}

func TestPodResolver(t *testing.T) {
	host := resolver{Servers: []string{"9.9.9.9"}, Search: []string{"lan"}}
	dns := []netip.Addr{netip.MustParseAddr("10.43.0.10")}
	cluster := "search default.svc.cluster.local svc.cluster.local cluster.local lan\nnameserver 10.43.0.10\noptions ndots:5\n"
	for _, test := range []struct {
		policy      corev1.DNSPolicy
		hostNetwork bool
		config      *corev1.PodDNSConfig
		want        string
	}{
		{corev1.DNSClusterFirst, false, nil, cluster},
		{corev1.DNSClusterFirst, true, nil, "search lan\nnameserver 9.9.9.9\n"},
		{corev1.DNSClusterFirstWithHostNet, true, nil, cluster},
		{corev1.DNSDefault, false, nil, "search lan\nnameserver 9.9.9.9\n"},
		{corev1.DNSNone, false, &corev1.PodDNSConfig{Nameservers: []string{"1.1.1.1"}, Searches: []string{"a"}, Options: []corev1.PodDNSConfigOption{{Name: "edns0"}}},
			"search a\nnameserver 1.1.1.1\noptions edns0\n"},
		{corev1.DNSClusterFirst, false, &corev1.PodDNSConfig{Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: ptr("2")}}},
			strings.ReplaceAll(cluster, "ndots:5", "ndots:2")},
	} {
		pod := webPod(func(p *corev1.Pod) {
			p.Spec.DNSPolicy, p.Spec.HostNetwork, p.Spec.DNSConfig = test.policy, test.hostNetwork, test.config
		})
		if got := podResolver(pod, host, dns, "cluster.local").String(); got != test.want {
			t.Errorf("%s (host network %v): got\n%swant\n%s", test.policy, test.hostNetwork, got, test.want)
		}
	}
	if got := parseResolver("# x\nnameserver 1.1.1.1\nsearch a b\noptions ndots:1\n").String(); got != "search a b\nnameserver 1.1.1.1\noptions ndots:1\n" {
		t.Errorf("parsed and written: %s", got)
	}
}

func TestUser(t *testing.T) {
	for _, test := range []struct {
		image string
		pod   corev1.PodSecurityContext
		own   corev1.SecurityContext
		want  User
	}{
		{"", corev1.PodSecurityContext{}, corev1.SecurityContext{}, User{Spec: "0"}},
		{"1000:50", corev1.PodSecurityContext{}, corev1.SecurityContext{}, User{Spec: "1000:50", UID: 1000, GID: 50}},
		{"app", corev1.PodSecurityContext{RunAsGroup: ptr(int64(7))}, corev1.SecurityContext{}, User{Spec: "app:7", GID: 7}},
		{"app", corev1.PodSecurityContext{RunAsUser: ptr(int64(5))}, corev1.SecurityContext{RunAsUser: ptr(int64(6))}, User{Spec: "6", UID: 6}},
		{"", corev1.PodSecurityContext{SupplementalGroups: []int64{3}, FSGroup: ptr(int64(4)), SupplementalGroupsPolicy: ptr(corev1.SupplementalGroupsPolicyStrict)},
			corev1.SecurityContext{}, User{Spec: "0", Groups: []int64{3, 4}, Strict: true}},
	} {
		pod := webPod(func(p *corev1.Pod) {
			p.Spec.SecurityContext = &test.pod
			p.Spec.Containers[0].SecurityContext = &test.own
		})
		got := effectiveSecurity(pod, &pod.Spec.Containers[0]).user(test.image)
		if got.Spec != test.want.Spec || got.UID != test.want.UID || got.GID != test.want.GID || !slices.Equal(got.Groups, test.want.Groups) || got.Strict != test.want.Strict {
			t.Errorf("got %+v, want %+v", got, test.want)
		}
	}
}

func TestRunAsNonRoot(t *testing.T) {
	const in = `(pod: "web_default(11111111-2222-3333-4444-555555555555)", container: c)`
	for _, test := range []struct {
		image string
		user  *int64
		want  string
	}{
		{"1000", nil, ""},
		{"", ptr(int64(1)), ""},
		{"", nil, "container has runAsNonRoot and image will run as root " + in},
		{"0", nil, "container has runAsNonRoot and image will run as root " + in},
		{"app", nil, "container has runAsNonRoot and image has non-numeric user (app), cannot verify user is non-root " + in},
		{"1000", ptr(int64(0)), "container's runAsUser breaks non-root policy " + in},
	} {
		pod := webPod(func(p *corev1.Pod) {
			p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsNonRoot: ptr(true), RunAsUser: test.user}
		})
		c := &pod.Spec.Containers[0]
		got := ""
		if err := effectiveSecurity(pod, c).checkNonRoot(pod, c, test.image); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("image user %q: got %q, want %q", test.image, got, test.want)
		}
	}
}

func TestSeccomp(t *testing.T) {
	profile := func(typ corev1.SeccompProfileType, path *string) *corev1.SeccompProfile {
		return &corev1.SeccompProfile{Type: typ, LocalhostProfile: path}
	}
	for _, test := range []struct {
		pod, own   *corev1.SeccompProfile
		privileged bool
		want       string
		byDefault  string // where the node confines whoever says nothing
	}{
		{nil, nil, false, "unconfined", ""},
		{profile(corev1.SeccompProfileTypeRuntimeDefault, nil), nil, false, "", ""},
		{profile(corev1.SeccompProfileTypeRuntimeDefault, nil), profile(corev1.SeccompProfileTypeUnconfined, nil), false, "unconfined", "unconfined"},
		{nil, profile(corev1.SeccompProfileTypeLocalhost, ptr("a.json")), false, "/p/a.json", "/p/a.json"},
		{profile(corev1.SeccompProfileTypeRuntimeDefault, nil), nil, true, "unconfined", "unconfined"},
		{nil, nil, true, "unconfined", "unconfined"},
	} {
		pod := webPod(func(p *corev1.Pod) {
			p.Spec.SecurityContext = &corev1.PodSecurityContext{SeccompProfile: test.pod}
			p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{SeccompProfile: test.own, Privileged: &test.privileged}
		})
		sec := effectiveSecurity(pod, &pod.Spec.Containers[0])
		if got := sec.seccomp("/p", false); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
		if got := sec.seccomp("/p", true); got != test.byDefault {
			t.Errorf("on a node that confines: got %q, want %q", got, test.byDefault)
		}
	}
}

func TestSysctls(t *testing.T) {
	pod := webPod(func(p *corev1.Pod) {
		p.Spec.SecurityContext = &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: "net/ipv4/tcp_syncookies", Value: "0"}}}
	})
	want := map[string]string{"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647", "net.ipv4.tcp_syncookies": "0"}
	if got := sysctls(pod); !maps.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

func requirements(cpuRequest, memRequest, cpuLimit, memLimit string) corev1.ResourceRequirements {
	list := func(cpu, mem string) corev1.ResourceList {
		out := corev1.ResourceList{}
		if cpu != "" {
			out["cpu"] = resource.MustParse(cpu)
		}
		if mem != "" {
			out["memory"] = resource.MustParse(mem)
		}
		return out
	}
	return corev1.ResourceRequirements{Requests: list(cpuRequest, memRequest), Limits: list(cpuLimit, memLimit)}
}

func TestContainerResources(t *testing.T) {
	const total = 1 << 30
	for _, test := range []struct {
		r    corev1.ResourceRequirements
		want Resources
		qos  corev1.PodQOSClass
	}{
		{requirements("", "", "", ""), Resources{CPUShares: 2, OOMScoreAdj: 1000}, corev1.PodQOSBestEffort},
		{requirements("500m", "256Mi", "", ""), Resources{CPUShares: 512, OOMScoreAdj: 750}, corev1.PodQOSBurstable},
		{requirements("1", "64Mi", "1", "64Mi"), Resources{CPUShares: 1024, CPUQuota: 100000, CPUPeriod: 100000, MemoryLimit: 64 << 20, OOMScoreAdj: -997}, corev1.PodQOSGuaranteed},
		{requirements("", "", "5m", ""), Resources{CPUShares: 5, CPUQuota: 1000, CPUPeriod: 100000, OOMScoreAdj: 999}, corev1.PodQOSBurstable},
	} {
		test.want.HugePages = byPageName(nil, cgroup.PageSizes())
		pod := webPod(func(p *corev1.Pod) { p.Spec.Containers[0].Resources = test.r })
		if got := containerResources(pod, &pod.Spec.Containers[0], total); !reflect.DeepEqual(got, test.want) {
			t.Errorf("got %+v, want %+v", got, test.want)
		}
		if got := qosClass(pod); got != test.qos {
			t.Errorf("class is %s, want %s", got, test.qos)
		}
	}
}

func TestPodCgroup(t *testing.T) {
	pod := webPod(func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources = requirements("100m", "10Mi", "200m", "20Mi")
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "d", Resources: requirements("100m", "", "300m", "")})
	})
	want := cgroup.Pod{UID: string(pod.UID), Class: cgroup.Burstable, CPUShares: 204, CPUQuota: 50000, CPUPeriod: 100000}
	if got := podCgroup(pod); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	pod.Spec.Resources = ptr(requirements("1", "1Gi", "1", "1Gi"))
	want = cgroup.Pod{UID: string(pod.UID), Class: cgroup.Guaranteed, CPUShares: 1024, CPUQuota: 100000, CPUPeriod: 100000, MemoryLimit: 1 << 30}
	if got := podCgroup(pod); !reflect.DeepEqual(got, want) {
		t.Errorf("with the Pod's own: got %+v, want %+v", got, want)
	}
}

func TestReadinessGates(t *testing.T) {
	gates := []corev1.PodReadinessGate{{ConditionType: "a"}, {ConditionType: "b"}}
	_, message := gatesReason(gates, []corev1.PodCondition{{Type: "b", Status: corev1.ConditionFalse}})
	want := `corresponding condition of pod readiness gate "a" does not exist., the status of pod readiness gate "b" is not "True", but False`
	if message != want {
		t.Errorf("got %s", message)
	}
	if reason, _ := gatesReason(gates[:1], []corev1.PodCondition{{Type: "a", Status: corev1.ConditionTrue}}); reason != "" {
		t.Errorf("reason is %s", reason)
	}
}

func TestGracePeriods(t *testing.T) {
	pod := webPod()
	for _, test := range []struct{ spec, deletion, want int64 }{{-1, -1, 30}, {5, -1, 5}, {5, 60, 60}, {5, 0, 1}} {
		pod.Spec.TerminationGracePeriodSeconds, pod.DeletionGracePeriodSeconds = nil, nil
		if test.spec >= 0 {
			pod.Spec.TerminationGracePeriodSeconds = &test.spec
		}
		if test.deletion >= 0 {
			pod.DeletionGracePeriodSeconds = &test.deletion
		}
		if got := graceOf(pod); got != test.want {
			t.Errorf("%+v: got %d", test, got)
		}
	}
}

func TestProbeGracePeriod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.runtime.execs = func(string, []string) (int, string) { return 1, "" }
		b.runtime.onSignal = func(string, int) bool { return false }
		b.start()
		defer func() { b.stop() }()
		b.create(webPod(func(p *corev1.Pod) {
			p.Spec.Containers[0].LivenessProbe = probeExec(100, 1)
			p.Spec.Containers[0].LivenessProbe.TerminationGracePeriodSeconds = ptr(int64(3))
		}))
		pass(4 * time.Second)
		if calls := strings.Join(b.runtime.taken(), ","); !strings.Contains(calls, "kill c/0 9") {
			t.Errorf("the probe's grace period is over, but calls are %s", calls)
		}
	})
}

func TestOtherNodesPodsAreLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.start()
		defer func() { b.stop() }()
		b.create(webPod(func(p *corev1.Pod) { p.Spec.NodeName = "n2" }))
		pass(time.Second)
		b.wantCalls()
	})
}

func TestHostNamespaces(t *testing.T) {
	a := &Agent{Config: Config{Ground: Ground{Cgroups: fakeCgroups{}}}}
	pod := webPod(func(p *corev1.Pod) { p.Spec.HostNetwork, p.Spec.HostPID, p.Spec.HostIPC = true, true, true })
	if ref := a.podRef(pod); ref.NetNS != "" || ref.UTSNS != "" || ref.IPCNS != "" || ref.PIDNS != "host" {
		t.Errorf("got %+v", ref)
	}
	pod = webPod(func(p *corev1.Pod) { p.Spec.ShareProcessNamespace = ptr(true) })
	if ref := a.podRef(pod); ref.PIDNS != SharedPIDs {
		t.Errorf("got %+v", ref)
	}
	if ref := a.podRef(webPod()); ref.NetNS == "" || ref.UTSNS == "" || ref.IPCNS == "" || ref.PIDNS != "" {
		t.Errorf("got %+v", ref)
	}
}

func TestBuild(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.start()
		defer func() { b.stop() }()
		b.create(webPod(func(p *corev1.Pod) {
			c := &p.Spec.Containers[0]
			c.WorkingDir, c.Stdin, c.StdinOnce, c.TTY = "/w", true, true, true
			c.SecurityContext = &corev1.SecurityContext{
				Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"CAP_NET_ADMIN"}, Drop: []corev1.Capability{"ALL"}},
				Privileged:   ptr(true), ReadOnlyRootFilesystem: ptr(true), AllowPrivilegeEscalation: ptr(false),
				ProcMount: ptr(corev1.UnmaskedProcMount),
			}
		}))
		pass(time.Second)
		got := b.runtime.spec("c")
		if got.WorkingDir != "/w" || !got.Stdin || !got.StdinOnce || !got.TTY || !slices.Contains(got.Env, "TERM=xterm") {
			t.Errorf("terminal: %+v", got)
		}
		if !slices.Equal(got.CapAdd, []string{"NET_ADMIN"}) || !slices.Equal(got.CapDrop, []string{"ALL"}) ||
			!got.Privileged || !got.ReadOnlyRootfs || !got.NoNewPrivs || got.MaskedPaths {
			t.Errorf("security: %+v", got)
		}
		if len(got.ID) != 64 || got.LogPath != b.agent.logPath(b.pod(), "c", 0) {
			t.Errorf("names: %+v", got)
		}
	})
}

func TestMounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.start()
		defer func() { b.stop() }()
		b.create(webPod(func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "v"}, {Name: "h", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/usr"}}}}
			p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "DIR", Value: "sub"}}
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{
				{Name: "v", MountPath: "/data/deep"}, {Name: "h", MountPath: "/data", ReadOnly: true, MountPropagation: ptr(corev1.MountPropagationHostToContainer)},
				{Name: "v", MountPath: "/sub", SubPathExpr: "$(DIR)/x"},
			}
		}))
		pass(time.Second)
		at := map[string]Mount{}
		var order []string
		for _, m := range b.runtime.spec("c").Mounts {
			at[m.Target] = m
			order = append(order, m.Target)
		}
		dir := b.agent.podDir(string(b.pod().UID))
		if m := at["/data/deep"]; m.Source != filepath.Join(dir, "volumes/kubernetes.io~empty-dir/v") || m.ReadOnly {
			t.Errorf("emptyDir: %+v", m)
		}
		if m := at["/data"]; m.Source != "/usr" || !m.ReadOnly || m.Propagation != "rslave" {
			t.Errorf("hostPath: %+v", m)
		}
		if m := at["/sub"]; m.Source != filepath.Join(dir, "volume-subpaths/v/c/2") {
			t.Errorf("subPathExpr: %+v", m)
		}
		if _, err := os.Stat(filepath.Join(dir, "volumes/kubernetes.io~empty-dir/v/sub/x")); err != nil {
			t.Error(err)
		}
		for _, target := range []string{"/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/shm", "/dev/termination-log"} {
			if at[target].Source == "" {
				t.Errorf("%s is not mounted", target)
			}
		}
		if slices.Index(order, "/data") > slices.Index(order, "/data/deep") {
			t.Errorf("order is %q", order)
		}
		hosts, err := os.ReadFile(at["/etc/hosts"].Source)
		if err != nil || !strings.Contains(string(hosts), "10.42.0.9\tweb\n") {
			t.Errorf("/etc/hosts is %q, %v", hosts, err)
		}
	})
}

func TestTerminationMessage(t *testing.T) {
	for _, test := range []struct {
		name, file, log, want string
		policy                corev1.TerminationMessagePolicy
		code                  int
	}{
		{"file", "why", "log", "why", corev1.TerminationMessageReadFile, 1},
		{"no fallback", "", "log", "", corev1.TerminationMessageReadFile, 1},
		{"fallback", "", "log", "log\n", corev1.TerminationMessageFallbackToLogsOnError, 1},
		{"no fallback on success", "", "log", "", corev1.TerminationMessageFallbackToLogsOnError, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.start()
				defer func() { b.stop() }()
				b.create(webPod(func(p *corev1.Pod) {
					p.Spec.RestartPolicy = corev1.RestartPolicyNever
					p.Spec.Containers[0].TerminationMessagePolicy = test.policy
				}))
				pass(time.Second)
				spec := b.runtime.spec("c")
				for _, m := range spec.Mounts {
					if m.Target == "/dev/termination-log" {
						if err := os.WriteFile(m.Source, []byte(test.file), 0o666); err != nil {
							t.Fatal(err)
						}
					}
				}
				if err := os.WriteFile(spec.LogPath, []byte("2026-01-01T00:00:00Z stdout F "+test.log+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				b.runtime.exit(t, "c", test.code)
				pass(time.Second)
				if s := b.pod().Status.ContainerStatuses[0].State.Terminated; s == nil || s.Message != test.want {
					t.Errorf("state is %+v", s)
				}
			})
		})
	}
}
