package agent

import (
	"maps"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestHugePages(t *testing.T) {
	pages := func(small, large string) corev1.ResourceRequirements {
		list := corev1.ResourceList{"cpu": resource.MustParse("1")}
		for name, text := range map[corev1.ResourceName]string{"hugepages-2Mi": small, "hugepages-1Gi": large} {
			if text != "" {
				list[name] = resource.MustParse(text)
			}
		}
		return corev1.ResourceRequirements{Limits: list, Requests: list}
	}
	pod := webPod(func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources = pages("4Mi", "")
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "d", Resources: pages("2Mi", "1Gi")})
	})
	check := func(what string, got, want map[int64]int64) {
		t.Helper()
		if !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	check("the first", containerHugePages(pod, &pod.Spec.Containers[0]), map[int64]int64{2 << 20: 4 << 20})
	check("the Pod", podCgroup(pod).HugePages, map[int64]int64{2 << 20: 6 << 20, 1 << 30: 1 << 30})
	whole := pages("8Mi", "2Gi")
	pod.Spec.Resources = &whole
	check("the first in a Pod with limits", containerHugePages(pod, &pod.Spec.Containers[0]), map[int64]int64{2 << 20: 4 << 20, 1 << 30: 2 << 30})
	check("the Pod by its own words", podCgroup(pod).HugePages, map[int64]int64{2 << 20: 8 << 20, 1 << 30: 2 << 30})
}

func TestPageNames(t *testing.T) {
	got := byPageName(map[int64]int64{2 << 20: 4 << 20}, []int64{2 << 20, 1 << 30})
	if len(got) != 2 || got["2MB"] != 4<<20 || got["1GB"] != 0 {
		t.Errorf("%v", got)
	}
}
