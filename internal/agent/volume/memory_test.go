package volume

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestMemorySize(t *testing.T) {
	const mega = 1 << 20
	limited := func(limits ...string) *corev1.Pod {
		pod := &corev1.Pod{}
		for _, text := range limits {
			c := corev1.Container{}
			if text != "" {
				c.Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(text)}
			}
			pod.Spec.Containers = append(pod.Spec.Containers, c)
		}
		return pod
	}
	whole := limited("")
	whole.Spec.Resources = &corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("20Mi")}}
	for name, c := range map[string]struct {
		node  int64
		pod   *corev1.Pod
		limit string
		want  int64
	}{
		"the node's":          {100 * mega, limited(""), "", 100 * mega},
		"nothing known":       {0, limited(""), "", 0},
		"its own":             {100 * mega, limited(""), "5Mi", 5 * mega},
		"its own is too much": {100 * mega, limited(""), "500Mi", 100 * mega},
		"the containers'":     {100 * mega, limited("10Mi", "20Mi"), "", 30 * mega},
		"one is unlimited":    {100 * mega, limited("10Mi", ""), "", 100 * mega},
		"the Pod's":           {100 * mega, whole, "", 20 * mega},
		"least of all":        {100 * mega, limited("10Mi"), "5Mi", 5 * mega},
	} {
		s := &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}
		if c.limit != "" {
			q := resource.MustParse(c.limit)
			s.SizeLimit = &q
		}
		if got := memorySize(c.node, c.pod, s); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
