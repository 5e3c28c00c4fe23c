package node

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func (c *cluster) configMap(name string, data map[string]string) {
	c.t.Helper()
	_, err := c.client.CoreV1().ConfigMaps(c.namespace).Create(c.ctx,
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data}, metav1.CreateOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) secret(name string, data map[string]string) {
	c.t.Helper()
	_, err := c.client.CoreV1().Secrets(c.namespace).Create(c.ctx,
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: data}, metav1.CreateOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
}

func TestConfigMapChangeReachesVolume(t *testing.T) {
	c := shared(t)
	c.configMap("settings", map[string]string{"a": "old", "b": "same"})
	p := pod("reader", "trap exit TERM; while true; do cat /settings/a; echo; sleep 0.1; done")
	p.Spec.Volumes = []corev1.Volume{{Name: "settings", VolumeSource: corev1.VolumeSource{
		ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}},
	}}}
	p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "settings", MountPath: "/settings"}}
	c.startPod(p)
	follow := c.follow("logs", "-f", "reader")
	follow.until("old")
	c.kubectl("patch", "configmap", "settings", "-p", `{"data":{"a":"new","c":"added"}}`)
	follow.until("new")
	follow.stop()
	if got := c.exec("reader", "cat /settings/b /settings/c; ls /settings"); got != "sameadded"+"a\nb\nc\n" {
		t.Errorf("files %q", got)
	}
	if restarts := mainStatus(c.awaitPod("reader", podReady)).RestartCount; restarts != 0 {
		t.Errorf("%d restarts", restarts)
	}
}

func TestEnvironment(t *testing.T) {
	c := shared(t)
	c.configMap("cm", map[string]string{"one": "1", "two": "2"})
	c.secret("sec", map[string]string{"password": "hunter2"})
	c.kubectl("create", "service", "clusterip", "early", "--tcp=80:8080")
	p := once("env", "env; cat /proc/1/cmdline")
	p.Labels["tier"] = "front"
	p.Annotations = map[string]string{"note": "x"}
	no := false
	main := &p.Spec.Containers[0]
	main.Command = []string{"sh", "-c", "env; echo '$(PLAIN) $$(PLAIN) $(UNKNOWN)'"}
	main.Resources = corev1.ResourceRequirements{
		Limits: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m"), corev1.ResourceMemory: resource.MustParse("64Mi")},
	}
	field := func(name, path string) corev1.EnvVar {
		return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}}
	}
	main.EnvFrom = []corev1.EnvFromSource{{
		Prefix: "CM_", ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}},
	}, {
		SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "absent"}, Optional: ptr(true)},
	}}
	main.Env = []corev1.EnvVar{
		{Name: "PLAIN", Value: "plain"}, {Name: "MADE", Value: "<$(PLAIN)-$(KUBERNETES_SERVICE_PORT)>"},
		{Name: "SECRET", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: "sec"}, Key: "password", Optional: &no}}},
		{Name: "LIMIT", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.memory", Divisor: resource.MustParse("1Mi")}}},
		field("NAME", "metadata.name"), field("NAMESPACE", "metadata.namespace"), field("UID_", "metadata.uid"),
		field("IP", "status.podIP"), field("HOST", "status.hostIP"), field("NODE", "spec.nodeName"),
		field("TIER", "metadata.labels['tier']"), field("NOTE", "metadata.annotations['note']"), field("ACCOUNT", "spec.serviceAccountName"),
	}
	p, log := c.finish(p)
	lines := map[string]bool{}
	for _, line := range strings.Split(log, "\n") {
		lines[line] = true
	}
	for _, want := range []string{
		"PLAIN=plain", "MADE=<plain-443>", "SECRET=hunter2", "LIMIT=64", "CM_one=1", "CM_two=2", "FROM_IMAGE=yes",
		"plain $(PLAIN) $(UNKNOWN)", "NAME=env", "NAMESPACE=" + c.namespace, "UID_=" + string(p.UID), "IP=" + p.Status.PodIP, "HOST=" + nodeAddress,
		"NODE=" + p.Spec.NodeName, "TIER=front", "NOTE=x", "ACCOUNT=default", "HOSTNAME=env",
		"KUBERNETES_SERVICE_HOST=10.43.0.1", "KUBERNETES_SERVICE_PORT=443",
		"EARLY_SERVICE_HOST=" + c.service("early").Spec.ClusterIP, "EARLY_PORT_80_TCP_PORT=80",
	} {
		if !lines[want] {
			t.Errorf("no line %q", want)
		}
	}
	if t.Failed() {
		t.Log(log)
	}
}

func ptr[T any](v T) *T { return &v }

func TestMissingConfigMapHoldsContainer(t *testing.T) {
	c := shared(t)
	p := once("late", "echo $VALUE")
	p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "VALUE", ValueFrom: &corev1.EnvVarSource{
		ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "later"}, Key: "k"}}}}
	c.create(p)
	held := c.awaitPod("late", func(p *corev1.Pod) bool {
		w := mainStatus(p).State.Waiting
		return w != nil && w.Reason == "CreateContainerConfigError"
	})
	c.mustContain(mainStatus(held).State.Waiting.Message, `configmap "later" not found`)
	c.configMap("later", map[string]string{"k": "came"})
	c.awaitPod("late", podEnded)
	if log := c.logs("late"); log != "came\n" {
		t.Errorf("log %q", log)
	}
}

func TestVolumesOfObjects(t *testing.T) {
	c := shared(t)
	c.configMap("cm", map[string]string{"conf": "text"})
	c.secret("sec", map[string]string{"key": "hidden"})
	p := once("files", `cd /all; cat conf; echo; cat sub/renamed; echo; cat labels; echo; cat cpu; echo
stat -c '%a %n' -L conf sub/renamed; stat -f -c %T /secret; cat /secret/key; echo; echo x 2>/dev/null >/secret/key || echo read-only`)
	p.Spec.Volumes = []corev1.Volume{
		{Name: "all", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			DefaultMode: ptr(int32(0o640)),
			Sources: []corev1.VolumeProjection{
				{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}}},
				{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "sec"},
					Items: []corev1.KeyToPath{{Key: "key", Path: "sub/renamed", Mode: ptr(int32(0o400))}}}},
				{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
					{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}},
					{Path: "cpu", ResourceFieldRef: &corev1.ResourceFieldSelector{ContainerName: "main", Resource: "requests.cpu", Divisor: resource.MustParse("1m")}},
				}}},
			},
		}}},
		{Name: "secret", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "sec"}}},
	}
	p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("25m")}
	p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "all", MountPath: "/all"}, {Name: "secret", MountPath: "/secret"}}
	_, log := c.finish(p)
	want := "text\nhidden\napp=\"files\"\n25\n640 conf\n400 sub/renamed\ntmpfs\nhidden\nread-only\n"
	if log != want {
		t.Errorf("got %q, want %q", log, want)
	}
}

func TestPodCallsAPI(t *testing.T) {
	c := shared(t)
	script := fmt.Sprintf(`box api GET /version; box api GET /api/v1/namespaces/%s/secrets; box api DELETE /api/v1/namespaces/%s
cat /var/run/secrets/kubernetes.io/serviceaccount/namespace`, c.namespace, c.namespace)
	_, log := c.finish(once("caller", script))
	user := "system:serviceaccount:" + c.namespace + ":default"
	c.mustContain(log, "200\n{", `"gitVersion"`, "403\n{", `"reason":"Forbidden"`,
		fmt.Sprintf(`secrets is forbidden: User \"%s\" cannot list resource \"secrets\" in API group \"\" in the namespace \"%s\"`, user, c.namespace),
		fmt.Sprintf(`namespaces \"%s\" is forbidden: User \"%s\" cannot delete resource \"namespaces\"`, c.namespace, user))
	if !strings.HasSuffix(log, c.namespace) {
		t.Errorf("namespace file ends %q", log)
	}
	p := once("without", "ls /var/run/secrets/kubernetes.io")
	p.Spec.AutomountServiceAccountToken = ptr(false)
	if p, _ := c.finish(p); p.Status.Phase != corev1.PodFailed {
		t.Error("a token is mounted against the Pod's will")
	}
}
