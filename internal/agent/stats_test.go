package agent

import (
	"crypto/x509/pkix"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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
		want       uint64 // millionths of a core
	}{
		{100 * time.Second, 10 * time.Second, 100_000},   // the mean since the start
		{110 * time.Second, 15 * time.Second, 500_000},   // since the last time
		{110500 * time.Millisecond, 15 * time.Second, 0}, // too short a time to forget the last
		{112 * time.Second, 17 * time.Second, 1_000_000},
		{1000 * time.Second, 20 * time.Second, 20_000}, // long ago
		{1001 * time.Second, time.Second, 999},         // another cgroup of the same name
	} {
		r.next = map[string]point{}
		got := r.of("x", start, start.Add(c.after), c.cpu)
		r.last = r.next
		if got == nil || *got/1000 != c.want {
			t.Errorf("after %s: %v, want %d", c.after, got, c.want)
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
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, []byte("line\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		w.records["c"].Current = &run{ContainerState: ContainerState{ID: "b", Phase: ContainerRunning, StartedAt: time.Now(), LogPath: path, PID: os.Getpid()}}
	}
	agent.durations.create.since(time.Now().Add(-time.Minute))
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
		len(s.Pods[0].Containers) != 1 || s.Pods[0].Network == nil || *s.Pods[0].Containers[0].Memory.AvailableBytes != 3000 || s.Pods[0].Containers[0].Logs == nil {
		t.Errorf("pods: %s", body)
	}
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
