package node

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// needs are the same requests and limits.
func needs(cpu, memory string) corev1.ResourceRequirements {
	list := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
	return corev1.ResourceRequirements{Requests: list, Limits: list.DeepCopy()}
}

// resize asks for other resources of the Pod's first container.
func (c *cluster) resize(name string, r corev1.ResourceRequirements) {
	c.t.Helper()
	c.retry(func() error { // the node may tell something at the same time
		p, err := c.pods().Get(c.ctx, name, metav1.GetOptions{})
		if err == nil {
			p.Spec.Containers[0].Resources = r
			_, err = c.pods().UpdateResize(c.ctx, name, p, metav1.UpdateOptions{})
		}
		return err
	})
}

// resized says whether the Pod has what it asks for.
func resized(p *corev1.Pod) bool {
	s := mainStatus(p)
	return p.Status.ObservedGeneration == p.Generation && podReady(p) && s.Resources != nil &&
		podCondition(p, corev1.PodResizePending) == "" && podCondition(p, corev1.PodResizeInProgress) == "" &&
		s.Resources.Requests.Cpu().Equal(*p.Spec.Containers[0].Resources.Requests.Cpu()) &&
		s.Resources.Limits.Memory().Equal(*p.Spec.Containers[0].Resources.Limits.Memory())
}

// memoryLimits are those of the Pod's cgroup and of the containers' in it.
func (c *cluster) memoryLimits(p *corev1.Pod) []string {
	c.t.Helper()
	points, err := cgroupMounts()
	if err != nil {
		c.t.Fatal(err)
	}
	var found []string
	for _, point := range points {
		for _, file := range []string{"memory.limit_in_bytes", "memory.max"} {
			for _, pattern := range []string{"pod" + string(p.UID), "*/pod" + string(p.UID), "pod" + string(p.UID) + "/*", "*/pod" + string(p.UID) + "/*"} {
				paths, _ := filepath.Glob(filepath.Join(point, c.host.CgroupRoot, pattern, file))
				for _, path := range paths {
					data, err := os.ReadFile(path)
					if err != nil {
						c.t.Fatal(err)
					}
					found = append(found, strings.TrimSpace(string(data)))
				}
			}
		}
	}
	return found
}

func (c *cluster) mustLimit(p *corev1.Pod, bytes int) {
	c.t.Helper()
	want := []string{fmt.Sprint(bytes), fmt.Sprint(bytes)}
	if got := c.memoryLimits(p); !slices.Equal(got, want) {
		c.t.Errorf("memory limits of the Pod and its container are %q, want %q", got, want)
	}
}

func TestResizeInPlace(t *testing.T) {
	c := shared(t)
	p := pod("grows", "sleep 1000")
	p.Spec.Containers[0].Resources = needs("20m", "32Mi")
	p = c.startPod(p)
	id := mainStatus(p).ContainerID
	c.mustLimit(p, 32<<20)
	for _, step := range []struct {
		cpu, memory string
		bytes       int
	}{{"40m", "64Mi", 64 << 20}, {"30m", "48Mi", 48 << 20}} {
		c.resize("grows", needs(step.cpu, step.memory))
		p = c.awaitPod("grows", resized)
		c.mustLimit(p, step.bytes)
	}
	if s := mainStatus(p); s.ContainerID != id || s.RestartCount != 0 {
		t.Errorf("the container was restarted: %+v", s)
	}
	c.awaitEvent("grows", "ResizeStarted", "Pod resize started: ")
	c.awaitEvent("grows", "ResizeCompleted", `"generation":3`)
}

func TestResizeWithRestart(t *testing.T) {
	c := shared(t)
	p := pod("again", "sleep 1000")
	p.Spec.Containers[0].Resources = needs("20m", "32Mi")
	p.Spec.Containers[0].ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: corev1.ResourceMemory, RestartPolicy: corev1.RestartContainer}}
	p = c.startPod(p)
	c.resize("again", needs("20m", "48Mi"))
	p = c.awaitPod("again", func(p *corev1.Pod) bool { return resized(p) && mainStatus(p).RestartCount == 1 })
	c.mustLimit(p, 48<<20)
	c.awaitEvent("again", "Killing", "Container main resize requires restart")
}

func TestResizeThatWaits(t *testing.T) {
	c := shared(t)
	asks := func(mebibytes int64) corev1.ResourceRequirements {
		return corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceMemory: *resource.NewQuantity(mebibytes<<20, resource.BinarySI)}}
	}
	nodes, err := c.client.CoreV1().Nodes().List(c.ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	all := nodes.Items[0].Status.Allocatable.Memory().Value() >> 20 // MiB
	most := pod("most", "sleep 1000")
	most.Spec.Containers[0].Resources = asks(all * 6 / 10)
	c.startPod(most)
	p := pod("wants", "sleep 1000")
	p.Spec.Containers[0].Resources = asks(16)
	c.startPod(p)
	c.resize("wants", asks(all*5/10))
	p = c.awaitPod("wants", func(p *corev1.Pod) bool { return podCondition(p, corev1.PodResizePending) == corev1.ConditionTrue })
	i := slices.IndexFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodResizePending })
	if got := p.Status.Conditions[i]; got.Reason != corev1.PodReasonDeferred || !strings.HasPrefix(got.Message, "Node didn't have enough resource: memory, requested: ") || got.ObservedGeneration != 2 {
		t.Errorf("condition is %+v", got)
	}
	c.awaitEvent("wants", "ResizeDeferred", "Pod resize OutOfmemory: ")
	if err := c.pods().Delete(c.ctx, "most", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.awaitPod("wants", func(p *corev1.Pod) bool {
		return resized(p) && allocatedMemory(p) == all*5/10<<20
	})
}

func allocatedMemory(p *corev1.Pod) int64 {
	q := mainStatus(p).AllocatedResources[corev1.ResourceMemory]
	return q.Value()
}

func TestMemoryInUseIsNotTaken(t *testing.T) {
	c := shared(t)
	p := pod("full", "head -c 40000000 /dev/zero >/dev/shm/x; sleep 1000")
	p.Spec.Containers[0].Resources = needs("50m", "96Mi")
	p = c.startPod(p)
	c.retry(func() error {
		out, err := c.try("exec", "full", "--", "stat", "-c", "%s", "/dev/shm/x")
		if err == nil && strings.TrimSpace(out) != "40000000" {
			err = fmt.Errorf("%s bytes", out)
		}
		return err
	})
	c.resize("full", needs("50m", "16Mi"))
	c.awaitEvent("full", "ResizeError", "cannot decrease memory limits: ")
	c.mustLimit(p, 96<<20)
	c.resize("full", needs("50m", "80Mi"))
	c.mustLimit(c.awaitPod("full", resized), 80<<20)
}

// What a client says a node has of a resource of its own stays, and is Pods' to ask
// for.
func TestExtendedResources(t *testing.T) {
	c := shared(t)
	nodes := c.client.CoreV1().Nodes()
	list, err := nodes.List(c.ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	name := list.Items[0].Name
	patch := `{"status":{"capacity":{"example.com/foo":"2"}}}`
	if _, err := nodes.Patch(c.ctx, name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	c.retry(func() error {
		node, err := nodes.Get(c.ctx, name, metav1.GetOptions{})
		if foo := node.Status.Allocatable["example.com/foo"]; err == nil && foo.Value() != 2 {
			err = fmt.Errorf("allocatable is %v", node.Status.Allocatable)
		}
		return err
	})
	foo := func(name, amount string) *corev1.Pod {
		p := pod(name, "sleep 1000")
		list := corev1.ResourceList{"example.com/foo": resource.MustParse(amount)}
		p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: list, Limits: list}
		return p
	}
	c.startPod(foo("fits", "1"))
	c.create(foo("waits", "2"))
	c.awaitPod("waits", unschedulable)
	direct := foo("direct", "2")
	direct.Spec.NodeName = name
	c.create(direct)
	p := c.awaitPod("direct", podEnded)
	want := "Pod was rejected: Node didn't have enough resource: example.com/foo, requested: 2, used: 1, capacity: 2"
	if p.Status.Reason != "OutOfexample.com/foo" || p.Status.Message != want {
		t.Errorf("status is %s %q", p.Status.Reason, p.Status.Message)
	}
}
