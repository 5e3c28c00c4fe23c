package kind

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/randfill"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden files anew")

// newPod is a Pod as it is after defaulting, with changes made to it before.
func newPod(changes ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default", UID: types.UID("u1"), ResourceVersion: "7"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "nginx:1.27"}}},
	}
	for _, change := range changes {
		change(pod)
	}
	defaultPod(pod)
	return pod
}

// golden compares text with testdata/NAME.
func golden(t *testing.T, name, text string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func TestPodDefaults(t *testing.T) {
	files, err := filepath.Glob("testdata/pod-*.in.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no manifests: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			pod := &corev1.Pod{}
			if err := yaml.UnmarshalStrict(text, pod); err != nil {
				t.Fatal(err)
			}
			Pod.Default(pod)
			again := pod.DeepCopy()
			Pod.Default(again)
			if diff := cmp.Diff(pod, again); diff != "" {
				t.Errorf("a second defaulting changed (-first +second):\n%s", diff)
			}
			Pod.PrepareCreate(pod)
			sameErrors(t, Pod.Validate(pod))
			out, err := yaml.Marshal(pod)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, strings.Replace(filepath.Base(file), ".in.", ".out.", 1), string(out))
		})
	}
}

func TestDefaultPullPolicy(t *testing.T) {
	for image, want := range map[string]corev1.PullPolicy{
		"nginx":                      corev1.PullAlways,
		"nginx:latest":               corev1.PullAlways,
		"registry.example:5000/a":    corev1.PullAlways,
		"nginx:1.27":                 corev1.PullIfNotPresent,
		"registry.example:5000/a:v1": corev1.PullIfNotPresent,
		"nginx@sha256:0000000000000000000000000000000000000000000000000000000000000000": corev1.PullIfNotPresent,
		"Not A Name": corev1.PullIfNotPresent,
	} {
		if got := defaultPullPolicy(image); got != want {
			t.Errorf("%s: %s, want %s", image, got, want)
		}
	}
}

func TestQOSClass(t *testing.T) {
	list := func(cpu, memory string) corev1.ResourceList {
		l := corev1.ResourceList{}
		if cpu != "" {
			l[corev1.ResourceCPU] = resource.MustParse(cpu)
		}
		if memory != "" {
			l[corev1.ResourceMemory] = resource.MustParse(memory)
		}
		return l
	}
	limits := func(cpu, memory string) corev1.ResourceRequirements {
		return corev1.ResourceRequirements{Limits: list(cpu, memory)}
	}
	cases := []struct {
		name       string
		init       []corev1.ResourceRequirements
		containers []corev1.ResourceRequirements
		pod        *corev1.ResourceRequirements
		want       corev1.PodQOSClass
	}{
		{"nothing", nil, []corev1.ResourceRequirements{{}}, nil, corev1.PodQOSBestEffort},
		{"limits", nil, []corev1.ResourceRequirements{limits("1", "1Gi")}, nil, corev1.PodQOSGuaranteed},
		{"two of the same", nil, []corev1.ResourceRequirements{limits("1", "1Gi"), limits("2", "1Gi")}, nil, corev1.PodQOSGuaranteed},
		{"only one limited", nil, []corev1.ResourceRequirements{limits("1", "1Gi"), {}}, nil, corev1.PodQOSBurstable},
		{"init container without", []corev1.ResourceRequirements{{}}, []corev1.ResourceRequirements{limits("1", "1Gi")}, nil, corev1.PodQOSBurstable},
		{"memory only", nil, []corev1.ResourceRequirements{limits("", "1Gi")}, nil, corev1.PodQOSBurstable},
		{"requests only", nil, []corev1.ResourceRequirements{{Requests: list("100m", "")}}, nil, corev1.PodQOSBurstable},
		{"less requested", nil, []corev1.ResourceRequirements{{Requests: list("100m", "1Gi"), Limits: list("1", "1Gi")}}, nil, corev1.PodQOSBurstable},
		{"for the Pod as a whole", nil, []corev1.ResourceRequirements{{}}, &corev1.ResourceRequirements{Limits: list("1", "1Gi")}, corev1.PodQOSGuaranteed},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			pod := newPod(func(pod *corev1.Pod) {
				pod.Spec.Containers = nil
				for _, r := range c.init {
					pod.Spec.InitContainers = append(pod.Spec.InitContainers, corev1.Container{Resources: r})
				}
				for _, r := range c.containers {
					pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Resources: r})
				}
				pod.Spec.Resources = c.pod
			})
			if got := qosClass(pod); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

func TestPreparePodCreate(t *testing.T) {
	pod := newPod(func(pod *corev1.Pod) {
		pod.Labels = map[string]string{"app": "web", "rev": "3"}
		pod.Annotations = map[string]string{"container.apparmor.security.beta.kubernetes.io/app": "localhost/mine"}
		pod.Status.Phase = corev1.PodRunning
		pod.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.com/wait"}}
		pod.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{StopSignal: new(corev1.SIGHUP)}
		pod.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
			MaxSkew: 1, TopologyKey: "zone", WhenUnsatisfiable: corev1.DoNotSchedule, MatchLabelKeys: []string{"rev", "none"},
			LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
		}}
	})
	Pod.PrepareCreate(pod)
	if pod.Generation != 1 || pod.Status.Phase != corev1.PodPending || pod.Status.QOSClass != corev1.PodQOSBestEffort {
		t.Errorf("generation %d, status %+v", pod.Generation, pod.Status)
	}
	if c := pod.Status.Conditions; len(c) != 1 || c[0].Reason != "SchedulingGated" || c[0].Message != "Scheduling is blocked due to non-empty scheduling gates" {
		t.Errorf("conditions %+v", c)
	}
	if pod.Spec.Containers[0].Lifecycle != nil {
		t.Error("the stop signal, a feature that is off, was kept")
	}
	if p := pod.Spec.Containers[0].SecurityContext.AppArmorProfile; p.Type != corev1.AppArmorProfileTypeLocalhost || *p.LocalhostProfile != "mine" {
		t.Errorf("AppArmor profile %+v", p)
	}
	want := []metav1.LabelSelectorRequirement{{Key: "rev", Operator: metav1.LabelSelectorOpIn, Values: []string{"3"}}}
	if diff := cmp.Diff(want, pod.Spec.TopologySpreadConstraints[0].LabelSelector.MatchExpressions); diff != "" {
		t.Errorf("expressions (-want +got):\n%s", diff)
	}
}

func TestPreparePodUpdates(t *testing.T) {
	old := newPod()
	old.Generation = 4
	old.Status = corev1.PodStatus{Phase: corev1.PodRunning, QOSClass: corev1.PodQOSBestEffort, Conditions: []corev1.PodCondition{
		{Type: corev1.PodReady, ObservedGeneration: 3},
	}}
	old.OwnerReferences = []metav1.OwnerReference{{Name: "rs"}}

	same := old.DeepCopy()
	same.Generation, same.Status.Phase = 9, corev1.PodFailed
	same.Labels = map[string]string{"a": "b"}
	Pod.PrepareUpdate(same, old)
	if same.Generation != 4 || same.Status.Phase != corev1.PodRunning {
		t.Errorf("labels changed: generation %d, phase %s", same.Generation, same.Status.Phase)
	}

	changed := old.DeepCopy()
	changed.Spec.Containers[0].Image = "nginx:1.28"
	Pod.PrepareUpdate(changed, old)
	if changed.Generation != 5 {
		t.Errorf("spec changed: generation %d, want 5", changed.Generation)
	}

	status := old.DeepCopy()
	status.Spec.NodeName, status.OwnerReferences = "other", nil
	status.Status = corev1.PodStatus{Phase: corev1.PodFailed, Conditions: []corev1.PodCondition{{Type: corev1.PodReady}}}
	Pod.Subresource("status").PrepareUpdate(status, old)
	if status.Spec.NodeName != "" || len(status.OwnerReferences) != 1 || status.Status.Phase != corev1.PodFailed {
		t.Errorf("status update: %+v", status)
	}
	if status.Status.QOSClass != corev1.PodQOSBestEffort || status.Status.Conditions[0].ObservedGeneration != 3 {
		t.Errorf("what an old node cleared was not kept: %+v", status.Status)
	}

	debug := old.DeepCopy()
	debug.Spec.Containers[0].Image = "evil"
	debug.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", Image: "busybox"}}}
	Pod.Subresource("ephemeralcontainers").PrepareUpdate(debug, old)
	if debug.Spec.Containers[0].Image != "nginx:1.27" || len(debug.Spec.EphemeralContainers) != 1 || debug.Generation != 5 {
		t.Errorf("ephemeral containers: %+v", debug)
	}
}

func TestPodDeletionGrace(t *testing.T) {
	cases := []struct {
		name    string
		change  func(*corev1.Pod)
		options *metav1.DeleteOptions
		want    int64
	}{
		{"the Pod's own", func(*corev1.Pod) {}, nil, 30},
		{"as asked", func(*corev1.Pod) {}, &metav1.DeleteOptions{GracePeriodSeconds: new(int64(5))}, 5},
		{"at once", func(*corev1.Pod) {}, &metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}, 0},
		{"negative", func(*corev1.Pod) {}, &metav1.DeleteOptions{GracePeriodSeconds: new(int64(-1))}, 1},
		{"not scheduled", func(pod *corev1.Pod) { pod.Spec.NodeName = "" }, nil, 0},
		{"failed", func(pod *corev1.Pod) { pod.Status.Phase = corev1.PodFailed }, nil, 0},
		{"succeeded", func(pod *corev1.Pod) { pod.Status.Phase = corev1.PodSucceeded }, nil, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			pod := newPod(func(pod *corev1.Pod) { pod.Spec.NodeName = "n1" }, c.change)
			if got := Pod.DeletionGrace(pod, c.options); got != c.want {
				t.Errorf("%d seconds, want %d", got, c.want)
			}
		})
	}
}

func TestPodFields(t *testing.T) {
	pod := newPod(func(pod *corev1.Pod) {
		pod.Spec.NodeName, pod.Spec.HostNetwork = "n1", true
		pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.42.0.5"}
	})
	set := Pod.Fields(pod)
	for name, want := range map[string]string{
		"spec.nodeName": "n1", "spec.hostNetwork": "true", "spec.restartPolicy": "Always", "spec.schedulerName": "default-scheduler",
		"spec.serviceAccountName": "", "status.phase": "Running", "status.podIP": "10.42.0.5", "status.nominatedNodeName": "",
	} {
		if set.Get(name) != want {
			t.Errorf("%s: %q, want %q", name, set.Get(name), want)
		}
	}
	for name := range set {
		if !strings.Contains(strings.Join(Pod.FieldNames, " ")+" ", name+" ") {
			t.Errorf("%s cannot be asked for", name)
		}
	}
}

// TestRandomPods: no function of the kind may fail on a Pod however odd, nor
// change what it only reads.
func TestRandomPods(t *testing.T) {
	fill := randfill.NewWithSeed(1).NilChance(.4).NumElements(0, 2).Funcs(
		func(q *resource.Quantity, c randfill.Continue) {
			*q = *resource.NewQuantity(c.Int63n(1<<40)-1<<20, resource.BinarySI)
		},
		func(*metav1.FieldsV1, randfill.Continue) {},
	)
	for range 150 {
		old, pod := &corev1.Pod{}, &corev1.Pod{}
		fill.Fill(old)
		fill.Fill(pod)
		Pod.Default(pod)
		Pod.PrepareCreate(pod)
		oldBefore, before := old.DeepCopy(), pod.DeepCopy()
		Pod.Validate(pod)
		Pod.ValidateUpdate(pod, old)
		for _, sub := range Pod.Subresources {
			if sub.ValidateUpdate != nil {
				sub.ValidateUpdate(pod, old)
			}
		}
		Pod.Warnings(pod, nil)
		Pod.Fields(pod)
		if got := Pod.Row(old, old.CreationTimestamp.Time); len(got) != len(Pod.Columns) {
			t.Fatalf("row of %d cells for %d columns", len(got), len(Pod.Columns))
		}
		if diff := cmp.Diff(before, pod) + cmp.Diff(oldBefore, old); diff != "" {
			t.Fatalf("reading changed a Pod:\n%s", diff)
		}
		Pod.PrepareUpdate(pod, old)
		for _, sub := range Pod.Subresources {
			if sub.PrepareUpdate != nil {
				sub.PrepareUpdate(pod.DeepCopy(), old)
			}
		}
		if diff := cmp.Diff(oldBefore, old); diff != "" {
			t.Fatalf("an update changed the old Pod:\n%s", diff)
		}
	}
}

// BenchmarkPodCreate is what a new Pod costs before it is stored.
func BenchmarkPodCreate(b *testing.B) {
	base := newPod(func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "v"}}
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}
	})
	b.ReportAllocs()
	for b.Loop() {
		pod := base.DeepCopy()
		Pod.Default(pod)
		Pod.PrepareCreate(pod)
		if errs := CreateErrors(Pod, nil, pod); len(errs) > 0 {
			b.Fatal(errs)
		}
		if warnings := append(earlyPodWarnings(pod), Pod.Warnings(pod, nil)...); len(warnings) > 0 {
			b.Fatal(warnings)
		}
	}
}

// What is kept in memory is what the store gives back: no empty list of what is
// projected, whose field is always told.
func TestEmptyProjection(t *testing.T) {
	spec := &corev1.PodSpec{Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{
		Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{}}}}}}
	canonicalPodSpec(spec)
	if spec.Volumes[0].Projected.Sources != nil {
		t.Error("an empty list is kept")
	}
}
