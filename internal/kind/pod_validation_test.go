package kind

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// podCase is a change to a good Pod and the errors that creating it then has.
type podCase struct {
	name   string
	change func(*corev1.Pod)
	want   []string
}

func runPodCases(t *testing.T, cases []podCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			pod := newPod(c.change)
			before := pod.DeepCopy()
			sameErrors(t, Pod.Validate(pod), c.want...)
			if !equalPods(before, pod) {
				t.Error("validation changed the Pod")
			}
		})
	}
}

func equalPods(a, b *corev1.Pod) bool { return a.String() == b.String() }

func TestPodValidation(t *testing.T) {
	runPodCases(t, []podCase{
		{"good", func(*corev1.Pod) {}, nil},
		{"no containers", func(p *corev1.Pod) { p.Spec.Containers = nil }, []string{"spec.containers: Required value"}},
		{"rules of an init container without a policy", func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "i", Image: "i", RestartPolicyRules: []corev1.ContainerRestartRule{{}}}}
		}, []string{"spec.initContainers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used"}},
		{"claim of a static Pod", func(p *corev1.Pod) {
			p.Annotations, p.Spec.NodeName = map[string]string{corev1.MirrorPodAnnotationKey: "x"}, "n1"
			p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "A"}}
		}, []string{"[]: Forbidden: static pods do not support resource claims"}},
		{"names and classes in order", func(p *corev1.Pod) {
			p.Spec.PriorityClassName, p.Spec.Subdomain = "A", "b.c"
			p.Spec.ActiveDeadlineSeconds, p.Spec.Tolerations = new(int64(0)), []corev1.Toleration{{}}
			p.Spec.PreemptionPolicy = new(corev1.PreemptionPolicy(""))
		}, []string{
			"spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
			`spec.subdomain: Invalid value: "b.c": must not contain dots`,
			`spec.tolerations[0].operator: Invalid value: "": operator must be Exists when ` + "`key`" + ` is empty, which means "match all values and all keys"`,
			`spec.priorityClassName: Invalid value: "A": ` + nameRule,
			"spec.preemptionPolicy: Required value",
		}},
		{"restart policy", func(p *corev1.Pod) { p.Spec.RestartPolicy = "Sometimes" }, []string{
			`spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"`}},
		{"dns policy", func(p *corev1.Pod) { p.Spec.DNSPolicy = "x" }, []string{
			`spec.dnsPolicy: Unsupported value: "x": supported values: "ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"`}},
		{"dns none without config", func(p *corev1.Pod) { p.Spec.DNSPolicy = corev1.DNSNone }, []string{
			"spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"}},
		{"dns config", func(p *corev1.Pod) {
			p.Spec.DNSConfig = &corev1.PodDNSConfig{Nameservers: []string{"a"}, Searches: []string{".", "a_b.", "-"}, Options: []corev1.PodDNSConfigOption{{}}}
		}, []string{
			`spec.dnsConfig.nameservers[0]: Invalid value: "a": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)`,
			`spec.dnsConfig.searches[2]: Invalid value: "-": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')`,
			"spec.dnsConfig.options[0]: Required value: must not be empty",
		}},
		{"deadline", func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = new(int64(0)) }, []string{
			"spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"}},
		{"host port", func(p *corev1.Pod) {
			p.Spec.HostNetwork = true
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 8080}}
		}, []string{"spec.containers[0].ports[0].hostPort: Invalid value: 8080: must match `containerPort` when `hostNetwork` is true"}},
		{"host alias", func(p *corev1.Pod) {
			p.Spec.HostAliases = []corev1.HostAlias{{IP: "010.0.0.1", Hostnames: []string{"ok"}}}
		}, []string{`spec.hostAliases[0].ip: Invalid value: "010.0.0.1": must not have leading 0s`}},
		{"token without account", func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "t", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
				Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}}},
			}}}}
		}, []string{"spec.volumes[0].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set"}},
		{"ephemeral container", func(p *corev1.Pod) {
			p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "d", Image: "d"}}}
		}, []string{"spec.ephemeralContainers: Forbidden: cannot be set on create"}},
		{"gated and bound", func(p *corev1.Pod) {
			p.Spec.NodeName, p.Spec.SchedulingGates = "n1", []corev1.PodSchedulingGate{{Name: "a/b"}, {Name: "a/b"}}
		}, []string{
			`spec.schedulingGates[1]: Duplicate value: "a/b"`,
			"spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared",
		}},
		{"user namespace", func(p *corev1.Pod) { p.Spec.HostUsers, p.Spec.HostNetwork, p.Spec.HostPID = new(false), true, true }, []string{
			"spec.hostNetwork: Forbidden: when `hostUsers` is false", "spec.HostPID: Forbidden: when `hostUsers` is false"}},
		{"hostname override", func(p *corev1.Pod) { p.Spec.HostnameOverride, p.Spec.HostNetwork = new("web.example"), true }, []string{
			"spec.hostnameOverride: Forbidden: may not be specified when hostNetwork is true"}},
		{"preemption", func(p *corev1.Pod) { p.Spec.PreemptionPolicy = new(corev1.PreemptionPolicy("x")) }, []string{
			`spec.preemptionPolicy: Unsupported value: "x": supported values: "PreemptLowerPriority", "Never"`}},
		{"overhead", func(p *corev1.Pod) { p.Spec.Overhead = resources("cpu", "-1") }, []string{
			`spec.overhead.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0`}},
		{"os", func(p *corev1.Pod) { p.Spec.OS = &corev1.PodOS{Name: "plan9"} }, []string{
			`spec.os: Unsupported value: "plan9": supported values: "linux", "windows"`}},
		{"windows", func(p *corev1.Pod) { p.Spec.OS, p.Spec.HostPID = &corev1.PodOS{Name: corev1.Windows}, true }, []string{
			"spec.hostPID: Forbidden: cannot be set for a windows pod"}},
		{"node selector", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"a b": "c"} }, []string{
			`spec.nodeSelector: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')`}},
		{"old annotations", func(p *corev1.Pod) {
			p.Annotations = map[string]string{
				"seccomp.security.alpha.kubernetes.io/pod":               "strict",
				"container.seccomp.security.alpha.kubernetes.io/app":     "localhost//a",
				"container.apparmor.security.beta.kubernetes.io/gone":    "runtime/default",
				"container.apparmor.security.beta.kubernetes.io/app":     "mine",
				"scheduler.alpha.kubernetes.io/tolerations":              `[{"operator":"Is","key":"a"}]`,
				"container.seccomp.security.alpha.kubernetes.io/another": "runtime/default",
			}
		}, []string{
			`metadata.annotations.scheduler.alpha.kubernetes.io/tolerations[0].operator: Unsupported value: "Is": supported values: "Equal", "Exists"`,
			`metadata.annotations[container.apparmor.security.beta.kubernetes.io/app]: Invalid value: "mine": invalid AppArmor profile name: "mine"`,
			`metadata.annotations[container.apparmor.security.beta.kubernetes.io/gone]: Invalid value: "gone": container not found`,
			`metadata.annotations.container.seccomp.security.alpha.kubernetes.io/app: Invalid value: "/a": must be a relative path`,
			`metadata.annotations.seccomp.security.alpha.kubernetes.io/pod: Invalid value: "strict": must be a valid seccomp profile`,
		}},
		{"AppArmor given twice", func(p *corev1.Pod) {
			p.Annotations = map[string]string{"container.apparmor.security.beta.kubernetes.io/app": "localhost/a"}
			p.Spec.SecurityContext = &corev1.PodSecurityContext{AppArmorProfile: &corev1.AppArmorProfile{Type: "Localhost", LocalhostProfile: new("b")}}
		}, []string{"spec.containers[0].securityContext.appArmorProfile.localhostProfile: Forbidden: apparmor profile in annotation and field must match"}},
		{"linux", func(p *corev1.Pod) {
			p.Spec.OS = &corev1.PodOS{Name: corev1.Linux}
			p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{WindowsOptions: &corev1.WindowsSecurityContextOptions{}}
		}, []string{"spec.containers[0].securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod"}},
		{"deletion cost", func(p *corev1.Pod) {
			p.Annotations = map[string]string{"controller.kubernetes.io/pod-deletion-cost": "+1"}
		}, []string{
			`metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: "+1": must be a 32bit integer`}},
		{"resources for the Pod", func(p *corev1.Pod) {
			p.Spec.Resources = &corev1.ResourceRequirements{Requests: resources("cpu", "1", "ephemeral-storage", "1"), Limits: resources("memory", "1Gi")}
			p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: resources("cpu", "2", "memory", "1"), Limits: resources("memory", "2Gi")}
		}, []string{
			`spec.resources.requests[ephemeral-storage]: Unsupported value: "ephemeral-storage": supported values: "cpu", "hugepages-", "memory"`,
			`spec.resources.requests[cpu]: Invalid value: "1": must be greater than or equal to aggregate container requests of 2`,
			`spec.resources.containers[0][memory].limits: Invalid value: "2Gi": must be less than or equal to pod limits of 1Gi`,
		}},
	})
}

func TestPodScheduling(t *testing.T) {
	term := func(term corev1.PodAffinityTerm) *corev1.Affinity {
		return &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{term}}}
	}
	node := func(r corev1.NodeSelectorRequirement) *corev1.Affinity {
		return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{r}}},
		}}}
	}
	const terms = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
	const pods = "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0]"
	runPodCases(t, []podCase{
		{"no terms", func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{}}}
		}, []string{terms + ": Required value: must have at least one node selector term"}},
		{"no values", func(p *corev1.Pod) { p.Spec.Affinity = node(corev1.NodeSelectorRequirement{Key: "a", Operator: "In"}) }, []string{
			terms + "[0].matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"}},
		{"values to exist", func(p *corev1.Pod) {
			p.Spec.Affinity = node(corev1.NodeSelectorRequirement{Key: "a", Operator: "Exists", Values: []string{"b"}})
		}, []string{terms + "[0].matchExpressions[0].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'"}},
		{"operator", func(p *corev1.Pod) { p.Spec.Affinity = node(corev1.NodeSelectorRequirement{Key: "a", Operator: "Is"}) }, []string{
			terms + `[0].matchExpressions[0].operator: Invalid value: "Is": not a valid selector operator`}},
		{"weight", func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{Weight: 101}}}}
		}, []string{"spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 101: must be in the range 1-100"}},
		{"no topology key", func(p *corev1.Pod) { p.Spec.Affinity = term(corev1.PodAffinityTerm{}) }, []string{
			pods + ".topologyKey: Required value: can not be empty",
			pods + `.topologyKey: Invalid value: "": name part must be non-empty`,
			pods + `.topologyKey: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')`,
		}},
		{"label keys", func(p *corev1.Pod) {
			p.Spec.Affinity = term(corev1.PodAffinityTerm{TopologyKey: "zone", MatchLabelKeys: []string{"a"}})
		}, []string{pods + ".matchLabelKeys: Forbidden: must not be specified when labelSelector is not set"}},
		{"spread", func(p *corev1.Pod) {
			p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{
				{TopologyKey: "zone", WhenUnsatisfiable: corev1.ScheduleAnyway, MaxSkew: 0, MinDomains: new(int32(2))},
				{TopologyKey: "zone", WhenUnsatisfiable: corev1.ScheduleAnyway, MaxSkew: 1},
			}
		}, []string{
			"spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
			`spec.topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}: Duplicate value: "{zone, ScheduleAnyway}"`,
			"spec.topologySpreadConstraints[0].minDomains: Invalid value: 2: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway",
		}},
		{"tolerations", func(p *corev1.Pod) {
			p.Spec.Tolerations = []corev1.Toleration{
				{Operator: corev1.TolerationOpEqual, Value: "a"},
				{Key: "a", Operator: corev1.TolerationOpExists, Value: "b"},
				{Key: "a", Operator: "Gt", Value: "1"},
				{Key: "a", TolerationSeconds: new(int64(5)), Effect: corev1.TaintEffectNoSchedule},
				{Key: "a", Effect: "Never"},
			}
		}, []string{
			"spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
			"spec.tolerations[1].operator: Invalid value: \"b\": value must be empty when `operator` is 'Exists'",
			`spec.tolerations[2].operator: Unsupported value: "Gt": supported values: "Equal", "Exists", "Lt", "Gt"`,
			"spec.tolerations[3].effect: Invalid value: \"NoSchedule\": effect must be 'NoExecute' when `tolerationSeconds` is set",
			`spec.tolerations[4].effect: Unsupported value: "Never": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"`,
		}},
	})
}

func TestPodSecurity(t *testing.T) {
	runPodCases(t, []podCase{
		{"ids", func(p *corev1.Pod) {
			p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: new(int64(-1)), FSGroup: new(int64(1 << 31)), SupplementalGroups: []int64{-2}}
		}, []string{
			"spec.securityContext.fsGroup: Invalid value: 2147483648: must be between 0 and 2147483647, inclusive",
			"spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
			"spec.securityContext.supplementalGroups[0]: Invalid value: -2: must be between 0 and 2147483647, inclusive",
		}},
		{"labels by mounting", func(p *corev1.Pod) {
			p.Spec.SecurityContext = &corev1.PodSecurityContext{SELinuxChangePolicy: new(corev1.SELinuxChangePolicyMountOption)}
		}, []string{`spec.securityContext.seLinuxChangePolicy: Unsupported value: "MountOption": supported values: "Recursive"`}},
		{"shared processes", func(p *corev1.Pod) { p.Spec.ShareProcessNamespace, p.Spec.HostPID = new(true), true }, []string{
			"spec.securityContext.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled"}},
		{"sysctls", func(p *corev1.Pod) {
			p.Spec.HostNetwork = true
			p.Spec.SecurityContext = &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: "net.ipv4.ip_forward"}, {Name: "A"}, {Name: "kernel.sem"}, {Name: "kernel.sem"}}}
		}, []string{
			"spec.securityContext.sysctls[0].name: Invalid value: \"net.ipv4.ip_forward\": may not be specified when 'hostNetwork' is true",
			`spec.securityContext.sysctls[1].name: Invalid value: "A": must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$`,
			`spec.securityContext.sysctls[3].name: Duplicate value: "kernel.sem"`,
		}},
		{"seccomp", func(p *corev1.Pod) {
			p.Spec.SecurityContext = &corev1.PodSecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: "Mine"}}
		}, []string{
			`spec.securityContext.seccompProfile.type: Unsupported value: "Mine": supported values: "Localhost", "RuntimeDefault", "Unconfined"`}},
		{"container", func(p *corev1.Pod) {
			p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{
				RunAsGroup: new(int64(-1)), ProcMount: new(corev1.UnmaskedProcMount),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost}, AppArmorProfile: &corev1.AppArmorProfile{},
			}
		}, []string{
			"spec.containers[0].securityContext.runAsGroup: Invalid value: -1: must be between 0 and 2147483647, inclusive",
			"spec.containers[0].securityContext.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`",
			"spec.containers[0].securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
			"spec.containers[0].securityContext.appArmorProfile.type: Required value: type is required when appArmorProfile is set",
		}},
		{"escalation", func(p *corev1.Pod) {
			p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: new(true), AllowPrivilegeEscalation: new(false)}
		}, []string{"spec.containers[0].securityContext: Invalid value: {\"Capabilities\":null,\"Privileged\":true,\"SELinuxOptions\":null,\"WindowsOptions\":null,\"RunAsUser\":null,\"RunAsGroup\":null,\"RunAsNonRoot\":null,\"ReadOnlyRootFilesystem\":null,\"AllowPrivilegeEscalation\":false,\"ProcMount\":null,\"SeccompProfile\":null,\"AppArmorProfile\":null}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true"}},
		{"annotation and field", func(p *corev1.Pod) {
			p.Annotations = map[string]string{"seccomp.security.alpha.kubernetes.io/pod": "unconfined"}
			p.Spec.SecurityContext = &corev1.PodSecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}}
		}, []string{"spec.securityContext.seccompProfile.type: Forbidden: seccomp type in annotation and field must match"}},
		{"host process", func(p *corev1.Pod) {
			p.Spec.SecurityContext = &corev1.PodSecurityContext{WindowsOptions: &corev1.WindowsSecurityContextOptions{HostProcess: new(true), RunAsUserName: new(`a\b\c`)}}
		}, []string{
			`spec.securityContext.windowsOptions.runAsUserName: Invalid value: "a\\b\\c": runAsUserName cannot contain more than one backslash`,
			"spec.hostNetwork: Invalid value: false: hostNetwork must be true if pod contains any hostProcess containers",
		}},
	})
}

// nodeNeeds is an affinity to nodes that have all the labels.
func nodeNeeds(keys ...string) *corev1.Affinity {
	var term corev1.NodeSelectorTerm
	for _, key := range keys {
		term.MatchExpressions = append(term.MatchExpressions, corev1.NodeSelectorRequirement{Key: key, Operator: corev1.NodeSelectorOpExists})
	}
	return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{term}},
	}}
}

func TestPodUpdate(t *testing.T) {
	const only = "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n"
	gated := func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "a/b"}} }
	none := func(*corev1.Pod) {}
	cases := []struct {
		name        string
		old, change func(*corev1.Pod)
		want        []string // prefixes
	}{
		{"nothing", none, none, nil},
		{"labels", none, func(p *corev1.Pod) { p.Labels = map[string]string{"a": "b"} }, nil},
		{"image", none, func(p *corev1.Pod) { p.Spec.Containers[0].Image = "nginx:1.28" }, nil},
		{"no image", none, func(p *corev1.Pod) { p.Spec.Containers[0].Image = "" }, []string{
			"spec.containers[0].image: Required value", "spec.containers[0].image: Required value"}},
		{"command", none, func(p *corev1.Pod) { p.Spec.Containers[0].Command = []string{"sh"} }, []string{only + "@@ "}},
		{"node", none, func(p *corev1.Pod) { p.Spec.NodeName = "n1" }, []string{only + "@@ -42,7 +42,7 @@\n" +
			"  \"NodeSelector\": null,\n  \"ServiceAccountName\": \"\",\n  \"AutomountServiceAccountToken\": null,\n- \"NodeName\": \"\",\n+ \"NodeName\": \"n1\",\n" +
			"  \"SecurityContext\": {\n   \"HostNetwork\": false,\n   \"HostPID\": false,\n"}},
		{"gate twice", none, func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "a"}, {Name: "a"}} }, []string{
			`spec.schedulingGates[1]: Duplicate value: "a"`,
			"spec.schedulingGates[1].name: Forbidden: only deletion is allowed, but found new scheduling gate 'a'"}},
		{"container added", none, func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "b", Image: "b"})
		}, []string{"spec.containers: Forbidden: pod updates may not add or remove containers"}},
		{"deadline set", none, func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = new(int64(5)) }, nil},
		{"deadline longer", func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = new(int64(5)) },
			func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = new(int64(6)) },
			[]string{"spec.activeDeadlineSeconds: Invalid value: 6: must be less than or equal to previous value"}},
		{"deadline gone", func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = new(int64(5)) },
			func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = nil },
			[]string{"spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value"}},
		{"toleration added", none, func(p *corev1.Pod) { p.Spec.Tolerations = []corev1.Toleration{{Key: "a"}} }, nil},
		{"toleration seconds", func(p *corev1.Pod) { p.Spec.Tolerations = []corev1.Toleration{{Key: "a", Effect: "NoExecute"}} },
			func(p *corev1.Pod) { p.Spec.Tolerations[0].TolerationSeconds = new(int64(5)) }, nil},
		{"toleration changed", func(p *corev1.Pod) { p.Spec.Tolerations = []corev1.Toleration{{Key: "a"}} },
			func(p *corev1.Pod) { p.Spec.Tolerations[0].Key = "b" },
			[]string{"spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"}},
		{"grace from negative to 1", func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = new(int64(-1)) },
			func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = new(int64(1)) }, nil},
		{"grace", none, func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = new(int64(1)) }, []string{only + "@@ "}},
		{"gate removed", gated, func(p *corev1.Pod) { p.Spec.SchedulingGates = nil }, nil},
		{"gate added", none, gated, []string{"spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'a/b'"}},
		{"gated: selector added", gated, func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"a": "b"} }, nil},
		{"gated: affinity added", gated, func(p *corev1.Pod) { p.Spec.Affinity = nodeNeeds("a") }, nil},
		{"gated: selector changed", func(p *corev1.Pod) { gated(p); p.Spec.NodeSelector = map[string]string{"a": "b"} },
			func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"a": "c", "d": "e"} },
			[]string{`spec.nodeSelector: Invalid value: {"a":"c","d":"e"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)`}},
		{"gated: affinity narrowed", func(p *corev1.Pod) { gated(p); p.Spec.Affinity = nodeNeeds("a") },
			func(p *corev1.Pod) { p.Spec.Affinity = nodeNeeds("a", "b") }, nil},
		{"gated: affinity changed", func(p *corev1.Pod) { gated(p); p.Spec.Affinity = nodeNeeds("a") },
			func(p *corev1.Pod) { p.Spec.Affinity = nodeNeeds("b", "a") },
			[]string{"spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]: Invalid value: "}},
		{"gated: affinity removed", func(p *corev1.Pod) { gated(p); p.Spec.Affinity = nodeNeeds("a") },
			func(p *corev1.Pod) { p.Spec.Affinity = nil },
			[]string{"spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Invalid value: null: no additions/deletions to non-empty NodeSelectorTerms list are allowed"}},
		{"not gated: selector added", none, func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"a": "b"} }, []string{only + "@@ "}},
		{"mirror annotation", none, func(p *corev1.Pod) { p.Annotations = map[string]string{"kubernetes.io/config.mirror": "x"} }, []string{
			`metadata.annotations[kubernetes.io/config.mirror]: Invalid value: "x": must set spec.nodeName if mirror pod annotation is set`,
			"metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not add mirror pod annotation",
			`metadata.annotations[kubernetes.io/config.mirror]: Invalid value: "x": must set spec.nodeName if mirror pod annotation is set`}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			old := newPod(c.old)
			pod := old.DeepCopy()
			c.change(pod)
			defaultPod(pod)
			got := Pod.ValidateUpdate(pod, old)
			if len(got) != len(c.want) {
				t.Fatalf("errors %v, want %q", got, c.want)
			}
			for i, e := range got {
				if !strings.HasPrefix(e.Error(), c.want[i]) {
					t.Errorf("error %q, want %q", e.Error(), c.want[i])
				}
			}
		})
	}
}

func TestPodUpdateShowsNoEmptyList(t *testing.T) {
	old := newPod()
	pod := old.DeepCopy()
	pod.Spec.InitContainers, pod.Spec.Subdomain = []corev1.Container{}, "x"
	errs := Pod.ValidateUpdate(pod, old)
	if len(errs) != 1 || strings.Contains(errs[0].Detail, "InitContainers\": []") || !strings.Contains(errs[0].Detail, "Subdomain") {
		t.Errorf("%v", errs)
	}
}

func TestEphemeralUpdate(t *testing.T) {
	debug := func(name string) corev1.EphemeralContainer {
		return corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: name, Image: "busybox:1.36"}}
	}
	old := newPod(func(p *corev1.Pod) { p.Spec.EphemeralContainers = []corev1.EphemeralContainer{debug("d1")} })
	cases := []struct {
		name   string
		change func(*corev1.Pod)
		want   []string
	}{
		{"one more", func(p *corev1.Pod) { p.Spec.EphemeralContainers = append(p.Spec.EphemeralContainers, debug("d2")) }, nil},
		{"removed", func(p *corev1.Pod) { p.Spec.EphemeralContainers = nil }, []string{
			"spec.ephemeralContainers: Forbidden: existing ephemeral containers \"d1\" may not be removed\n"}},
		{"twice", func(p *corev1.Pod) {
			p.Spec.EphemeralContainers = append(p.Spec.EphemeralContainers, debug("app"))
			p.Spec.EphemeralContainers[1].TargetContainerName = "d1"
			p.Spec.EphemeralContainers[1].Ports = []corev1.ContainerPort{{ContainerPort: 80}}
			p.Spec.EphemeralContainers[1].LivenessProbe = &corev1.Probe{}
		}, []string{
			`spec.ephemeralContainers[1].name: Duplicate value: "app"`,
			`spec.ephemeralContainers[1].targetContainerName: Not found: "d1"`,
			"spec.ephemeralContainers[1].ports: Forbidden: cannot be set for an Ephemeral Container",
			"spec.ephemeralContainers[1].livenessProbe: Forbidden: cannot be set for an Ephemeral Container",
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			pod := old.DeepCopy()
			c.change(pod)
			defaultPod(pod)
			sameErrors(t, Pod.Subresource("ephemeralcontainers").ValidateUpdate(pod, old), c.want...)
		})
	}
}
