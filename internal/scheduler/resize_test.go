package scheduler

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// A Pod whose resources are being changed counts as the most of what it asks for,
// what it was promised and what it has; when it is over, as what it asks for.
func TestResizedPodsCountAsTheMost(t *testing.T) {
	cpu := func(q string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(q)}
	}
	pod := func(asks, promised, has string) *corev1.Pod {
		p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: cpu(asks)}}}}}
		if has != "" {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", AllocatedResources: cpu(promised), Resources: &corev1.ResourceRequirements{Requests: cpu(has)}}}
		}
		return p
	}
	tests := map[string]struct {
		pod  *corev1.Pod
		want int64
	}{
		"not on a node yet":  {pod("100m", "", ""), 100},
		"as it asks":         {pod("100m", "100m", "100m"), 100},
		"waits for more":     {pod("300m", "100m", "100m"), 300},
		"is given more":      {pod("300m", "300m", "100m"), 300},
		"has not given back": {pod("100m", "100m", "300m"), 300},
		"less not looked at": {pod("100m", "300m", "300m"), 300},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if asked, _ := requests(tt.pod); asked.cpu != tt.want {
				t.Errorf("counts as %d, not %d", asked.cpu, tt.want)
			}
		})
	}
	before, after := newPodInfo(pod("100m", "100m", "300m")), pod("100m", "100m", "100m")
	if before.same(after) {
		t.Error("what was given back is not noticed")
	}
}
