package agent

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestFits(t *testing.T) {
	list := func(pairs ...string) corev1.ResourceList {
		out := corev1.ResourceList{}
		for i := 0; i < len(pairs); i += 2 {
			out[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
		}
		return out
	}
	node := list("cpu", "2", "memory", "1Gi", "pods", "3", "ephemeral-storage", "1Gi", "example.com/foo", "2")
	tests := map[string]struct {
		others []corev1.ResourceList
		asks   corev1.ResourceList
		want   *refusal
	}{
		"nothing asked": {nil, nil, nil},
		"fits exactly":  {[]corev1.ResourceList{list("cpu", "500m")}, list("cpu", "1500m", "memory", "1Gi"), nil},
		"too much CPU": {[]corev1.ResourceList{list("cpu", "501m")}, list("cpu", "1500m"),
			&refusal{"OutOfcpu", "Node didn't have enough resource: cpu, requested: 1500, used: 501, capacity: 2000"}},
		"too much memory": {nil, list("memory", "2Gi"),
			&refusal{"OutOfmemory", "Node didn't have enough resource: memory, requested: 2147483648, used: 0, capacity: 1073741824"}},
		"too much storage": {nil, list("ephemeral-storage", "2Gi"),
			&refusal{"OutOfephemeral-storage", "Node didn't have enough resource: ephemeral-storage, requested: 2147483648, used: 0, capacity: 1073741824"}},
		"too many Pods": {[]corev1.ResourceList{nil, nil, nil}, nil,
			&refusal{"OutOfpods", "Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3"}},
		"extended": {[]corev1.ResourceList{list("example.com/foo", "1")}, list("example.com/foo", "2"),
			&refusal{"OutOfexample.com/foo", "Node didn't have enough resource: example.com/foo, requested: 2, used: 1, capacity: 2"}},
		"one that others give":     {nil, list("example.com/elsewhere", "5"), nil},
		"huge pages there are not": {nil, list("hugepages-2Mi", "2Mi"), &refusal{"OutOfhugepages-2Mi", "Node didn't have enough resource: hugepages-2Mi, requested: 2097152, used: 0, capacity: 0"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			pod := webPod(func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests = tt.asks })
			got := fits(node, tt.others, pod)
			if (got == nil) != (tt.want == nil) || got != nil && *got != *tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestCapacityKeepsWhatOthersSay(t *testing.T) {
	told := corev1.ResourceList{"scheduling.k8s.io/foo": resource.MustParse("5"), "cpu": resource.MustParse("99"), "hugepages-7Mi": resource.MustParse("7Mi")}
	got := capacity(corev1.ResourceList{"cpu": resource.MustParse("2")}, told)
	if foo := got["scheduling.k8s.io/foo"]; len(got) != 2 || got.Cpu().Value() != 2 || foo.Value() != 5 {
		t.Errorf("capacity is %v", got)
	}
}

func TestPodWithoutRoomIsRejected(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		b.create(webPod(func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Ei")}
		}))
		pass(time.Second)
		b.wantCalls()
		s := b.pod().Status
		if s.Phase != corev1.PodFailed || s.Reason != "OutOfmemory" || len(s.Message) < 60 || s.Message[:60] != "Pod was rejected: Node didn't have enough resource: memory, " {
			t.Errorf("status is %+v", s)
		}
	})
}
