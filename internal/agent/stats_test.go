package agent

import (
	"crypto/x509/pkix"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/agent/cgroup"
)

func TestMachineUsage(t *testing.T) {
	u, boot := machineUsage("cpu  100 10 200 9999 50 5 6 7 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\nbtime 1790000000\n", "nr_free_pages 1\npgfault 70\npgmajfault 3\n")
	if u.CPU != 3280*time.Millisecond || u.Faults != 70 || u.MajorFaults != 3 || boot.Unix() != 1790000000 {
		t.Errorf("%+v, %s", u, boot)
	}
}

func TestLinks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dev")
	text := "Inter-|   Receive                            |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n" +
		"    lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n  eth0:1000 10 1 2 0 0 0 0 2000 20 3 4 0 0 0 0\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	want := []linkStats{{"eth0", 1000, 2000, 10, 20, 1, 3, 2, 4}}
	if diff := cmp.Diff(want, links(path)); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

func TestRates(t *testing.T) {
	start := time.Unix(1000, 0)
	r := &rates{}
	for _, c := range []struct {
		after, cpu time.Duration
		want       uint64 // thousandths of a core
	}{
		{100 * time.Second, 10 * time.Second, 100},                 // the mean since the start
		{100500 * time.Millisecond, 10500 * time.Millisecond, 104}, // too short a time since the first
		{102 * time.Second, 12 * time.Second, 1000},                // since the first
		{110 * time.Second, 15 * time.Second, 500},                 // since the first, a window ago
		{112 * time.Second, 17 * time.Second, 583},                 // still that
		{122 * time.Second, 17 * time.Second, 166},                 // since 110
		{1000 * time.Second, 17 * time.Second, 0},                  // long ago
		{1001 * time.Second, time.Second, 0},                       // another cgroup of the same name
	} {
		r.next = map[string]course{}
		got := r.of("x", start, start.Add(c.after), c.cpu)
		r.last = r.next
		if got == nil || *got/1e6 != c.want {
			t.Errorf("after %s: %v, want %d", c.after, got, c.want)
		}
	}
}

// Who asks every second does not make what another is told a second's chance.
func TestRatesOfManyAskers(t *testing.T) {
	start := time.Unix(1000, 0)
	r := &rates{}
	for second := range 120 {
		// A second's work every five seconds.
		cpu := time.Duration(second/5) * time.Second
		var answers [2]uint64
		for asker := range answers {
			r.next = map[string]course{}
			if rate := r.of("x", start, start.Add(time.Duration(second)*time.Second), cpu); rate != nil {
				answers[asker] = *rate
			}
			r.last = r.next
		}
		if answers[0] != answers[1] || second > 30 && (answers[0] < 140e6 || answers[0] > 260e6) {
			t.Errorf("second %d: %v", second, answers)
		}
	}
}

// usedCgroups are those of Pods that use something.
type usedCgroups struct{ fakeCgroups }

func (usedCgroups) Usage(_ cgroup.Pod, container string) (cgroup.Usage, error) {
	if container != "" {
		return cgroup.Usage{CPU: time.Second, Memory: 2000, WorkingSet: 1000, MemoryLimit: 4000}, nil
	}
	return cgroup.Usage{CPU: 2 * time.Second, Memory: 3000, WorkingSet: 1500, Processes: 3}, nil
}

func TestSummaryAndMetrics(t *testing.T) {
	var agent *Agent
	server, ca := nodeAPI(t, func(a *Agent) { agent, a.Cgroups = a, usedCgroups{} })
	for _, w := range agent.allWorkers() {
		w.pod.Spec.Volumes = []corev1.Volume{
			{Name: "text", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{}}},
			{Name: "disk", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{}}},
		}
		w.box.Volumes = map[string]string{"text": t.TempDir(), "disk": t.TempDir(), "host": t.TempDir()}
		if err := os.WriteFile(filepath.Join(w.box.Volumes["disk"], "file"), make([]byte, 100<<10), 0o600); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, []byte("line\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		w.records["c"].Current = &run{ContainerState: ContainerState{ID: "b", Phase: ContainerRunning, StartedAt: time.Now(), LogPath: path, PID: os.Getpid()}}
	}
	observe(agent.durations.create, time.Now().Add(-time.Minute))
	api := ca.client(t, pkix.Name{CommonName: apiServerClient})
	status, body := get(t, server, &api, "/stats/summary")
	var s summary
	if err := json.Unmarshal([]byte(body), &s); err != nil || status != 200 {
		t.Fatalf("%d %s: %v", status, body, err)
	}
	if s.Node.NodeName != "n1" || s.Node.CPU.UsageCoreNanoSeconds == 0 || s.Node.Memory.WorkingSetBytes == 0 || *s.Node.FS.CapacityBytes == 0 {
		t.Errorf("node: %s", body)
	}
	if len(s.Pods) != 1 || s.Pods[0].PodRef.Name != "web" || s.Pods[0].CPU.UsageCoreNanoSeconds != 2e9 || s.Pods[0].Memory.WorkingSetBytes != 1500 ||
		len(s.Pods[0].Containers) != 1 || s.Pods[0].Network == nil || *s.Pods[0].Containers[0].Memory.AvailableBytes != 3000 {
		t.Errorf("pods: %s", body)
	}
	wantDisks(t, s.Pods[0])
	if _, body := get(t, server, &api, "/stats/summary?only_cpu_and_memory=true"); strings.Contains(body, `"fs"`) || strings.Contains(body, `"logs"`) {
		t.Errorf("only CPU and memory: %s", body)
	}
	for path, want := range map[string][]string{
		"/metrics": {`kubelet_node_name{node="n1"} 1`, "kubelet_running_pods 1", `kubelet_running_containers{container_state="running"} 1`, "process_cpu_seconds_total",
			`kubelet_runtime_operations_duration_seconds_bucket{operation_type="create_container",le="47.6837158203125"} 0`,
			`kubelet_runtime_operations_duration_seconds_bucket{operation_type="create_container",le="+Inf"} 1`},
		"/metrics/resource": {
			"resource_scrape_error 0\n", "\nnode_cpu_usage_seconds_total ", `pod_memory_working_set_bytes{namespace="default",pod="web"} 1500 `,
			`container_cpu_usage_seconds_total{container="c",namespace="default",pod="web"} 1 `, `container_start_time_seconds{container="c"`,
		},
		"/metrics/cadvisor": {
			"machine_memory_bytes{", `container_memory_working_set_bytes{container="c",id="/kubepods/pod`, `container_processes{container="",id="/kubepods/pod`,
			`container_cpu_usage_seconds_total{container="",cpu="total",id="/",`, "container_network_receive_bytes_total{",
		},
		"/configz": {`"kubeletconfig":{`, `"maxPods":110`},
	} {
		status, body := get(t, server, &api, path)
		for _, text := range want {
			if status != 200 || !strings.Contains(body, text) {
				t.Errorf("%s: %d: no %q in\n%s", path, status, text, body)
			}
		}
	}
}

// wantDisks wants what the Pod of the test takes: two files of its layer, a line in its
// log and two volumes that are its own.
func wantDisks(t *testing.T, p podSummary) {
	t.Helper()
	c := p.Containers[0]
	if c.RootFS == nil || c.RootFS.UsedBytes != 8192 || *c.RootFS.InodesUsed != 2 || *c.RootFS.CapacityBytes == 0 {
		t.Errorf("root file system: %+v", c.RootFS)
	}
	if c.Logs == nil || c.Logs.UsedBytes != 4096 || *c.Logs.InodesUsed != 1 || *c.Logs.AvailableBytes == 0 {
		t.Errorf("logs: %+v", c.Logs)
	}
	var names []string
	for _, v := range p.Volumes {
		names = append(names, v.Name)
	}
	if !slices.Equal(names, []string{"disk", "text"}) || p.Volumes[0].UsedBytes < 100<<10 || *p.Volumes[0].Inodes == 0 {
		t.Fatalf("volumes %q: %+v", names, p.Volumes)
	}
	want := 8192 + 4096 + p.Volumes[0].UsedBytes + p.Volumes[1].UsedBytes
	if p.EphemeralStorage == nil || p.EphemeralStorage.UsedBytes != want {
		t.Errorf("ephemeral storage: %+v, want %d bytes", p.EphemeralStorage, want)
	}
}
