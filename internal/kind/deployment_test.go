package kind

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

// newDeployment is a Deployment as it is after defaulting, with changes made to
// it before.
func newDeployment(changes ...func(*appsv1.Deployment)) *appsv1.Deployment {
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
			Template: newTemplate(),
		},
	}
	for _, change := range changes {
		change(d)
	}
	Deployment.Default(d)
	return d
}

func newTemplate() corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web", "tier": "front"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "nginx:1.27"}, {Name: "log", Image: "fluent"}}},
	}
}

func TestDeploymentDefaults(t *testing.T) {
	d := newDeployment()
	text, err := yaml.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "deployment.out.yaml", string(text))

	recreate := newDeployment(func(d *appsv1.Deployment) {
		d.Spec.Strategy.Type, d.Spec.Replicas, d.Spec.RevisionHistoryLimit = appsv1.RecreateDeploymentStrategyType, new(int32(0)), new(int32(0))
	})
	if recreate.Spec.Strategy.RollingUpdate != nil || *recreate.Spec.Replicas != 0 || *recreate.Spec.RevisionHistoryLimit != 0 {
		t.Errorf("what was given was not kept: %+v", recreate.Spec)
	}
	partly := newDeployment(func(d *appsv1.Deployment) {
		d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: new(intstr.FromInt32(1))}
	})
	want := &appsv1.RollingUpdateDeployment{MaxSurge: new(intstr.FromInt32(1)), MaxUnavailable: new(intstr.FromString("25%"))}
	if diff := cmp.Diff(want, partly.Spec.Strategy.RollingUpdate); diff != "" {
		t.Errorf("rolling update (-want +got):\n%s", diff)
	}
}

func TestDeploymentValidation(t *testing.T) {
	rolling := func(unavailable, surge intstr.IntOrString) func(*appsv1.Deployment) {
		return func(d *appsv1.Deployment) {
			d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxUnavailable: &unavailable, MaxSurge: &surge}
		}
	}
	const update = "spec.strategy.rollingUpdate"
	cases := []struct {
		name   string
		change func(*appsv1.Deployment)
		want   []string
	}{
		{"good", func(*appsv1.Deployment) {}, nil},
		{"no selector", func(d *appsv1.Deployment) { d.Spec.Selector = nil }, []string{
			"spec.selector: Required value",
			"spec.template.metadata.labels: Invalid value: {\"app\":\"web\",\"tier\":\"front\"}: `selector` does not match template `labels`"}},
		{"empty selector", func(d *appsv1.Deployment) { d.Spec.Selector = &metav1.LabelSelector{} }, []string{
			"spec.selector: Invalid value: {}: empty selector is invalid for deployment"}},
		{"labels", func(d *appsv1.Deployment) { d.Spec.Template.Labels = map[string]string{"app": "other"} }, []string{
			"spec.template.metadata.labels: Invalid value: {\"app\":\"other\"}: `selector` does not match template `labels`"}},
		{"restart policy", func(d *appsv1.Deployment) { d.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever }, []string{
			`spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"`}},
		{"deadline", func(d *appsv1.Deployment) { d.Spec.Template.Spec.ActiveDeadlineSeconds = new(int64(1)) }, []string{
			"spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported"}},
		{"replicas", func(d *appsv1.Deployment) { d.Spec.Replicas = new(int32(-1)) }, []string{
			"spec.replicas: Invalid value: -1: must be greater than or equal to 0"}},
		{"no image", func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "" }, []string{
			"spec.template.spec.containers[0].image: Required value"}},
		{"blank around image", func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = " a" }, nil},
		{"host network", func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.HostNetwork = true
			d.Spec.Template.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80}}
		}, nil},
		{"ephemeral container", func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "d", Image: "d"}}}
		}, []string{"spec.template.spec.ephemeralContainers: Forbidden: ephemeral containers not allowed in pod template"}},
		{"image that something fills in", func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{}}}}
		}, nil},
		{"strategy with numbers left out", func(d *appsv1.Deployment) {
			d.Spec.Strategy = appsv1.DeploymentStrategy{Type: "Blue", RollingUpdate: &appsv1.RollingUpdateDeployment{}}
		}, []string{`spec.strategy: Unsupported value: {"Type":"Blue","RollingUpdate":{"MaxUnavailable":0,"MaxSurge":0}}: supported values: "Recreate", "RollingUpdate"`}},
		{"strategy", func(d *appsv1.Deployment) { d.Spec.Strategy.Type = "Blue" }, []string{
			`spec.strategy: Unsupported value: {"Type":"Blue","RollingUpdate":null}: supported values: "Recreate", "RollingUpdate"`}},
		{"recreate and roll", func(d *appsv1.Deployment) {
			d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{}}
		}, []string{update + ": Forbidden: may not be specified when strategy `type` is 'Recreate'"}},
		{"both zero", rolling(intstr.FromInt32(0), intstr.FromString("0%")), []string{
			update + ".maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"}},
		{"unreadable", rolling(intstr.FromString("http"), intstr.FromString("-1%")), []string{
			update + ".maxUnavailable: Invalid value: \"http\": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
			update + ".maxSurge: Invalid value: \"-1%\": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
			update + ".maxUnavailable: Invalid value: \"http\": may not be 0 when `maxSurge` is 0"}},
		{"negative", rolling(intstr.FromInt32(-1), intstr.FromInt32(1)), []string{
			update + ".maxUnavailable: Invalid value: -1: must be greater than or equal to 0"}},
		{"too many percent", rolling(intstr.FromString("101%"), intstr.FromString("200%")), []string{
			update + `.maxUnavailable: Invalid value: "101%": must not be greater than 100%`}},
		{"no percent", rolling(intstr.FromInt32(1), intstr.FromString("one")), []string{
			update + `.maxSurge: Invalid value: "one": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')`}},
		{"progress deadline", func(d *appsv1.Deployment) { d.Spec.MinReadySeconds = 600 }, []string{
			"spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			sameErrors(t, Deployment.Validate(newDeployment(c.change)), c.want...)
		})
	}
}

func TestDeploymentUpdate(t *testing.T) {
	old := newDeployment()
	d := old.DeepCopy()
	d.Spec.Selector.MatchLabels["tier"] = "front"
	sameErrors(t, Deployment.ValidateUpdate(d, old), `spec.selector: Invalid value: {"matchLabels":{"app":"web","tier":"front"}}: field is immutable`)

	recursive := newDeployment(func(d *appsv1.Deployment) {
		d.Spec.Template.Spec.SecurityContext = &corev1.PodSecurityContext{SELinuxChangePolicy: new(corev1.SELinuxChangePolicyRecursive)}
	})
	mounting := recursive.DeepCopy()
	mounting.Spec.Template.Spec.SecurityContext.SELinuxChangePolicy = new(corev1.SELinuxChangePolicyMountOption)
	sameErrors(t, Deployment.ValidateUpdate(mounting, recursive)) // a choice that was made before may change

	old.Generation, old.Status.Replicas = 3, 2
	for _, c := range []struct {
		name   string
		change func(*appsv1.Deployment)
		want   int64
	}{
		{"labels", func(d *appsv1.Deployment) { d.Labels = map[string]string{"a": "b"} }, 3},
		{"annotations", func(d *appsv1.Deployment) { d.Annotations = map[string]string{"a": "b"} }, 4},
		{"replicas", func(d *appsv1.Deployment) { d.Spec.Replicas = new(int32(5)) }, 4},
		{"status and generation", func(d *appsv1.Deployment) { d.Status.Replicas, d.Generation = 9, 9 }, 3},
	} {
		d := old.DeepCopy()
		c.change(d)
		Deployment.PrepareUpdate(d, old)
		if d.Generation != c.want || d.Status.Replicas != 2 {
			t.Errorf("%s: generation %d, want %d; replicas %d", c.name, d.Generation, c.want, d.Status.Replicas)
		}
	}
}

func TestDeploymentStatus(t *testing.T) {
	old := newDeployment()
	old.Labels, old.Status.CollisionCount = map[string]string{"a": "b"}, new(int32(2))
	d := old.DeepCopy()
	d.Labels, d.Spec.Replicas = nil, new(int32(9))
	d.Annotations = map[string]string{"c": "d"}
	d.Status = appsv1.DeploymentStatus{Replicas: 1, UpdatedReplicas: 2, ReadyReplicas: 1, AvailableReplicas: 2, UnavailableReplicas: -1}
	status := Deployment.Subresource("status")
	status.PrepareUpdate(d, old)
	if *d.Spec.Replicas != 1 || d.Labels["a"] != "b" || d.Annotations["c"] != "d" {
		t.Errorf("spec or labels changed: %+v", d)
	}
	sameErrors(t, status.ValidateUpdate(d, old),
		"status.unavailableReplicas: Invalid value: -1: must be greater than or equal to 0",
		"status.updatedReplicas: Invalid value: 2: cannot be greater than status.replicas",
		"status.availableReplicas: Invalid value: 2: cannot be greater than status.replicas",
		"status.availableReplicas: Invalid value: 2: cannot be greater than readyReplicas",
		"status.collisionCount: Invalid value: 0: cannot be decremented",
	)
}

func TestDeploymentRow(t *testing.T) {
	d := newDeployment(func(d *appsv1.Deployment) {
		d.CreationTimestamp, d.Spec.Replicas = at(90*time.Second), new(int32(3))
		d.Status = appsv1.DeploymentStatus{Replicas: 3, ReadyReplicas: 2, UpdatedReplicas: 3, AvailableReplicas: 1}
	})
	if got, want := strings.Join(cells(Deployment.Row(d, tableTime)), " "), "web 2/3 3 1 90s app,log nginx:1.27,fluent app=web"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestDeploymentWarnings(t *testing.T) {
	d := newDeployment(func(d *appsv1.Deployment) {
		d.Name = "Web.1"
		d.Spec.Template.Annotations = map[string]string{"container.apparmor.security.beta.kubernetes.io/app": "unconfined"}
	})
	want := []string{
		"metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')]",
		`spec.template.metadata.annotations[container.apparmor.security.beta.kubernetes.io/app]: deprecated since v1.30; use the "appArmorProfile" field instead`,
	}
	if diff := cmp.Diff(want, Deployment.Warnings(d, nil)); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
	if got := Deployment.Warnings(d, d); got != nil {
		t.Errorf("warnings where the spec has not changed: %q", got)
	}
}
