package volume

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func isHugePages(m corev1.StorageMedium) bool {
	return m == corev1.StorageMediumHugePages || strings.HasPrefix(string(m), string(corev1.StorageMediumHugePagesPrefix))
}

// pageSize is the size, in bytes, of the pages of a volume: the one that the
// medium names and the Pod asks for, or the only one that the Pod asks for.
func pageSize(m corev1.StorageMedium, pod *corev1.Pod) (int64, error) {
	wanted := int64(0)
	if text, ok := strings.CutPrefix(string(m), string(corev1.StorageMediumHugePagesPrefix)); ok {
		q, err := resource.ParseQuantity(text)
		if err != nil {
			return 0, fmt.Errorf("medium %s: %w", m, err)
		}
		wanted = q.Value()
	}
	found := int64(0)
	for _, size := range requestedPages(pod) {
		switch {
		case wanted == 0 && found != 0 && size != found:
			return 0, fmt.Errorf("medium: %s can't be used if container requests multiple huge page sizes", m)
		case wanted == 0 || size == wanted:
			found = size
		}
	}
	if found == 0 {
		return 0, fmt.Errorf("medium %s: hugePages storage requested, but there is no resource request for huge pages", m)
	}
	return found, nil
}

// requestedPages are the sizes, in bytes, of the huge pages that the Pod and
// its containers ask for.
func requestedPages(pod *corev1.Pod) []int64 {
	var sizes []int64
	add := func(requests corev1.ResourceList) {
		for name := range requests {
			text, ok := strings.CutPrefix(string(name), corev1.ResourceHugePagesPrefix)
			if size, err := resource.ParseQuantity(text); ok && err == nil {
				sizes = append(sizes, size.Value())
			}
		}
	}
	if pod.Spec.Resources != nil {
		add(pod.Spec.Resources.Requests)
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			add(list[i].Resources.Requests)
		}
	}
	return sizes
}
