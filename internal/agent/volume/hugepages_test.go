package volume

import (
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestPageSize(t *testing.T) {
	asks := func(names ...corev1.ResourceName) *corev1.Pod {
		p := pod()
		for _, name := range names {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{name: resource.MustParse("2Gi"), "memory": resource.MustParse("1Gi")},
			}})
		}
		return p
	}
	whole := asks()
	whole.Spec.Resources = &corev1.ResourceRequirements{Requests: corev1.ResourceList{"hugepages-1Gi": resource.MustParse("1Gi")}}
	for _, c := range []struct {
		medium  corev1.StorageMedium
		pod     *corev1.Pod
		want    int64
		problem string
	}{
		{medium: "HugePages", pod: asks("hugepages-2Mi"), want: 2 << 20},
		{medium: "HugePages", pod: asks("hugepages-2Mi", "hugepages-2Mi"), want: 2 << 20},
		{medium: "HugePages", pod: whole, want: 1 << 30},
		{medium: "HugePages-1Gi", pod: asks("hugepages-2Mi", "hugepages-1Gi"), want: 1 << 30},
		{
			medium: "HugePages", pod: asks("hugepages-2Mi", "hugepages-1Gi"),
			problem: "medium: HugePages can't be used if container requests multiple huge page sizes",
		},
		{
			medium: "HugePages-1Gi", pod: asks("hugepages-2Mi"),
			problem: "medium HugePages-1Gi: hugePages storage requested, but there is no resource request for huge pages",
		},
		{
			medium: "HugePages", pod: asks(),
			problem: "medium HugePages: hugePages storage requested, but there is no resource request for huge pages",
		},
	} {
		got, err := pageSize(c.medium, c.pod)
		problem := ""
		if err != nil {
			problem = err.Error()
		}
		if got != c.want || problem != c.problem {
			t.Errorf("%s: %d %q, want %d %q", c.medium, got, problem, c.want, c.problem)
		}
	}
}

func TestHugePagesVolume(t *testing.T) {
	r := newRoom(t)
	p := pod(corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumHugePages}}})
	p.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: ptr(int64(77))}
	p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{"hugepages-2Mi": resource.MustParse("2Mi")}
	dir := ""
	for range 2 { // the second time all is there
		dir = r.mount(p)["v"]
	}
	mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(dir))
	if err != nil || len(mounts) != 1 || mounts[0].FSType != "hugetlbfs" || !strings.Contains(mounts[0].VFSOptions, "pagesize=2M") {
		t.Errorf("mounts %+v, %v", mounts, err)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil || st.Gid != 77 || st.Mode&0o7777 != 0o2777 {
		t.Errorf("group %d, mode %o, %v", st.Gid, st.Mode&0o7777, err)
	}
}
