package hollow_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/skiff-sh/skiff/internal/hollow"
	"github.com/skiff-sh/skiff/internal/local"
)

const count = 20

// Twenty nodes are nodes like any other to their server: Pods become Ready on them
// and go, they are the same after a restart, and their names are theirs.
func TestHollowNodes(t *testing.T) {
	p := startPlane(t)
	dir := t.TempDir()
	stop := p.startNodes(t, dir, count, zap.NewNop())
	nodes := p.awaitNodes(t, count)
	ranges := map[string]netip.Prefix{}
	for name, node := range nodes {
		ranges[name] = netip.MustParsePrefix(node.Spec.PodCIDR)
		if node.Status.Addresses[0].Address == nodes["hollow-0"].Status.Addresses[0].Address && name != "hollow-0" {
			t.Errorf("%s has the address of another", name)
		}
	}
	p.createPods(t, 100)
	before := p.awaitPods(t, 100)
	seen, on := map[string]bool{}, map[string]bool{}
	for name, pod := range before {
		address := netip.MustParseAddr(pod.Status.PodIP)
		if !ranges[pod.Spec.NodeName].Contains(address) || seen[pod.Status.PodIP] {
			t.Errorf("pod %s on %s has the address %s", name, pod.Spec.NodeName, address)
		}
		seen[pod.Status.PodIP], on[pod.Spec.NodeName] = true, true
	}
	if len(on) != count {
		t.Errorf("the Pods are on %d nodes", len(on))
	}
	p.wantLog(t, "pod-7")
	wantUntouched(t, dir)
	stop()

	restarted := metav1.NowMicro()
	stop = p.startNodes(t, dir, count, zap.NewNop())
	p.awaitLeases(t, count, restarted)
	p.wantLog(t, "pod-7") // through the tunnel
	for name, pod := range p.awaitPods(t, 100) {
		if was := before[name]; pod.ResourceVersion != was.ResourceVersion {
			t.Errorf("pod %s was changed by the restart:\n%+v\n%+v", name, was.Status, pod.Status)
		}
	}
	if requests, err := p.client.CertificatesV1().CertificateSigningRequests().List(t.Context(), metav1.ListOptions{}); err != nil || len(requests.Items) != 2*count {
		t.Errorf("%d certificates were asked for, %v", len(requests.Items), err)
	}

	taken := make(chan string, 10*count)
	p.startNodes(t, t.TempDir(), count+1, following(zapcore.WarnLevel, func(_ string, fields map[string]any) {
		if text, _ := fields["error"].(string); strings.Contains(text, "another machine") {
			taken <- fields["node"].(string)
		}
	})) // one more, and no name but its is free
	if nodes := p.awaitNodes(t, count+1); nodes["hollow-20"] == nil {
		t.Errorf("nodes %v", nodes)
	}
	for names := map[string]bool{}; len(names) < count; {
		select {
		case name := <-taken:
			names[name] = true
		case <-time.After(20 * time.Second):
			t.Fatalf("only %v say that their names are taken", names)
		}
	}

	if err := p.client.CoreV1().Pods("default").DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	p.awaitPods(t, 0)
	stop()
}

// noSuchPath is what a real node would make.
const noSuchPath = "/there/is/no/such/directory"

// wantUntouched checks that nothing is mounted, and nothing made elsewhere.
func wantUntouched(t *testing.T, dir string) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), dir) {
		t.Errorf("there are mounts below %s (%v)", dir, err)
	}
	if _, err := os.Stat(noSuchPath); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: %v", noSuchPath, err)
	}
}

// createPods makes Pods that use what a hollow node has to do without: other
// containers' ends, probes, hooks, volumes of all sorts.
func (p *plane) createPods(t *testing.T, n int) {
	t.Helper()
	always := intstr.FromInt32(80)
	pod := &corev1.Pod{Spec: corev1.PodSpec{
		InitContainers: []corev1.Container{{Name: "first", Image: "setup"}},
		Containers: []corev1.Container{{
			Name: "main", Image: "registry.example/app:1",
			StartupProbe:   &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}}},
			ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: always}}},
			LivenessProbe:  &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: always}}},
			Lifecycle:      &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{Port: always}}},
			VolumeMounts: []corev1.VolumeMount{
				{Name: "memory", MountPath: "/memory", SubPath: "below"}, {Name: "host", MountPath: "/host"}, {Name: "map", MountPath: "/map"},
			},
		}},
		SecurityContext: &corev1.PodSecurityContext{FSGroup: new(int64(2000))},
		Volumes: []corev1.Volume{
			{Name: "memory", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}},
			{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: noSuchPath, Type: new(corev1.HostPathDirectoryOrCreate)}}},
			{Name: "map", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"}}}},
		},
	}}
	p.awaitAccount(t)
	for i := range n {
		pod.Name = fmt.Sprintf("pod-%d", i)
		if _, err := p.client.CoreV1().Pods("default").Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// awaitNodes waits until there are so many nodes that are Ready and have a range.
func (p *plane) awaitNodes(t *testing.T, n int) map[string]*corev1.Node {
	t.Helper()
	return await(t, p.client.CoreV1().Nodes().Watch, n, func(node *corev1.Node) bool {
		for _, c := range node.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
				return node.Spec.PodCIDR != ""
			}
		}
		return false
	})
}

func (p *plane) awaitPods(t *testing.T, n int) map[string]*corev1.Pod {
	t.Helper()
	return await(t, p.client.CoreV1().Pods("default").Watch, n, func(pod *corev1.Pod) bool {
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
				return pod.Status.Phase == corev1.PodRunning
			}
		}
		return false
	})
}

func (p *plane) awaitLeases(t *testing.T, n int, since metav1.MicroTime) {
	t.Helper()
	await(t, p.client.CoordinationV1().Leases("kube-node-lease").Watch, n, func(l *coordinationv1.Lease) bool {
		return l.Spec.RenewTime.After(since.Time)
	})
}

func (p *plane) awaitAccount(t *testing.T) {
	t.Helper()
	await(t, p.client.CoreV1().ServiceAccounts("default").Watch, 1, func(*corev1.ServiceAccount) bool { return true })
	await(t, p.client.CoreV1().ConfigMaps("default").Watch, 1, func(*corev1.ConfigMap) bool { return true })
}

func (p *plane) wantLog(t *testing.T, pod string) {
	t.Helper()
	log, err := p.client.CoreV1().Pods("default").GetLogs(pod, &corev1.PodLogOptions{Container: "main"}).DoRaw(t.Context())
	if want := "hollow container main of default/" + pod + ", attempt 0\n"; err != nil || string(log) != want {
		t.Errorf("the log is %q, %v", log, err)
	}
}

// What the process costs is told while it runs, and nobody else runs on its
// directory.
func TestStatus(t *testing.T) {
	p := startPlane(t)
	dir := t.TempDir()
	p.startNodes(t, dir, 1, zap.NewNop())
	p.awaitNodes(t, 1)
	answer, err := local.NewClient(hollow.Socket(dir)).Ask(t.Context(), "GET", "/status", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || !strings.Contains(string(text), `"Nodes":1,"Joined":1,"Goroutines":`) {
		t.Errorf("%s, %v", text, err)
	}
	settings := p.settingsOf(t, dir, 1)
	err = hollow.Run(context.Background(), settings, zap.NewNop())
	if err == nil || !strings.Contains(err.Error(), "runs the hollow nodes of "+dir+": stop it, or choose another --data-dir") {
		t.Errorf("a second process: %v", err)
	}
}

// Where joining cannot come to anything, all ends with what to do.
func TestWrongToken(t *testing.T) {
	p := startPlane(t)
	settings := p.settingsOf(t, t.TempDir(), 3)
	settings.Token = settings.Token[:len(settings.Token)-1] + "x"
	err := hollow.Run(t.Context(), settings, zap.NewNop())
	if err == nil || !strings.Contains(err.Error(), "the server does not take the token") {
		t.Errorf("got %v", err)
	}
}
