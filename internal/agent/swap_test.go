package agent

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/skiff-sh/skiff/internal/config"
)

// withMemory has a container ask for some memory and limits it; "" is for nothing.
func withMemory(asks, most string, change ...func(*corev1.Pod)) *corev1.Pod {
	list := func(text string) corev1.ResourceList {
		if text == "" {
			return nil
		}
		return corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(text)}
	}
	pod := webPod(func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: list(asks), Limits: list(most)}
	})
	for _, c := range change {
		c(pod)
	}
	return pod
}

func TestSwapOf(t *testing.T) {
	critical := func(p *corev1.Pod) { p.Spec.Priority = new(int32(systemCritical)) }
	guaranteed := func(p *corev1.Pod) {
		for _, l := range []corev1.ResourceList{p.Spec.Containers[0].Resources.Requests, p.Spec.Containers[0].Resources.Limits} {
			l[corev1.ResourceCPU] = resource.MustParse("1")
		}
	}
	const gib = 1 << 30
	tests := map[string]struct {
		behavior string
		shares   bool
		pod      *corev1.Pod
		want     int64
	}{
		"its share":                 {config.LimitedSwap, true, withMemory("2Gi", ""), gib},
		"its share below a limit":   {config.LimitedSwap, true, withMemory("1Gi", "4Gi"), gib / 2},
		"by default":                {"", true, withMemory("2Gi", ""), 0},
		"none":                      {config.NoSwap, true, withMemory("2Gi", ""), 0},
		"cgroups that cannot":       {config.LimitedSwap, false, withMemory("2Gi", ""), 0},
		"one that asks for nothing": {config.LimitedSwap, true, withMemory("", ""), 0},
		"all that it may use":       {config.LimitedSwap, true, withMemory("2Gi", "2Gi"), 0},
		"guaranteed":                {config.LimitedSwap, true, withMemory("2Gi", "2Gi", guaranteed), 0},
		"critical":                  {config.LimitedSwap, true, withMemory("2Gi", "", critical), 0},
		"more than there is":        {config.LimitedSwap, true, withMemory("20Gi", ""), 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a := &Agent{Config: Config{Kubelet: config.Kubelet{Swap: config.Swap{Behavior: tt.behavior}}}, machine: Description{
				SharesSwap: tt.shares, Info: corev1.NodeSystemInfo{Swap: &corev1.NodeSwapStatus{Capacity: new(int64(4 * gib))}},
				Capacity: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("8Gi")},
			}}
			if got := a.swapOf(tt.pod, &tt.pod.Spec.Containers[0]); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

func TestKeepsSwap(t *testing.T) {
	restart := func(p *corev1.Pod) {
		p.Spec.Containers[0].ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: corev1.ResourceMemory, RestartPolicy: corev1.RestartContainer}}
	}
	tests := map[string]struct {
		asked, had *corev1.Pod
		refused    bool
	}{
		"the same":             {withMemory("1Gi", ""), withMemory("1Gi", ""), false},
		"more":                 {withMemory("2Gi", ""), withMemory("1Gi", ""), true},
		"another limit":        {withMemory("1Gi", "2Gi"), withMemory("1Gi", "3Gi"), false},
		"up to the limit":      {withMemory("2Gi", "2Gi"), withMemory("1Gi", "2Gi"), true},
		"without swap":         {withMemory("2Gi", "2Gi"), withMemory("1Gi", "1Gi"), false},
		"one that starts anew": {withMemory("2Gi", "", restart), withMemory("1Gi", "", restart), false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := keepsSwap(tt.asked, tt.had); (got != nil) != tt.refused || got != nil && got.Reason != "Infeasible" {
				t.Errorf("got %+v", got)
			}
		})
	}
}
