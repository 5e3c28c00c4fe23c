package agent

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestHandler(t *testing.T) {
	class := func(name, handler string) *nodev1.RuntimeClass {
		return &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Handler: handler}
	}
	for _, c := range []struct{ class, kept, want, problem string }{
		{class: "", want: ""},
		{class: "plain", want: ""},
		{class: "small", want: "crun"},
		{class: "small", kept: "runsc", want: "runsc"},
		{class: "gone", kept: "crun", want: "crun"},
		{class: "strange", problem: `failed to get sandbox runtime: no runtime for "strange-handler" is configured`},
		{class: "gone", problem: `failed to lookup RuntimeClass gone: runtimeclasses.node.k8s.io "gone" not found`},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, class("plain", "runc"), class("small", "crun"), class("strange", "strange-handler"))
			b.start()
			defer b.stop()
			b.agent.Handlers = []string{"crun"}
			pod := webPod(func(p *corev1.Pod) {
				if c.class != "" {
					p.Spec.RuntimeClassName = &c.class
				}
			})
			if c.kept != "" {
				mark := b.agent.boxMark(string(pod.UID))
				if err := os.MkdirAll(filepath.Dir(mark), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(mark, []byte(c.kept), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := b.agent.runtimeHandler(t.Context(), pod)
			problem := ""
			if err != nil {
				problem = err.Error()
			}
			if got != c.want || problem != c.problem {
				t.Errorf("%+v: %q %q", c, got, problem)
			}
		})
	}
}

func TestOverhead(t *testing.T) {
	pod := webPod(func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources = requirements("100m", "10Mi", "200m", "20Mi")
		p.Spec.Overhead = corev1.ResourceList{"cpu": resource.MustParse("300m"), "memory": resource.MustParse("30Mi")}
	})
	got := podCgroup(pod)
	if got.CPUShares != cpuShares(400) || got.CPUQuota != 50000 || got.MemoryLimit != 50<<20 {
		t.Errorf("the Pod's cgroup is %+v", got)
	}
	if got := containerResources(pod, &pod.Spec.Containers[0], 1<<30); got.MemoryLimit != 20<<20 {
		t.Errorf("the container's is %+v", got)
	}
}
