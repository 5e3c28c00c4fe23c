package admission_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/admission"
	"github.com/skiff-sh/skiff/internal/kind"
)

func list(cpu, memory string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
}

func TestResize(t *testing.T) {
	node := func(name, os string, features ...string) *corev1.Node {
		return &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelOSStable: os}},
			Status:     corev1.NodeStatus{Allocatable: list("2", "2Gi"), DeclaredFeatures: features},
		}
	}
	s := world(t, node("linux", "linux"), node("able", "linux", "InPlacePodLevelResourcesVerticalScaling", "InPlacePodVerticalScalingInitContainers"), node("windows", "windows"))
	main := func(cpu, memory string) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests = list(cpu, memory) }
	}
	first := func(p *corev1.Pod) { p.Spec.InitContainers[0].Resources.Requests = list("1", "1Gi") }
	whole := func(p *corev1.Pod) { p.Spec.Resources = &corev1.ResourceRequirements{Requests: list("1", "1Gi")} }
	sidecar := func(p *corev1.Pod) { p.Spec.InitContainers[0].RestartPolicy = new(corev1.ContainerRestartPolicyAlways) }
	for _, c := range []struct {
		name, node  string
		old, change func(*corev1.Pod)
		want, cause string
	}{
		{"no node yet", "", nil, main("9", "9Gi"), "", ""},
		{"enough", "linux", nil, main("2", "2Gi"), "", ""},
		{"too much", "linux", nil, main("3", "3Gi"),
			`pods "p" is forbidden: node didn't have enough allocatable resources: cpu, requested: 3000, allocatable: 2000; memory, requested: 3221225472, allocatable: 2147483648`, "NodeCapacity"},
		{"not Linux", "windows", nil, main("1", "1Gi"), `pod resize is only supported on linux nodes, node "windows" is "windows"`, "UnsupportedPlatform"},
		{"node gone", "gone", nil, main("1", "1Gi"), `node "gone" not found`, ""},
		{"nothing new", "gone", nil, func(*corev1.Pod) {}, "", ""},
		{"init container", "linux", nil, first, `pod update requires features InPlacePodVerticalScalingInitContainers which are not available on node "linux"`, ""},
		{"sidecar", "linux", sidecar, first, "", ""},
		{"whole Pod", "linux", nil, func(p *corev1.Pod) { first(p); whole(p) },
			`requires features InPlacePodLevelResourcesVerticalScaling, InPlacePodVerticalScalingInitContainers which`, ""},
		{"able node", "able", nil, func(p *corev1.Pod) { first(p); whole(p) }, "", ""},
		{"whole Pod, node gone", "gone", nil, whole, `node "gone" not found`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			old := pod(func(p *corev1.Pod) { p.Spec.NodeName = c.node })
			if c.old != nil {
				c.old(old)
			}
			p := old.DeepCopy()
			c.change(p)
			if !apiequal(p, old) {
				p.Generation++
			}
			err := admit(s, &admission.Request{Operation: admission.Update, Kind: kind.Pod, Subresource: "resize", Object: p, Old: old})
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantForbidden(t, err, c.want)
			status, _ := err.(apierrors.APIStatus)
			var causes string
			if status != nil {
				for _, cause := range status.Status().Details.Causes {
					causes += string(cause.Type)
				}
			}
			if causes != c.cause {
				t.Errorf("causes %q, want %q", causes, c.cause)
			}
		})
	}
}

func apiequal(a, b *corev1.Pod) bool { return a.Spec.String() == b.Spec.String() }
