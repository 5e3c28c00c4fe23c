package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/agent/cgroup"
)

// resizedCgroups notes what is resized, and says what is in use.
type resizedCgroups struct {
	fakeCgroups
	mu     sync.Mutex
	calls  []string
	memory uint64
}

func (f *resizedCgroups) Resize(p cgroup.Pod, changes []cgroup.Change) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	text := fmt.Sprintf("pod %d/%d", p.CPUQuota, p.MemoryLimit>>20)
	for _, c := range changes {
		text += fmt.Sprintf(", %d/%d -> %d/%d", c.Old.CPUQuota, c.Old.MemoryLimit>>20, c.New.CPUQuota, c.New.MemoryLimit>>20)
	}
	f.calls = append(f.calls, text)
	return nil
}

func (f *resizedCgroups) Usage(cgroup.Pod, string) (cgroup.Usage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return cgroup.Usage{Memory: f.memory}, nil
}

func (f *resizedCgroups) taken() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := f.calls
	f.calls = nil
	return out
}

// needs are the same requests and limits.
func needs(cpu, memory string) corev1.ResourceRequirements {
	list := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
	return corev1.ResourceRequirements{Requests: list, Limits: list.DeepCopy()}
}

// resize asks for other resources of the container, as the API's subresource does.
func (b *bench) resize(r corev1.ResourceRequirements) {
	b.Helper()
	pod := b.pod()
	pod.Generation++
	pod.Spec.Containers[0].Resources = r
	if _, err := b.client.CoreV1().Pods("default").Update(context.Background(), pod, metav1.UpdateOptions{}); err != nil {
		b.Fatal(err)
	}
	pass(2 * time.Second)
}

func (b *bench) wantResizes(g *resizedCgroups, want ...string) {
	b.Helper()
	if got := g.taken(); !slices.Equal(got, want) {
		b.Errorf("resizes\n got %q\nwant %q", got, want)
	}
}

func (b *bench) wantNoResizeConditions() {
	b.Helper()
	for _, t := range []corev1.PodConditionType{corev1.PodResizePending, corev1.PodResizeInProgress} {
		if got := condition(b.pod(), t); got != "none" {
			b.Errorf("condition %s is %q", t, got)
		}
	}
}

func TestResizeInPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &resizedCgroups{}
		b := newBench(t)
		b.cgroups = g
		b.start()
		defer func() { b.stop() }()
		b.create(webPod(func(p *corev1.Pod) { p.Spec.Containers[0].Resources = needs("100m", "64Mi") }))
		pass(time.Second)
		b.resize(needs("200m", "128Mi"))
		b.wantResizes(g, "pod 20000/128, 10000/64 -> 20000/128")
		s := b.pod().Status.ContainerStatuses[0]
		if s.RestartCount != 0 || s.AllocatedResources.Memory().Value() != 128<<20 || s.Resources.Limits.Cpu().MilliValue() != 200 {
			t.Errorf("container status is %+v", s)
		}
		if r := b.pod().Status.Resources; r == nil || r.Limits.Memory().Value() != 128<<20 || r.Requests.Cpu().MilliValue() != 200 {
			t.Errorf("the Pod's resources are %+v", r)
		}
		b.wantNoResizeConditions()
		b.wantEvent(`ResizeCompleted Pod resize completed: {"containers":[{"name":"c","resources":{"limits":{"cpu":"200m","memory":"128Mi"},"requests":{"cpu":"200m","memory":"128Mi"}}}],"generation":1}`)

		b.stop() // what is allocated stays so
		b.start()
		pass(2 * time.Second)
		b.wantResizes(g)
	})
}

func TestResizeThatDoesNotFitWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &resizedCgroups{}
		b := newBench(t)
		b.cgroups = g
		b.start()
		defer func() { b.stop() }()
		b.create(webPod(func(p *corev1.Pod) { p.Spec.Containers[0].Resources = needs("100m", "64Mi") }))
		pass(time.Second)
		cpu := amount(b.agent.machine.allocatable(), corev1.ResourceCPU)
		b.create(webPod(func(p *corev1.Pod) {
			p.Name, p.UID = "other", "other"
			p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: *resource.NewMilliQuantity(cpu-100, resource.DecimalSI)}
		}))
		pass(time.Second)
		b.resize(needs("200m", "64Mi"))
		b.wantResizes(g)
		message := fmt.Sprintf("Node didn't have enough resource: cpu, requested: 200, used: %d, capacity: %d", cpu-100, cpu)
		if got := condition(b.pod(), corev1.PodResizePending); got != "True Deferred "+message {
			t.Errorf("condition is %q", got)
		}
		if s := b.pod().Status.ContainerStatuses[0]; s.AllocatedResources.Cpu().MilliValue() != 100 {
			t.Errorf("allocated is %v", s.AllocatedResources)
		}
		if !slices.ContainsFunc(b.events(), func(e string) bool {
			return strings.HasPrefix(e, "ResizeDeferred Pod resize OutOfcpu: {") && strings.Contains(e, message)
		}) {
			t.Errorf("no event among %q", b.events())
		}

		b.stop() // the agent comes back and knows that it is not given yet
		b.start()
		pass(2 * time.Second)
		b.wantResizes(g)

		if err := b.client.CoreV1().Pods("default").Delete(context.Background(), "other", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		pass(2 * time.Second)
		b.wantResizes(g, "pod 20000/64, 10000/64 -> 20000/64")
		b.wantNoResizeConditions()
	})
}

func TestResizeByRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &resizedCgroups{}
		b := newBench(t)
		b.cgroups = g
		b.start()
		defer func() { b.stop() }()
		b.create(webPod(func(p *corev1.Pod) {
			p.Spec.RestartPolicy = corev1.RestartPolicyNever
			p.Spec.Containers[0].Resources = needs("100m", "64Mi")
			p.Spec.Containers[0].ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: corev1.ResourceMemory, RestartPolicy: corev1.RestartContainer}}
		}))
		pass(time.Second)
		b.resize(needs("200m", "64Mi"))
		b.wantResizes(g, "pod 20000/64, 10000/64 -> 20000/64")
		b.runtime.taken()
		b.resize(needs("200m", "96Mi"))
		b.wantCalls("kill c/0 15", "remove c/0", "create c/1", "start c/1")
		b.wantResizes(g, "pod 20000/96")
		b.wantEvent("Killing Container c resize requires restart")
		if limit := b.runtime.spec("c").Resources.MemoryLimit; limit != 96<<20 {
			t.Errorf("the new container's limit is %d", limit)
		}
		b.wantNoResizeConditions()
	})
}

func TestMemoryIsNotTakenFromUnderAContainer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &resizedCgroups{memory: 50 << 20}
		b := newBench(t)
		b.cgroups = g
		b.start()
		defer func() { b.stop() }()
		b.create(webPod(func(p *corev1.Pod) { p.Spec.Containers[0].Resources = needs("100m", "64Mi") }))
		pass(time.Second)
		b.resize(needs("100m", "32Mi"))
		b.wantResizes(g)
		want := fmt.Sprintf("True Error cannot decrease memory limits: [attempting to set pod memory limit (%d) below current usage (%d), "+
			`attempting to set container "c" memory limit (%d) below current usage (%d)]`, 32<<20, 50<<20, 32<<20, 50<<20)
		if got := condition(b.pod(), corev1.PodResizeInProgress); got != want {
			t.Errorf("condition is %q", got)
		}
		if s := b.pod().Status.ContainerStatuses[0]; s.AllocatedResources.Memory().Value() != 32<<20 || s.Resources.Limits.Memory().Value() != 64<<20 {
			t.Errorf("container status is %+v", s)
		}
		b.stop() // an agent that comes back knows what the container still has
		g.mu.Lock()
		g.memory = 10 << 20
		g.mu.Unlock()
		b.start()
		pass(resizeRetry)
		b.wantResizes(g, "pod 10000/32, 10000/64 -> 10000/32")
		b.wantNoResizeConditions()
	})
}

func TestWhoIsResizedFirst(t *testing.T) {
	old := time.Unix(1000, 0)
	turns := []turn{
		{more: true, name: "new", since: old.Add(time.Hour)},
		{more: true, name: "waits longer", since: old},
		{more: true, name: "guaranteed", class: -1, since: old.Add(time.Hour)},
		{more: true, name: "important", priority: 10, since: old.Add(time.Hour)},
		{name: "gives back", since: old.Add(time.Hour)},
	}
	slices.SortFunc(turns, turn.compare)
	var got []string
	for _, s := range turns {
		got = append(got, s.name)
	}
	if want := []string{"gives back", "important", "guaranteed", "waits longer", "new"}; !slices.Equal(got, want) {
		t.Errorf("the order is %q", got)
	}
}
