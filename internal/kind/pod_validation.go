package kind

import (
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validatePodCreate checks a new Pod.
func validatePodCreate(pod *corev1.Pod) field.ErrorList {
	errs := validatePod(pod, nil)
	path := field.NewPath("spec")
	if len(pod.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(path.Child("ephemeralContainers"), "cannot be set on create"))
	}
	if pod.Spec.NodeName != "" && len(pod.Spec.SchedulingGates) > 0 {
		errs = append(errs, field.Forbidden(path.Child("nodeName"), "cannot be set until all schedulingGates have been cleared"))
	}
	return append(errs, validateProfilesMatch(path, pod.Annotations, &pod.Spec)...)
}

// validatePod checks what must be true of a Pod at any time, with what is asked
// of Pods but, for the sake of old objects, not of templates. old is nil at creation.
func validatePod(pod, old *corev1.Pod) field.ErrorList {
	path := field.NewPath("spec")
	errs := validatePodAnnotations(field.NewPath("metadata", "annotations"), pod.Annotations, &pod.Spec)
	of := podIdentity{pod: true, name: pod.Name}
	_, of.static = pod.Annotations[corev1.MirrorPodAnnotationKey]
	if old != nil {
		of.old = &old.Spec
	}
	errs = append(errs, validatePodSpec(path, &pod.Spec, of)...)
	if pod.Spec.ServiceAccountName == "" {
		errs = append(errs, refuseTokens(path.Child("volumes"), pod.Spec.Volumes)...)
	}
	for i := range pod.Spec.Containers {
		errs = append(errs, validateImageSpaces(path.Child("containers").Index(i), &pod.Spec.Containers[i])...)
	}
	for i := range pod.Spec.InitContainers {
		errs = append(errs, validateImageSpaces(path.Child("initContainers").Index(i), &pod.Spec.InitContainers[i])...)
	}
	return errs
}

// refuseTokens forbids projected tokens, which need an account.
func refuseTokens(path *field.Path, volumes []corev1.Volume) field.ErrorList {
	var errs field.ErrorList
	for i, v := range volumes {
		if v.Projected == nil {
			continue
		}
		for j, source := range v.Projected.Sources {
			if source.ServiceAccountToken != nil {
				at := path.Index(i).Child("projected", "sources").Index(j).Child("serviceAccountToken")
				errs = append(errs, field.Forbidden(at, "must not be specified when serviceAccountName is not set"))
			}
		}
	}
	return errs
}

// podIdentity says whose spec is checked: a Pod's of that name, or a template's;
// and what it was before the update, or nil.
type podIdentity struct {
	pod    bool
	name   string
	static bool // a node made it from a file, and shows it here
	old    *corev1.PodSpec
}

// podSpecChecks are the parts of a Pod's spec after containers and volumes, in
// the order in which their errors are told.
func podSpecChecks(of podIdentity) []func(*field.Path, *corev1.PodSpec) field.ErrorList {
	return []func(*field.Path, *corev1.PodSpec) field.ErrorList{
		validatePolicies,
		of.validatePodSecurity,
		validateAffinity,
		validateDNS,
		validateGates,
		validateSpread,
		validateWindowsHostProcess,
		validateHostUsers,
		validateHostnameOverride,
		validateAccountAndNode,
		validateDeadline,
		validateHostname,
		validatePodTolerations,
		validateHostAliases,
		validateClasses,
		validateOverhead,
		validateOS,
		validateEnvFileVolumes,
	}
}

// validatePodSpec checks the spec of a Pod or of a template.
func validatePodSpec(path *field.Path, spec *corev1.PodSpec, of podIdentity) field.ErrorList {
	volumes, errs := validateVolumes(path.Child("volumes"), spec.Volumes, of)
	scope := &containerScope{spec: spec, volumes: volumes, claims: claimNames(spec.ResourceClaims)}
	errs = append(errs, of.validateResourceClaims(path.Child("resourceClaims"), spec.ResourceClaims)...)
	errs = append(errs, scope.validateContainers(path.Child("containers"))...)
	errs = append(errs, scope.validateInitContainers(path.Child("initContainers"))...)
	errs = append(errs, scope.validateEphemeralContainers(path.Child("ephemeralContainers"))...)
	errs = append(errs, validatePodResources(path.Child("resources"), spec, scope.claims)...)
	errs = append(errs, validateHostPorts(path.Child("containers"), spec, of.pod)...)
	for _, check := range podSpecChecks(of) {
		errs = append(errs, check(path, spec)...)
	}
	return errs
}

func claimNames(claims []corev1.PodResourceClaim) []string {
	var names []string
	for _, claim := range claims {
		if claim.Name != "" && !slices.Contains(names, claim.Name) {
			names = append(names, claim.Name)
		}
	}
	return names
}

func (of podIdentity) validateResourceClaims(path *field.Path, claims []corev1.PodResourceClaim) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, claim := range claims {
		if of.static {
			errs = append(errs, field.Forbidden(field.NewPath(""), "static pods do not support resource claims"))
			continue
		}
		at := path.Index(i)
		switch {
		case claim.Name == "":
			errs = append(errs, field.Required(at.Child("name"), ""))
		case seen[claim.Name]:
			errs = append(errs, field.Duplicate(at.Child("name"), claim.Name))
		default:
			errs = append(errs, dnsLabel(at.Child("name"), claim.Name)...)
		}
		seen[claim.Name] = true
		name, template := claim.ResourceClaimName, claim.ResourceClaimTemplateName
		if name != nil && template != nil {
			errs = append(errs, field.Invalid(at, untagged{claim}, "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"))
		}
		if name == nil && template == nil {
			errs = append(errs, field.Invalid(at, untagged{claim}, "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"))
		}
		if name != nil {
			errs = append(errs, dnsSubdomain(at.Child("resourceClaimName"), *name)...)
		}
		if template != nil {
			errs = append(errs, dnsSubdomain(at.Child("resourceClaimTemplateName"), *template)...)
		}
	}
	return errs
}

// validateHostPorts: with the node's network a port is that port of the node. A
// template may leave it open, since a Pod made of it gets it by default.
func validateHostPorts(path *field.Path, spec *corev1.PodSpec, pod bool) field.ErrorList {
	if !spec.HostNetwork {
		return nil
	}
	var errs field.ErrorList
	for i, c := range spec.Containers {
		for j, port := range c.Ports {
			if (pod || port.HostPort != 0) && port.HostPort != port.ContainerPort {
				at := path.Index(i).Child("ports").Index(j).Child("hostPort")
				errs = append(errs, field.Invalid(at, port.HostPort, "must match `containerPort` when `hostNetwork` is true"))
			}
		}
	}
	return errs
}

func validatePolicies(path *field.Path, spec *corev1.PodSpec) field.ErrorList {
	errs := requiredOneOf(path.Child("restartPolicy"), spec.RestartPolicy,
		corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)
	errs = append(errs, requiredOneOf(path.Child("dnsPolicy"), spec.DNSPolicy,
		corev1.DNSClusterFirstWithHostNet, corev1.DNSClusterFirst, corev1.DNSDefault, corev1.DNSNone)...)
	return append(errs, metavalidation.ValidateLabels(spec.NodeSelector, path.Child("nodeSelector"))...)
}

func validateGates(path *field.Path, spec *corev1.PodSpec) field.ErrorList {
	var errs field.ErrorList
	for i, gate := range spec.ReadinessGates {
		errs = append(errs, qualifiedName(path.Child("readinessGates").Index(i).Child("conditionType"), string(gate.ConditionType))...)
	}
	seen := map[string]bool{}
	for i, gate := range spec.SchedulingGates {
		at := path.Child("schedulingGates").Index(i)
		errs = append(errs, qualifiedName(at, gate.Name)...)
		if seen[gate.Name] {
			errs = append(errs, field.Duplicate(at, gate.Name))
		}
		seen[gate.Name] = true
	}
	return errs
}

func validateAccountAndNode(path *field.Path, spec *corev1.PodSpec) field.ErrorList {
	var errs field.ErrorList
	if name := spec.ServiceAccountName; name != "" {
		errs = append(errs, invalidEach(path.Child("serviceAccountName"), name, apivalidation.ValidateServiceAccountName(name, false))...)
	}
	if spec.NodeName != "" {
		errs = append(errs, dnsSubdomain(path.Child("nodeName"), spec.NodeName)...)
	}
	return errs
}

func validateHostname(path *field.Path, spec *corev1.PodSpec) field.ErrorList {
	var errs field.ErrorList
	if spec.Hostname != "" {
		errs = append(errs, dnsLabel(path.Child("hostname"), spec.Hostname)...)
	}
	if spec.Subdomain != "" {
		errs = append(errs, dnsLabel(path.Child("subdomain"), spec.Subdomain)...)
	}
	return errs
}

func validateClasses(path *field.Path, spec *corev1.PodSpec) field.ErrorList {
	var errs field.ErrorList
	if spec.PriorityClassName != "" {
		errs = append(errs, dnsSubdomain(path.Child("priorityClassName"), spec.PriorityClassName)...)
	}
	if spec.RuntimeClassName != nil {
		errs = append(errs, dnsSubdomain(path.Child("runtimeClassName"), *spec.RuntimeClassName)...)
	}
	if spec.PreemptionPolicy != nil {
		errs = append(errs, requiredOneOf(path.Child("preemptionPolicy"), *spec.PreemptionPolicy, corev1.PreemptLowerPriority, corev1.PreemptNever)...)
	}
	return errs
}

func validateDeadline(path *field.Path, spec *corev1.PodSpec) field.ErrorList {
	if d := spec.ActiveDeadlineSeconds; d != nil && (*d < 1 || *d > math.MaxInt32) {
		return field.ErrorList{field.Invalid(path.Child("activeDeadlineSeconds"), *d, validation.InclusiveRangeError(1, math.MaxInt32))}
	}
	return nil
}

func validatePodTolerations(path *field.Path, spec *corev1.PodSpec) field.ErrorList {
	return validateTolerations(path.Child("tolerations"), spec.Tolerations)
}

func validateOverhead(path *field.Path, spec *corev1.PodSpec) field.ErrorList {
	if spec.Overhead == nil {
		return nil
	}
	return validateResources(path.Child("overhead"), &corev1.ResourceRequirements{Limits: spec.Overhead}, containerResourceName, nil)
}

// validateEnvFileVolumes requires that files of environment variables lie in
// volumes that containers of this Pod write.
func validateEnvFileVolumes(path *field.Path, spec *corev1.PodSpec) field.ErrorList {
	var errs field.ErrorList
	eachContainer(path, spec, func(at *field.Path, c *corev1.Container) {
		for i, env := range c.Env {
			if env.ValueFrom == nil || env.ValueFrom.FileKeyRef == nil {
				continue
			}
			name := env.ValueFrom.FileKeyRef.VolumeName
			where := at.Child("env").Index(i).Child("valueFrom", "fileKeyRef", "volumeName")
			v := slices.IndexFunc(spec.Volumes, func(v corev1.Volume) bool { return v.Name == name })
			if v < 0 {
				errs = append(errs, field.NotFound(where, name))
			} else if spec.Volumes[v].EmptyDir == nil {
				errs = append(errs, field.Invalid(where, name, "referenced volume must be of type emptyDir"))
			}
		}
	})
	return errs
}

// eachContainer calls visit for init, regular and ephemeral containers. Without a
// path it makes none.
func eachContainer(path *field.Path, spec *corev1.PodSpec, visit func(*field.Path, *corev1.Container)) {
	at := func(list string, i int) *field.Path {
		if path == nil {
			return nil
		}
		return path.Child(list).Index(i)
	}
	for i := range spec.InitContainers {
		visit(at("initContainers", i), &spec.InitContainers[i])
	}
	for i := range spec.Containers {
		visit(at("containers", i), &spec.Containers[i])
	}
	for i := range spec.EphemeralContainers {
		visit(at("ephemeralContainers", i), (*corev1.Container)(&spec.EphemeralContainers[i].EphemeralContainerCommon))
	}
}
