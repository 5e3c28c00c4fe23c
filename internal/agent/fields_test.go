package agent

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// The class of a field: "done:TEST" is implemented and shown by that test,
// "refused" is refused with an event that names it (TestRefusedFields), and
// anything else says why it means nothing here.
var fieldClasses = map[string]string{
	"PodSpec.Volumes":                       "done:TestVolumesMount",
	"PodSpec.InitContainers":                "done:TestInitContainersRunInOrder",
	"PodSpec.Containers":                    "done:TestPodRunsAndIsReported",
	"PodSpec.EphemeralContainers":           "done:TestEphemeralContainers",
	"PodSpec.RestartPolicy":                 "done:TestRestartPolicies",
	"PodSpec.TerminationGracePeriodSeconds": "done:TestGracePeriods",
	"PodSpec.ActiveDeadlineSeconds":         "done:TestActiveDeadline",
	"PodSpec.DNSPolicy":                     "done:TestPodResolver",
	"PodSpec.NodeSelector":                  "for the scheduler",
	"PodSpec.ServiceAccountName":            "done:TestToken",
	"PodSpec.DeprecatedServiceAccount":      "an alias of serviceAccountName",
	"PodSpec.AutomountServiceAccountToken":  "for admission, which adds the volume",
	"PodSpec.NodeName":                      "done:TestOtherNodesPodsAreLeftAlone",
	"PodSpec.HostNetwork":                   "done:TestHostNamespaces",
	"PodSpec.HostPID":                       "done:TestHostNamespaces",
	"PodSpec.HostIPC":                       "done:TestHostNamespaces",
	"PodSpec.ShareProcessNamespace":         "done:TestHostNamespaces",
	"PodSpec.SecurityContext":               "a struct: see PodSecurityContext",
	"PodSpec.ImagePullSecrets":              "done:TestPullCredentials",
	"PodSpec.Hostname":                      "done:TestHostsFile",
	"PodSpec.Subdomain":                     "done:TestHostsFile",
	"PodSpec.Affinity":                      "for the scheduler",
	"PodSpec.SchedulerName":                 "for the scheduler",
	"PodSpec.Tolerations":                   "for the scheduler and the node lifecycle controller",
	"PodSpec.HostAliases":                   "done:TestHostsFile",
	"PodSpec.PriorityClassName":             "for admission",
	"PodSpec.Priority":                      "for the scheduler; the node evicts nothing by itself",
	"PodSpec.DNSConfig":                     "done:TestPodResolver",
	"PodSpec.ReadinessGates":                "done:TestReadinessGates",
	"PodSpec.RuntimeClassName":              "done:TestHandler",
	"PodSpec.EnableServiceLinks":            "done:TestServiceEnv",
	"PodSpec.PreemptionPolicy":              "for the scheduler",
	"PodSpec.Overhead":                      "done:TestOverhead",
	"PodSpec.TopologySpreadConstraints":     "for the scheduler",
	"PodSpec.SetHostnameAsFQDN":             "done:TestKernelHostname",
	"PodSpec.OS":                            "refused",
	"PodSpec.HostUsers":                     "done:TestOwnUsers",
	"PodSpec.SchedulingGates":               "for the scheduler",
	"PodSpec.ResourceClaims":                "refused",
	"PodSpec.Resources":                     "done:TestPodCgroup",
	"PodSpec.HostnameOverride":              "done:TestKernelHostname",
	"PodSpec.SchedulingGroup":               "for the scheduler",

	"Container.Name":                     "done:TestPodRunsAndIsReported",
	"Container.Image":                    "done:TestPodRunsAndIsReported",
	"Container.Command":                  "done:TestCommandLine",
	"Container.Args":                     "done:TestCommandLine",
	"Container.WorkingDir":               "done:TestBuild",
	"Container.Ports":                    "a struct: see ContainerPort",
	"Container.EnvFrom":                  "done:TestEnvironment",
	"Container.Env":                      "done:TestEnvironment",
	"Container.Resources":                "done:TestContainerResources",
	"Container.ResizePolicy":             "done:TestResizeByRestart",
	"Container.RestartPolicy":            "done:TestInitContainersRunInOrder",
	"Container.RestartPolicyRules":       "done:TestRestartRules",
	"Container.VolumeMounts":             "a struct: see VolumeMount",
	"Container.VolumeDevices":            "refused",
	"Container.LivenessProbe":            "done:TestLivenessRestarts",
	"Container.ReadinessProbe":           "done:TestReadinessDecidesReady",
	"Container.StartupProbe":             "done:TestStartupProbeHoldsTheOthersBack",
	"Container.Lifecycle":                "a struct: see Lifecycle",
	"Container.TerminationMessagePath":   "done:TestTerminationMessage",
	"Container.TerminationMessagePolicy": "done:TestTerminationMessage",
	"Container.ImagePullPolicy":          "done:TestImageNeverPulled",
	"Container.SecurityContext":          "a struct: see SecurityContext",
	"Container.Stdin":                    "done:TestBuild",
	"Container.StdinOnce":                "done:TestBuild",
	"Container.TTY":                      "done:TestBuild",

	"ContainerPort.Name":          "done:TestPortByName",
	"ContainerPort.ContainerPort": "done:TestPortByName",
	"ContainerPort.HostPort":      "done:TestHostPorts",
	"ContainerPort.HostIP":        "done:TestHostPorts",
	"ContainerPort.Protocol":      "done:TestHostPorts",

	"SecurityContext.Capabilities":             "done:TestBuild",
	"SecurityContext.Privileged":               "done:TestBuild",
	"SecurityContext.SELinuxOptions":           "the kernel has no SELinux; refused where it has",
	"SecurityContext.WindowsOptions":           "refused",
	"SecurityContext.RunAsUser":                "done:TestUser",
	"SecurityContext.RunAsGroup":               "done:TestUser",
	"SecurityContext.RunAsNonRoot":             "done:TestRunAsNonRoot",
	"SecurityContext.ReadOnlyRootFilesystem":   "done:TestBuild",
	"SecurityContext.AllowPrivilegeEscalation": "done:TestBuild",
	"SecurityContext.ProcMount":                "done:TestBuild",
	"SecurityContext.SeccompProfile":           "done:TestSeccomp",
	"SecurityContext.AppArmorProfile":          "done:TestAppArmor",

	"PodSecurityContext.SELinuxOptions":           "the kernel has no SELinux; refused where it has",
	"PodSecurityContext.WindowsOptions":           "refused",
	"PodSecurityContext.RunAsUser":                "done:TestUser",
	"PodSecurityContext.RunAsGroup":               "done:TestUser",
	"PodSecurityContext.RunAsNonRoot":             "done:TestRunAsNonRoot",
	"PodSecurityContext.SupplementalGroups":       "done:TestUser",
	"PodSecurityContext.SupplementalGroupsPolicy": "done:TestUser",
	"PodSecurityContext.FSGroup":                  "done:TestVolumesMount",
	"PodSecurityContext.Sysctls":                  "done:TestSysctls",
	"PodSecurityContext.FSGroupChangePolicy":      "for volumes that outlive their Pod, which are refused",
	"PodSecurityContext.SeccompProfile":           "done:TestSeccomp",
	"PodSecurityContext.AppArmorProfile":          "done:TestAppArmor",
	"PodSecurityContext.SELinuxChangePolicy":      "with SELinux options",

	"Probe.ProbeHandler":                  "a struct: see ProbeHandler",
	"Probe.InitialDelaySeconds":           "done:TestInitialDelay",
	"Probe.TimeoutSeconds":                "done:TestTimeout",
	"Probe.PeriodSeconds":                 "done:TestLivenessRestarts",
	"Probe.SuccessThreshold":              "done:TestThresholds",
	"Probe.FailureThreshold":              "done:TestThresholds",
	"Probe.TerminationGracePeriodSeconds": "done:TestProbeGracePeriod",
	"ProbeHandler.Exec":                   "done:TestLivenessRestarts",
	"ProbeHandler.HTTPGet":                "done:TestHTTPGet",
	"ProbeHandler.TCPSocket":              "done:TestTCPSocket",
	"ProbeHandler.GRPC":                   "done:TestGRPC",

	"Lifecycle.PostStart":        "done:TestHooks",
	"Lifecycle.PreStop":          "done:TestHooks",
	"Lifecycle.StopSignal":       "done:TestStopSignals",
	"LifecycleHandler.Exec":      "done:TestHooks",
	"LifecycleHandler.HTTPGet":   "done:TestHTTPGet",
	"LifecycleHandler.TCPSocket": "done:TestTCPSocket",
	"LifecycleHandler.Sleep":     "done:TestHooks",

	"VolumeSource.HostPath":              "done:TestHostPath",
	"VolumeSource.EmptyDir":              "done:TestVolumesMount",
	"VolumeSource.GCEPersistentDisk":     "refused",
	"VolumeSource.AWSElasticBlockStore":  "refused",
	"VolumeSource.GitRepo":               "refused",
	"VolumeSource.Secret":                "done:TestVolumesMount",
	"VolumeSource.NFS":                   "done:TestNFS",
	"VolumeSource.ISCSI":                 "refused",
	"VolumeSource.Glusterfs":             "refused",
	"VolumeSource.PersistentVolumeClaim": "refused",
	"VolumeSource.RBD":                   "refused",
	"VolumeSource.FlexVolume":            "refused",
	"VolumeSource.Cinder":                "refused",
	"VolumeSource.CephFS":                "refused",
	"VolumeSource.Flocker":               "refused",
	"VolumeSource.DownwardAPI":           "done:TestVolumesMount",
	"VolumeSource.FC":                    "refused",
	"VolumeSource.AzureFile":             "refused",
	"VolumeSource.ConfigMap":             "done:TestVolumesMount",
	"VolumeSource.VsphereVolume":         "refused",
	"VolumeSource.Quobyte":               "refused",
	"VolumeSource.AzureDisk":             "refused",
	"VolumeSource.PhotonPersistentDisk":  "refused",
	"VolumeSource.Projected":             "done:TestToken",
	"VolumeSource.PortworxVolume":        "refused",
	"VolumeSource.ScaleIO":               "refused",
	"VolumeSource.StorageOS":             "refused",
	"VolumeSource.CSI":                   "refused",
	"VolumeSource.Ephemeral":             "refused",
	"VolumeSource.Image":                 "done:TestImageVolumes",

	"VolumeProjection.Secret":              "done:TestToken",
	"VolumeProjection.DownwardAPI":         "done:TestToken",
	"VolumeProjection.ConfigMap":           "done:TestToken",
	"VolumeProjection.ServiceAccountToken": "done:TestToken",
	"VolumeProjection.ClusterTrustBundle":  "refused",
	"VolumeProjection.PodCertificate":      "refused",

	"VolumeMount.Name":              "done:TestMounts",
	"VolumeMount.ReadOnly":          "done:TestMounts",
	"VolumeMount.RecursiveReadOnly": "done:TestRecursiveReadOnly",
	"VolumeMount.MountPath":         "done:TestMounts",
	"VolumeMount.SubPath":           "done:TestSubPath",
	"VolumeMount.MountPropagation":  "done:TestMounts",
	"VolumeMount.SubPathExpr":       "done:TestMounts",

	"EnvVarSource.FieldRef":         "done:TestEnvironment",
	"EnvVarSource.ResourceFieldRef": "done:TestEnvironment",
	"EnvVarSource.ConfigMapKeyRef":  "done:TestEnvironment",
	"EnvVarSource.SecretKeyRef":     "done:TestEnvironment",
	"EnvVarSource.FileKeyRef":       "done:TestFileKeys",

	"EmptyDirVolumeSource.Medium":    "done:TestHugePagesVolume",
	"EmptyDirVolumeSource.SizeLimit": "done:TestVolumesMount",

	"ResourceRequirements.Limits":   "done:TestContainerResources",
	"ResourceRequirements.Requests": "done:TestContainerResources",
	"ResourceRequirements.Claims":   "refused",
}

// classified are the types whose every field must be in fieldClasses.
func classified() []reflect.Type {
	return []reflect.Type{
		reflect.TypeFor[corev1.PodSpec](), reflect.TypeFor[corev1.Container](), reflect.TypeFor[corev1.ContainerPort](),
		reflect.TypeFor[corev1.SecurityContext](), reflect.TypeFor[corev1.PodSecurityContext](),
		reflect.TypeFor[corev1.Probe](), reflect.TypeFor[corev1.ProbeHandler](),
		reflect.TypeFor[corev1.Lifecycle](), reflect.TypeFor[corev1.LifecycleHandler](),
		reflect.TypeFor[corev1.VolumeSource](), reflect.TypeFor[corev1.VolumeProjection](), reflect.TypeFor[corev1.VolumeMount](),
		reflect.TypeFor[corev1.EnvVarSource](), reflect.TypeFor[corev1.EmptyDirVolumeSource](), reflect.TypeFor[corev1.ResourceRequirements](),
	}
}

func TestEveryFieldIsClassified(t *testing.T) {
	tests := testNames(t)
	known := map[string]bool{}
	for _, typ := range classified() {
		for i := range typ.NumField() {
			name := typ.Name() + "." + typ.Field(i).Name
			known[name] = true
			class, ok := fieldClasses[name]
			if !ok {
				t.Errorf("%s is not classified: implement it and name the test, or refuse it in fieldCheck", name)
			}
			if test, done := strings.CutPrefix(class, "done:"); done && !tests[test] {
				t.Errorf("%s names the test %s, which does not exist", name, test)
			}
			if class == "refused" && !refusedExample(name) {
				t.Errorf("%s is said to be refused, but no example in refusedPods shows it", name)
			}
		}
	}
	for name := range fieldClasses {
		if !known[name] {
			t.Errorf("%s is classified, but there is no such field", name)
		}
	}
}

// testNames are all tests of the agent's own packages.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil // a neighbour's file in the making is not ours to judge
		}
		for _, d := range file.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
				names[fn.Name.Name] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// refusedPods are Pods that must be refused, by the field that is to blame,
// with the path the event names.
func refusedPods() map[string]struct {
	path string
	set  func(*corev1.PodSpec)
} {
	c := func(s *corev1.PodSpec) *corev1.Container { return &s.Containers[0] }
	type refusal = struct {
		path string
		set  func(*corev1.PodSpec)
	}
	out := map[string]refusal{
		"PodSpec.OS":              {"spec.os.name", func(s *corev1.PodSpec) { s.OS = &corev1.PodOS{Name: corev1.Windows} }},
		"PodSpec.ResourceClaims":  {"spec.resourceClaims", func(s *corev1.PodSpec) { s.ResourceClaims = make([]corev1.PodResourceClaim, 1) }},
		"Container.VolumeDevices": {"spec.containers[0](c).volumeDevices", func(s *corev1.PodSpec) { c(s).VolumeDevices = make([]corev1.VolumeDevice, 1) }},
		"SecurityContext.WindowsOptions": {"spec.containers[0](c).securityContext.windowsOptions", func(s *corev1.PodSpec) {
			c(s).SecurityContext = &corev1.SecurityContext{WindowsOptions: &corev1.WindowsSecurityContextOptions{}}
		}},
		"PodSecurityContext.WindowsOptions": {"spec.securityContext.windowsOptions", func(s *corev1.PodSpec) {
			s.SecurityContext = &corev1.PodSecurityContext{WindowsOptions: &corev1.WindowsSecurityContextOptions{}}
		}},
		"VolumeProjection.ClusterTrustBundle": {"spec.volumes[0](v).projected.sources[0].clusterTrustBundle", func(s *corev1.PodSpec) {
			s.Volumes = projected(corev1.VolumeProjection{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{}})
		}},
		"VolumeProjection.PodCertificate": {"spec.volumes[0](v).projected.sources[0].podCertificate", func(s *corev1.PodSpec) {
			s.Volumes = projected(corev1.VolumeProjection{PodCertificate: &corev1.PodCertificateProjection{}})
		}},

		"ResourceRequirements.Claims": {"spec.containers[0](c).resources.claims", func(s *corev1.PodSpec) { c(s).Resources.Claims = make([]corev1.ResourceClaim, 1) }},
		"ResourceRequirements.Limits": {"spec.containers[0](c).resources", func(s *corev1.PodSpec) {
			c(s).Resources.Limits = corev1.ResourceList{"kubernetes.io/gpu": resource.MustParse("1")}
		}},
	}
	// Every volume source that is not implemented, by reflection.
	typ := reflect.TypeFor[corev1.VolumeSource]()
	for i := range typ.NumField() {
		name := "VolumeSource." + typ.Field(i).Name
		if fieldClasses[name] != "refused" {
			continue
		}
		json, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		out[name] = refusal{"spec.volumes[0](v)." + json, func(s *corev1.PodSpec) {
			v := corev1.Volume{Name: "v"}
			field := reflect.ValueOf(&v.VolumeSource).Elem().Field(i)
			field.Set(reflect.New(field.Type().Elem()))
			s.Volumes = []corev1.Volume{v}
		}}
	}
	return out
}

func projected(p corev1.VolumeProjection) []corev1.Volume {
	return []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{p}}}}}
}

func refusedExample(name string) bool {
	_, ok := refusedPods()[name]
	return ok
}

func TestRefusedFields(t *testing.T) {
	var a Agent
	if got := a.unsupported(webPod(initPod)); got != "" {
		t.Errorf("a plain Pod is refused: %s", got)
	}
	for name, r := range refusedPods() {
		pod := webPod()
		r.set(&pod.Spec)
		if got := a.unsupported(pod); !strings.HasPrefix(got, r.path+": ") {
			t.Errorf("%s is refused with %q, want it to begin with %q", name, got, r.path)
		}
	}
}
