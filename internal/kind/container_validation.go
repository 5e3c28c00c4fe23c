package kind

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// containerScope is what a container's validation must know of its Pod.
type containerScope struct {
	spec    *corev1.PodSpec
	volumes map[string]corev1.VolumeSource // the good ones
	claims  []string                       // names of the Pod's resource claims
}

func (s *containerScope) hostUsers() bool { return s.spec.HostUsers == nil || *s.spec.HostUsers }

// validateContainers checks the regular containers.
func (s *containerScope) validateContainers(path *field.Path) field.ErrorList {
	containers := s.spec.Containers
	if len(containers) == 0 {
		return field.ErrorList{field.Required(path, "")}
	}
	var errs field.ErrorList
	seen := map[string]bool{}
	for i := range containers {
		c, at := &containers[i], path.Index(i)
		errs = append(errs, s.validateContainer(at, c)...)
		if seen[c.Name] {
			errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
		}
		seen[c.Name] = true
		errs = append(errs, s.validateRunning(at, c)...)
		errs = append(errs, validateRestartRules(at, c)...)
	}
	return append(errs, validateHostPortsOnce(path, containers)...)
}

// validateInitContainers checks those that run before, and those of them that
// go on running (restartPolicy Always), which may have what regular ones have.
func (s *containerScope) validateInitContainers(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for _, c := range s.spec.Containers {
		seen[c.Name] = true
	}
	for i := range s.spec.InitContainers {
		c, at := &s.spec.InitContainers[i], path.Index(i)
		errs = append(errs, s.validateContainer(at, c)...)
		errs = append(errs, validateInitRestart(at, c)...)
		if seen[c.Name] {
			errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
		} else if c.Name != "" {
			seen[c.Name] = true
		}
		// They run one after the other, so that only ports of the same one collide.
		errs = append(errs, validateHostPortsOnce(path, []corev1.Container{*c})...)
		if IsSidecar(c) {
			errs = append(errs, s.validateRunning(at, c)...)
		} else {
			errs = append(errs, refuseRunning(at, c)...)
		}
	}
	return errs
}

// validateRunning checks what belongs to a container that is meant to stay.
func (s *containerScope) validateRunning(path *field.Path, c *corev1.Container) field.ErrorList {
	var errs field.ErrorList
	grace := s.spec.TerminationGracePeriodSeconds
	if c.Lifecycle != nil {
		errs = append(errs, validateLifecycle(path.Child("lifecycle"), c.Lifecycle, grace)...)
	}
	errs = append(errs, validateProbe(path.Child("livenessProbe"), c.LivenessProbe, onlyOneSuccess)...)
	errs = append(errs, validateProbe(path.Child("readinessProbe"), c.ReadinessProbe, noGracePeriod)...)
	return append(errs, validateProbe(path.Child("startupProbe"), c.StartupProbe, onlyOneSuccess)...)
}

func refuseRunning(path *field.Path, c *corev1.Container) field.ErrorList {
	const why = "may not be set for init containers without restartPolicy=Always"
	var errs field.ErrorList
	refuse := func(name string, set bool) {
		if set {
			errs = append(errs, field.Forbidden(path.Child(name), why))
		}
	}
	refuse("lifecycle", c.Lifecycle != nil)
	refuse("livenessProbe", c.LivenessProbe != nil)
	refuse("readinessProbe", c.ReadinessProbe != nil)
	refuse("startupProbe", c.StartupProbe != nil)
	for i, p := range c.ResizePolicy {
		if p.RestartPolicy == corev1.RestartContainer {
			errs = append(errs, field.Invalid(path.Child("resizePolicy").Index(i).Child("restartPolicy"), p.RestartPolicy, "must not be set to 'RestartContainer' for non-sidecar initContainers"))
		}
	}
	return errs
}

// validateEphemeralContainers checks those that were added to a running Pod.
func (s *containerScope) validateEphemeralContainers(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	var targets []string
	for _, c := range slices.Concat(s.spec.Containers, s.spec.InitContainers) {
		targets = append(targets, c.Name)
	}
	seen := slices.Clone(targets)
	for i := range s.spec.EphemeralContainers {
		e, at := &s.spec.EphemeralContainers[i], path.Index(i)
		c := (*corev1.Container)(&e.EphemeralContainerCommon)
		errs = append(errs, s.validateContainer(at, c)...)
		errs = append(errs, validateImageSpaces(at, c)...)
		if slices.Contains(seen, e.Name) {
			errs = append(errs, field.Duplicate(at.Child("name"), e.Name))
		}
		seen = append(seen, e.Name)
		if e.TargetContainerName != "" && !slices.Contains(targets, e.TargetContainerName) {
			errs = append(errs, field.NotFound(at.Child("targetContainerName"), e.TargetContainerName))
		}
		errs = append(errs, refuseInEphemeral(at, c)...)
	}
	return errs
}

// refuseInEphemeral lists every field that an ephemeral container may not set:
// it is no part of the workload. A list of what it may keeps new fields out.
func refuseInEphemeral(path *field.Path, c *corev1.Container) field.ErrorList {
	const why = "cannot be set for an Ephemeral Container"
	allowed := []string{
		"Name", "Image", "Command", "Args", "WorkingDir", "EnvFrom", "Env", "VolumeMounts", "VolumeDevices",
		"TerminationMessagePath", "TerminationMessagePolicy", "ImagePullPolicy", "SecurityContext", "Stdin", "StdinOnce", "TTY",
	}
	errs := refuseOtherFields(path, reflect.ValueOf(*c), allowed, why)
	for i, mount := range c.VolumeMounts {
		at := path.Child("volumeMounts").Index(i)
		if mount.SubPath != "" {
			errs = append(errs, field.Forbidden(at.Child("subPath"), why))
		}
		if mount.SubPathExpr != "" {
			errs = append(errs, field.Forbidden(at.Child("subPathExpr"), why))
		}
	}
	return errs
}

// refuseOtherFields forbids all fields of a struct that are set and not allowed.
func refuseOtherFields(path *field.Path, value reflect.Value, allowed []string, why string) field.ErrorList {
	var errs field.ErrorList
	for i := range value.NumField() {
		name := value.Type().Field(i).Name
		if !slices.Contains(allowed, name) && !value.Field(i).IsZero() {
			errs = append(errs, field.Forbidden(path.Child(strings.ToLower(name[:1])+name[1:]), why))
		}
	}
	return errs
}

// validateContainer checks what containers of all kinds have.
func (s *containerScope) validateContainer(path *field.Path, c *corev1.Container) field.ErrorList {
	var errs field.ErrorList
	if c.Name == "" {
		errs = append(errs, field.Required(path.Child("name"), ""))
	} else {
		errs = append(errs, dnsLabel(path.Child("name"), c.Name)...)
	}
	errs = append(errs, notEmpty(path.Child("image"), c.Image)...)
	errs = append(errs, requiredOneOf(path.Child("terminationMessagePolicy"), c.TerminationMessagePolicy,
		corev1.TerminationMessageReadFile, corev1.TerminationMessageFallbackToLogsOnError)...)
	errs = append(errs, validatePorts(path.Child("ports"), c.Ports)...)
	errs = append(errs, validateEnv(path.Child("env"), c.Env)...)
	errs = append(errs, validateEnvFrom(path.Child("envFrom"), c.EnvFrom)...)
	errs = append(errs, validateMounts(path.Child("volumeMounts"), c, s.volumes)...)
	errs = append(errs, validateDevices(path.Child("volumeDevices"), c, s.volumes)...)
	errs = append(errs, validatePullPolicy(path.Child("imagePullPolicy"), c.ImagePullPolicy)...)
	errs = append(errs, validateResources(path.Child("resources"), &c.Resources, containerResourceName, s.claims)...)
	errs = append(errs, validateResizePolicy(path.Child("resizePolicy"), c.ResizePolicy, s.spec.RestartPolicy)...)
	return append(errs, validateSecurityContext(path.Child("securityContext"), c.SecurityContext, s.hostUsers())...)
}

// validateImageSpaces is asked of Pods only: in templates a blank image was
// once used to mean that something fills it in.
func validateImageSpaces(path *field.Path, c *corev1.Container) field.ErrorList {
	if strings.TrimSpace(c.Image) != c.Image {
		return field.ErrorList{field.Invalid(path.Child("image"), c.Image, "must not have leading or trailing whitespace")}
	}
	return nil
}

func validatePullPolicy(path *field.Path, policy corev1.PullPolicy) field.ErrorList {
	return requiredOneOf(path, policy, corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)
}

func validatePorts(path *field.Path, ports []corev1.ContainerPort) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, port := range ports {
		at := path.Index(i)
		if port.Name != "" {
			wrong := invalidEach(at.Child("name"), port.Name, validation.IsValidPortName(port.Name))
			if len(wrong) == 0 && seen[port.Name] {
				wrong = field.ErrorList{field.Duplicate(at.Child("name"), port.Name)}
			}
			errs = append(errs, wrong...)
			seen[port.Name] = len(wrong) == 0 || seen[port.Name]
		}
		if port.ContainerPort == 0 {
			errs = append(errs, field.Required(at.Child("containerPort"), ""))
		} else {
			errs = append(errs, portNumber(at.Child("containerPort"), port.ContainerPort)...)
		}
		if port.HostPort != 0 {
			errs = append(errs, portNumber(at.Child("hostPort"), port.HostPort)...)
		}
		errs = append(errs, requiredOneOf(at.Child("protocol"), port.Protocol, corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP)...)
	}
	return errs
}

// validateHostPortsOnce refuses a port of the node that two ports want.
func validateHostPortsOnce(path *field.Path, containers []corev1.Container) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i := range containers {
		for j, port := range containers[i].Ports {
			if port.HostPort == 0 {
				continue
			}
			key := fmt.Sprintf("%s/%s/%d", port.Protocol, port.HostIP, port.HostPort)
			if seen[key] {
				errs = append(errs, field.Duplicate(path.Index(i).Child("ports").Index(j).Child("hostPort"), key))
			}
			seen[key] = true
		}
	}
	return errs
}
