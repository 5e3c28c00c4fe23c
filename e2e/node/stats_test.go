package node

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	authnv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What a Pod uses is told by the node, to those who may know.
func TestStats(t *testing.T) {
	c := shared(t)
	busy := pod("busy", "echo a line; while true; do :; done")
	busy.Spec.Containers[0].Resources.Limits = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("200m"), corev1.ResourceMemory: resource.MustParse("64Mi"),
	}
	started := c.startPod(busy)
	raw := func(path string) string {
		return c.kubectl("get", "--raw", "/api/v1/nodes/"+started.Spec.NodeName+"/proxy"+path)
	}
	type usage struct {
		CPU    struct{ UsageNanoCores, UsageCoreNanoSeconds uint64 }
		Memory struct{ WorkingSetBytes, AvailableBytes uint64 }
	}
	var summary struct {
		Node usage
		Pods []struct {
			PodRef     struct{ Name, Namespace string }
			Network    struct{ RxBytes uint64 }
			Containers []struct {
				Name string
				usage
			}
			usage
		}
	}
	c.retry(func() error {
		text := raw("/stats/summary")
		if err := json.Unmarshal([]byte(text), &summary); err != nil {
			return err
		}
		for _, p := range summary.Pods {
			if p.PodRef.Name != "busy" || p.PodRef.Namespace != c.namespace || len(p.Containers) != 1 {
				continue
			}
			in := p.Containers[0]
			// It gets a fifth of a core, and asks for a whole one.
			if in.CPU.UsageCoreNanoSeconds > 200e6 && in.CPU.UsageNanoCores > 50e6 && in.CPU.UsageNanoCores < 400e6 && p.CPU.UsageCoreNanoSeconds >= in.CPU.UsageCoreNanoSeconds &&
				in.Memory.WorkingSetBytes > 4096 && in.Memory.AvailableBytes > 32<<20 && summary.Node.Memory.WorkingSetBytes > in.Memory.WorkingSetBytes {
				return nil
			}
		}
		return fmt.Errorf("summary: %s", text)
	})
	of := fmt.Sprintf(`{container="main",namespace="%s",pod="busy"} `, c.namespace)
	c.mustContain(raw("/metrics/resource"), "container_cpu_usage_seconds_total"+of, "container_memory_working_set_bytes"+of, "\nnode_cpu_usage_seconds_total ")
	c.mustContain(raw("/metrics/cadvisor"), "container_cpu_cfs_throttled_periods_total{", "container_network_receive_bytes_total{")
	c.mustContain(raw("/metrics"), "kubelet_running_pods ")
	c.mustContain(raw("/configz"), `"kubeletconfig"`)

	t.Log("who comes with a token is asked for at the API server")
	token, err := c.client.CoreV1().ServiceAccounts(c.namespace).CreateToken(c.ctx, "default", &authnv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for given, want := range map[string]int{"": http.StatusUnauthorized, "nonsense": http.StatusUnauthorized, token.Status.Token: http.StatusForbidden} {
		r, err := http.NewRequestWithContext(c.ctx, http.MethodGet, "https://"+nodeAddress+":10250/metrics/resource", nil)
		if err != nil {
			t.Fatal(err)
		}
		if given != "" {
			r.Header.Set("Authorization", "Bearer "+given)
		}
		web := c.httpClient()
		web.Transport.(*http.Transport).TLSClientConfig = &tls.Config{InsecureSkipVerify: true} // who the node is does not matter here
		answer, err := web.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("with %q: %s, want %d", strings.TrimSpace(given), answer.Status, want)
		}
	}
}
