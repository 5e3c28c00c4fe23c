package agent

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/skiff-sh/skiff/internal/agent/cgroup"
)

// hugePages is what a list has of huge pages, in bytes by the size of a page.
func hugePages(list corev1.ResourceList) map[int64]int64 {
	var out map[int64]int64
	for name, amount := range list {
		text, ok := strings.CutPrefix(string(name), corev1.ResourceHugePagesPrefix)
		if !ok {
			continue
		}
		if size, err := resource.ParseQuantity(text); err == nil {
			if out == nil {
				out = map[int64]int64{}
			}
			out[size.Value()] += amount.Value()
		}
	}
	return out
}

// containerHugePages are a container's limits: those of its Pod where it names
// none of its own.
func containerHugePages(pod *corev1.Pod, c *corev1.Container) map[int64]int64 {
	limits := corev1.ResourceList{}
	if pod.Spec.Resources != nil {
		for name, q := range pod.Spec.Resources.Limits {
			limits[name] = q
		}
	}
	for name, q := range c.Resources.Limits {
		limits[name] = q
	}
	return hugePages(limits)
}

// byPageName adds the sizes of pages that are not to be used.
func byPageName(limits map[int64]int64, sizes []int64) map[string]int64 {
	all := make(map[string]int64, len(sizes))
	for _, size := range sizes {
		all[cgroup.PageName(size)] = 0
	}
	for size, bytes := range limits {
		all[cgroup.PageName(size)] = bytes
	}
	return all
}
