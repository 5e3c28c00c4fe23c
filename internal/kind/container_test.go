package kind

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// resources makes a list of names and quantities in turn.
func resources(pairs ...string) corev1.ResourceList {
	list := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		list[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return list
}

func TestContainerValidation(t *testing.T) {
	app := func(change func(*corev1.Container)) func(*corev1.Pod) {
		return func(p *corev1.Pod) { change(&p.Spec.Containers[0]) }
	}
	runPodCases(t, []podCase{
		{"no name, no image", app(func(c *corev1.Container) { c.Name, c.Image = "", "" }), []string{
			"spec.containers[0].name: Required value", "spec.containers[0].image: Required value"}},
		{"name", app(func(c *corev1.Container) { c.Name = "a.b" }), []string{
			`spec.containers[0].name: Invalid value: "a.b": must not contain dots`}},
		{"blank around image", app(func(c *corev1.Container) { c.Image = " a" }), []string{
			`spec.containers[0].image: Invalid value: " a": must not have leading or trailing whitespace`}},
		{"same name", func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "app", Image: "b"})
			p.Spec.InitContainers = []corev1.Container{{Name: "app", Image: "b"}}
		}, []string{`spec.containers[1].name: Duplicate value: "app"`, `spec.initContainers[0].name: Duplicate value: "app"`}},
		{"policies", app(func(c *corev1.Container) { c.ImagePullPolicy, c.TerminationMessagePolicy = "x", "y" }), []string{
			`spec.containers[0].terminationMessagePolicy: Unsupported value: "y": supported values: "File", "FallbackToLogsOnError"`,
			`spec.containers[0].imagePullPolicy: Unsupported value: "x": supported values: "Always", "IfNotPresent", "Never"`}},
		{"ports", app(func(c *corev1.Container) {
			c.Ports = []corev1.ContainerPort{{}, {ContainerPort: 70000, Name: "a"}, {ContainerPort: 1, Name: "a", Protocol: "x"}, {ContainerPort: 2, HostPort: 9, Name: "-"}, {ContainerPort: 3, HostPort: 9}}
		}), []string{
			"spec.containers[0].ports[0].containerPort: Required value",
			"spec.containers[0].ports[1].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
			`spec.containers[0].ports[2].name: Duplicate value: "a"`,
			`spec.containers[0].ports[2].protocol: Unsupported value: "x": supported values: "SCTP", "TCP", "UDP"`,
			`spec.containers[0].ports[3].name: Invalid value: "-": must contain at least one letter (a-z)`,
			`spec.containers[0].ports[3].name: Invalid value: "-": must not begin or end with a hyphen`,
			`spec.containers[0].ports[4].hostPort: Duplicate value: "TCP//9"`,
		}},
		{"restart rules", app(func(c *corev1.Container) {
			c.RestartPolicyRules = []corev1.ContainerRestartRule{{Action: "Stop"}}
		}), []string{
			"spec.containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used",
			`spec.containers[0].restartPolicyRules[0].action: Unsupported value: "Stop": supported values: "Restart", "RestartAllContainers"`,
			"spec.containers[0].restartPolicyRules[0].exitCodes: Required value: must be specified",
		}},
		{"init container with probe", func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "i", Image: "i", ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"a"}}}}}}
		}, []string{"spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always"}},
		{"sidecar with probe", func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "i", Image: "i", RestartPolicy: new(corev1.ContainerRestartPolicyAlways), ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"a"}}}}}}
		}, nil},
		{"resize policy", app(func(c *corev1.Container) {
			c.ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: "cpu", RestartPolicy: "x"}, {ResourceName: "cpu", RestartPolicy: corev1.NotRequired}}
		}), []string{
			`spec.containers[0].resizePolicy: Unsupported value: "x": supported values: "NotRequired", "RestartContainer"`,
			`spec.containers[0].resizePolicy[1]: Duplicate value: "cpu"`,
		}},
	})
}

func TestContainerEnv(t *testing.T) {
	env := func(vars ...corev1.EnvVar) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.Containers[0].Env = vars }
	}
	from := func(source corev1.EnvVarSource) func(*corev1.Pod) {
		return env(corev1.EnvVar{Name: "A", ValueFrom: &source})
	}
	const at = "spec.containers[0].env[0].valueFrom"
	runPodCases(t, []podCase{
		{"no name", env(corev1.EnvVar{}), []string{"spec.containers[0].env[0].name: Required value"}},
		{"name", env(corev1.EnvVar{Name: "a=b"}), []string{
			`spec.containers[0].env[0].name: Invalid value: "a=b": a valid environment variable name must consist only of printable ASCII characters other than '='`}},
		{"relaxed name", env(corev1.EnvVar{Name: "a b.c"}), nil},
		{"no source", from(corev1.EnvVarSource{}), []string{
			at + ": Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"}},
		{"value and source", env(corev1.EnvVar{Name: "A", Value: "a", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}}), []string{
			at + ": Invalid value: \"\": may not be specified when `value` is not empty"}},
		{"field", from(corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.colour"}}), []string{
			at + `.fieldRef.fieldPath: Invalid value: "metadata.colour": error converting fieldPath: field label not supported: metadata.colour`}},
		{"field of files only", from(corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}}), []string{
			at + `.fieldRef.fieldPath: Unsupported value: "metadata.labels": supported values: "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"`}},
		{"one label", from(corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels['app']"}}), nil},
		{"subscript", from(corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name['a']"}}), []string{
			at + `.fieldRef.fieldPath: Invalid value: "metadata.name['a']": error converting fieldPath: field label does not support subscript: metadata.name['a']`}},
		{"resource", from(corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.gpu"}}), []string{
			at + `.resourceFieldRef.resource: Unsupported value: "limits.gpu": supported values: "limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory"`}},
		{"divisor", from(corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.cpu", Divisor: resource.MustParse("2")}}), []string{
			at + `.resourceFieldRef.divisor: Invalid value: "limits.cpu": only divisor's values 1m and 1 are supported with the cpu resource`}},
		{"config map key", from(corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "c"}}}), []string{
			at + ".configMapKeyRef.key: Required value"}},
		{"file", func(p *corev1.Pod) {
			from(corev1.EnvVarSource{FileKeyRef: &corev1.FileKeySelector{VolumeName: "v", Path: "../a", Key: "A"}})(p)
		}, []string{
			at + `.fileKeyRef.path: Invalid value: "../a": must not contain '..'`,
			at + `.fileKeyRef.volumeName: Not found: "v"`,
		}},
		{"env from nothing", func(p *corev1.Pod) { p.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{}} }, []string{
			"spec.containers[0].envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`"}},
		{"env from unnamed", func(p *corev1.Pod) {
			p.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{}}}
		}, []string{"spec.containers[0].envFrom[0].secretRef.name: Required value"}},
	})
}

func TestContainerProbes(t *testing.T) {
	exec := corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}}
	live := func(probe corev1.Probe) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.Containers[0].LivenessProbe = &probe }
	}
	const at = "spec.containers[0].livenessProbe"
	runPodCases(t, []podCase{
		{"none", live(corev1.Probe{}), []string{at + ": Required value: must specify a handler type"}},
		{"two", live(corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: exec.Exec, TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(80)}}}), []string{
			at + ".tcpSocket: Forbidden: may not specify more than 1 handler type"}},
		{"no command", live(corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{}}}), []string{at + ".exec.command: Required value"}},
		{"http", live(corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromInt32(0), Scheme: "ftp", HTTPHeaders: []corev1.HTTPHeader{{Name: "a b"}}}}}), []string{
			at + ".httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive",
			at + `.httpGet.scheme: Unsupported value: "ftp": supported values: "HTTP", "HTTPS"`,
			at + `.httpGet.httpHeaders: Invalid value: "a b": a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')`,
		}},
		{"numbers", live(corev1.Probe{ProbeHandler: exec, InitialDelaySeconds: -1, PeriodSeconds: -1, SuccessThreshold: 2, TerminationGracePeriodSeconds: new(int64(0))}), []string{
			at + ".initialDelaySeconds: Invalid value: -1: must be greater than or equal to 0",
			at + ".periodSeconds: Invalid value: -1: must be greater than or equal to 0",
			at + ".terminationGracePeriodSeconds: Invalid value: 0: must be greater than 0",
			at + ".successThreshold: Invalid value: 2: must be 1",
		}},
		{"readiness", func(p *corev1.Pod) {
			p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{ProbeHandler: exec, SuccessThreshold: 2, TerminationGracePeriodSeconds: new(int64(5))}
		}, []string{"spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 5: must not be set for readinessProbes"}},
		{"sleep", func(p *corev1.Pod) {
			p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 31}}}
		}, []string{"spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)"}},
	})
}

func TestContainerResources(t *testing.T) {
	with := func(r corev1.ResourceRequirements) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.Containers[0].Resources = r }
	}
	const at = "spec.containers[0].resources"
	runPodCases(t, []podCase{
		{"good", with(corev1.ResourceRequirements{Limits: resources("cpu", "1", "memory", "1Gi", "hugepages-2Mi", "4Mi", "example.com/gpu", "1"), Requests: resources("cpu", "100m")}), nil},
		{"more requested", with(corev1.ResourceRequirements{Limits: resources("cpu", "1"), Requests: resources("cpu", "2")}), []string{
			at + `.requests: Invalid value: "2": must be less than or equal to cpu limit of 1`}},
		{"negative", with(corev1.ResourceRequirements{Requests: resources("memory", "-1")}), []string{
			at + `.requests[memory]: Invalid value: "-1": must be greater than or equal to 0`}},
		{"unknown name", with(corev1.ResourceRequirements{Requests: resources("gpu", "1")}), []string{
			at + `.requests[gpu]: Invalid value: "gpu": must be a standard resource type or fully qualified`,
			at + `.requests[gpu]: Invalid value: "gpu": must be a standard resource for containers`}},
		{"not for containers", with(corev1.ResourceRequirements{Requests: resources("pods", "1")}), []string{
			at + `.requests[pods]: Invalid value: "pods": must be a standard resource for containers`}},
		{"extended without limit", with(corev1.ResourceRequirements{Requests: resources("example.com/gpu", "1")}), []string{
			at + ".limits: Required value: Limit must be set for non overcommitable resources"}},
		{"extended differs", with(corev1.ResourceRequirements{Limits: resources("example.com/gpu", "2"), Requests: resources("example.com/gpu", "1")}), []string{
			at + `.requests: Invalid value: "1": must be equal to example.com/gpu limit of 2`}},
		{"half a device", with(corev1.ResourceRequirements{Limits: resources("example.com/gpu", "500m")}), []string{
			at + `.limits[example.com/gpu]: Invalid value: "500m": must be an integer`,
			at + `.requests[example.com/gpu]: Invalid value: "500m": must be an integer`}},
		{"huge pages alone", with(corev1.ResourceRequirements{Limits: resources("hugepages-2Mi", "3Mi")}), []string{
			at + `.limits[hugepages-2Mi]: Invalid value: "3Mi": 3Mi is not positive integer multiple of hugepages-2Mi`,
			at + `.requests[hugepages-2Mi]: Invalid value: "3Mi": 3Mi is not positive integer multiple of hugepages-2Mi`,
			at + ": Forbidden: HugePages require cpu or memory"}},
		{"claims", func(p *corev1.Pod) {
			p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "a", ResourceClaimName: new("c")}}
			p.Spec.Containers[0].Resources.Claims = []corev1.ResourceClaim{{Name: "a", Request: "r"}, {Name: "a"}, {Name: "b"}}
		}, []string{
			at + `.claims[1]: Duplicate value: "a"`,
			at + `.claims[2]: Not found: "b": must be one of the names in pod.spec.resourceClaims: a`}},
	})
}

func TestContainerMounts(t *testing.T) {
	mounts := func(mounts ...corev1.VolumeMount) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "v"}, {Name: "claim", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}}}}
			p.Spec.Containers[0].VolumeMounts = mounts
		}
	}
	const at = "spec.containers[0].volumeMounts"
	runPodCases(t, []podCase{
		{"good", mounts(corev1.VolumeMount{Name: "v", MountPath: "/a", SubPath: "b/c"}), nil},
		{"no such volume", mounts(corev1.VolumeMount{Name: "w", MountPath: "/a"}), []string{at + `[0].name: Not found: "w"`}},
		{"nothing said", mounts(corev1.VolumeMount{}), []string{
			at + "[0].name: Required value", at + `[0].name: Not found: ""`, at + "[0].mountPath: Required value"}},
		{"same path", mounts(corev1.VolumeMount{Name: "v", MountPath: "/a"}, corev1.VolumeMount{Name: "claim", MountPath: "/a"}), []string{
			at + `[1].mountPath: Invalid value: "/a": must be unique`}},
		{"sub path", mounts(corev1.VolumeMount{Name: "v", MountPath: "/a", SubPath: "/b/../c"}), []string{
			at + `.subPath: Invalid value: "/b/../c": must be a relative path`, at + `.subPath: Invalid value: "/b/../c": must not contain '..'`}},
		{"propagation", mounts(corev1.VolumeMount{Name: "v", MountPath: "/a", MountPropagation: new(corev1.MountPropagationBidirectional)}), []string{
			at + ".mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers"}},
		{"recursive", mounts(corev1.VolumeMount{Name: "v", MountPath: "/a", RecursiveReadOnly: new(corev1.RecursiveReadOnlyEnabled)}), []string{
			at + ".recursiveReadOnly: Forbidden: may only be specified when readOnly is true"}},
		{"device", func(p *corev1.Pod) {
			mounts(corev1.VolumeMount{Name: "claim", MountPath: "/dev/a"})(p)
			p.Spec.Containers[0].VolumeDevices = []corev1.VolumeDevice{{Name: "v", DevicePath: "/dev/a"}}
		}, []string{
			at + `[0].mountPath: Invalid value: "/dev/a": must not already exist as a path in volumeDevices`,
			`spec.containers[0].volumeDevices[0].name: Invalid value: "v": can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode`,
			`spec.containers[0].volumeDevices[0].devicePath: Invalid value: "/dev/a": must not already exist as a path in volumeMounts`,
		}},
	})
}
