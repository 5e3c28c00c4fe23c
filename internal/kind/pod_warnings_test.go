package kind

import (
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

func TestPodWarnings(t *testing.T) {
	pod := newPod(func(p *corev1.Pod) {
		p.Name = "web.0"
		p.Annotations = map[string]string{"scheduler.alpha.kubernetes.io/critical-pod": ""}
		p.Spec.Volumes = []corev1.Volume{{Name: "g", VolumeSource: corev1.VolumeSource{GitRepo: &corev1.GitRepoVolumeSource{}}}}
		p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "a"}, {Name: "a"}}
		p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "A", Value: "1"}, {Name: "A", Value: "2"}, {Name: "A", Value: "$(A)3"}}
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, Name: "a"}, {ContainerPort: 80, Name: "b"}}
		p.Spec.Containers[0].Resources.Limits = resources("memory", "100m")
		p.Spec.TerminationGracePeriodSeconds = new(int64(-1))
		p.Spec.NodeSelector = map[string]string{"beta.kubernetes.io/arch": "arm64"}
		p.Spec.Affinity = nodeNeeds("beta.kubernetes.io/os")
		p.Spec.Affinity.PodAntiAffinity = &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{}}}
		p.Spec.HostAliases = []corev1.HostAlias{{IP: "2001:DB8::1"}}
	})
	want := []string{
		"metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]",
		`spec.nodeSelector[beta.kubernetes.io/arch]: deprecated since v1.14; use "kubernetes.io/arch" instead`,
		`spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].key: beta.kubernetes.io/os is deprecated since v1.14; use "kubernetes.io/os" instead`,
		`metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: non-functional in v1.16+; use the "priorityClassName" field instead`,
		"spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+",
		`spec.imagePullSecrets[1].name: duplicate name "a"`,
		`spec.containers[0].resources.limits[memory]: fractional byte value "100m" is invalid, must be an integer`,
		`spec.containers[0].resources.requests[memory]: fractional byte value "100m" is invalid, must be an integer`,
		`spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply`,
		"spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
		"spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector: a null labelSelector results in matching no pod",
		`spec.hostAliases[0].ip: IPv6 address "2001:DB8::1" should be in RFC 5952 canonical format ("2001:db8::1")`,
	}
	got := Pod.Warnings(pod, nil)
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("warnings:\n%s\nwant:\n%s", g, w)
	}
	if got := Pod.Warnings(pod, pod); got != nil {
		t.Errorf("warnings of an update: %q", got)
	}
}

func TestPodWarningRules(t *testing.T) {
	volume := func(source corev1.VolumeSource) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: source}} }
	}
	keys := func(paths ...string) (items []corev1.KeyToPath) {
		for _, path := range paths {
			items = append(items, corev1.KeyToPath{Key: "k", Path: path})
		}
		return items
	}
	for _, c := range []struct {
		name   string
		change func(*corev1.Pod)
		want   []string
	}{
		{"plain", func(*corev1.Pod) {}, nil},
		{"file and directory", volume(corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{Items: keys("a", "b", "a/c/")}}), []string{
			`volume "v" (ConfigMap ""): overlapping paths: "a/c" with "a"`}},
		{"names that only begin alike", volume(corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s", Items: keys("a", "ab")}}), nil},
		{"sources of one volume", volume(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{Secret: &corev1.SecretProjection{Items: keys("t/x")}}, {}, {ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "t"}},
		}}}), []string{
			`volume "v" (Projected) has no sources provided`,
			`volume "v" (Projected): overlapping paths: "t" (ServiceAccountToken) with "t/x" (Secret "")`}},
		{"part of a byte in a claim", volume(corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{
			Spec: corev1.PersistentVolumeClaimSpec{Resources: corev1.VolumeResourceRequirements{Requests: resources("storage", "100m")}},
		}}}), []string{`spec.volumes[0].ephemeral.volumeClaimTemplate.spec.resources.requests[storage]: fractional byte value "100m" is invalid, must be an integer`}},
		{"port name in two containers", func(p *corev1.Pod) {
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, Name: "a"}}
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "b", Image: "b", Ports: []corev1.ContainerPort{{ContainerPort: 81, Name: "a"}}})
		}, []string{`spec.containers[1].ports[0]: duplicate port name "a" with spec.containers[0].ports[0], services and probes that select ports by name will use spec.containers[0].ports[0]`}},
		{"node preference that nothing matches", func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{
				Weight: 1, Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "a", Operator: "In", Values: []string{"-"}}}},
			}}}}
		}, []string{"spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].values[0]: - is invalid, a valid label must be an empty string"}},
		{"negative grace is 1 by now", func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = new(int64(-3)) }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Pod.Warnings(newPod(c.change), nil)
			if len(got) != len(c.want) || !slices.EqualFunc(got, c.want, strings.HasPrefix) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestEarlyPodWarnings(t *testing.T) {
	const key = "container.apparmor.security.beta.kubernetes.io/app"
	own := &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeRuntimeDefault}
	for _, c := range []struct {
		name, value string
		change      func(*corev1.Pod)
		want        int
	}{
		{"annotation only", "runtime/default", func(*corev1.Pod) {}, 1},
		{"annotation that cannot be read", "x", func(*corev1.Pod) {}, 1},
		{"field as well", "runtime/default", func(p *corev1.Pod) {
			p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{AppArmorProfile: own}
		}, 0},
		{"as the Pod as a whole", "runtime/default", func(p *corev1.Pod) {
			p.Spec.SecurityContext = &corev1.PodSecurityContext{AppArmorProfile: own}
		}, 0},
		{"Windows", "runtime/default", func(p *corev1.Pod) { p.Spec.OS = &corev1.PodOS{Name: corev1.Windows} }, 0},
	} {
		pod := newPod(func(p *corev1.Pod) { p.Annotations = map[string]string{key: c.value} }, c.change)
		got := Pod.EarlyWarnings(pod)
		if len(got) != c.want || c.want == 1 && got[0] != "metadata.annotations["+key+`]: deprecated since v1.30; use the "appArmorProfile" field instead` {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

// TestTemplateWarnings: what a Pod is told early, or is spared, a template is told.
func TestTemplateWarnings(t *testing.T) {
	d := newDeployment(func(d *appsv1.Deployment) {
		d.Spec.Template.Annotations = map[string]string{"container.apparmor.security.beta.kubernetes.io/" + d.Spec.Template.Spec.Containers[0].Name: "unconfined"}
		d.Spec.Template.Spec.TerminationGracePeriodSeconds = new(int64(-1))
	})
	got := Deployment.Warnings(d, nil)
	if len(got) != 2 || !strings.Contains(got[0], "deprecated since v1.30") || !strings.Contains(got[1], "negative values are invalid") {
		t.Errorf("%q", got)
	}
}
