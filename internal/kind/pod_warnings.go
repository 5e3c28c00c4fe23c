package kind

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// podWarnings are told when a Pod is created; updates come from programs.
func podWarnings(obj, old Object) []string {
	if old != nil {
		return nil
	}
	pod := obj.(*corev1.Pod)
	var warnings []string
	if wrong := validation.IsDNS1123Label(pod.Name); len(wrong) > 0 {
		warnings = append(warnings, fmt.Sprintf("metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: %v", wrong))
	}
	return append(warnings, specWarnings(nil, pod.Annotations, &pod.Spec)...)
}

// specWarnings are upstream's commonest about a Pod or template at path.
func specWarnings(path *field.Path, annotations map[string]string, spec *corev1.PodSpec) []string {
	w := &warner{}
	at := path.Child("spec")
	w.labels(at, spec)
	w.annotations(path.Child("metadata", "annotations"), annotations, spec)
	w.volumes(at.Child("volumes"), spec.Volumes)
	w.duplicates(at.Child("hostAliases"), "ip", len(spec.HostAliases), func(i int) string { return spec.HostAliases[i].IP })
	w.duplicates(at.Child("imagePullSecrets"), "name", len(spec.ImagePullSecrets), func(i int) string { return spec.ImagePullSecrets[i].Name })
	for i, s := range spec.ImagePullSecrets {
		if s.Name == "" {
			w.say(at.Child("imagePullSecrets").Index(i).Child("name"), `invalid empty name ""`)
		}
	}
	w.fractions(at.Child("overhead"), spec.Overhead)
	eachContainer(at, spec, func(at *field.Path, c *corev1.Container) {
		w.fractions(at.Child("resources", "limits"), c.Resources.Limits)
		w.fractions(at.Child("resources", "requests"), c.Resources.Requests)
		w.env(at.Child("env"), c.Env)
	})
	w.ports(at, spec)
	w.addresses(at, spec)
	w.affinity(at.Child("affinity"), spec.Affinity)
	if s := spec.TerminationGracePeriodSeconds; s != nil && *s < 0 {
		w.say(at.Child("terminationGracePeriodSeconds"), "must be >= 0; negative values are invalid and will be treated as 1")
	}
	return w.texts
}

type warner struct{ texts []string }

func (w *warner) say(path *field.Path, format string, args ...any) {
	w.texts = append(w.texts, path.String()+": "+fmt.Sprintf(format, args...))
}

func (w *warner) annotations(path *field.Path, annotations map[string]string, spec *corev1.PodSpec) {
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		switch {
		case key == "scheduler.alpha.kubernetes.io/critical-pod":
			w.say(path.Key(key), `non-functional in v1.16+; use the "priorityClassName" field instead`)
		case key == "security.alpha.kubernetes.io/sysctls", key == "security.alpha.kubernetes.io/unsafe-sysctls":
			w.say(path.Key(key), `non-functional in v1.11+; use the "sysctls" field instead`)
		case key == corev1.SeccompPodAnnotationKey && (spec.SecurityContext == nil || spec.SecurityContext.SeccompProfile == nil):
			w.say(path.Key(key), `non-functional in v1.27+; use the "seccompProfile" field instead`)
		}
	}
	eachContainer(nil, spec, func(_ *field.Path, c *corev1.Container) {
		sc := c.SecurityContext
		key := corev1.SeccompContainerAnnotationKeyPrefix + c.Name
		if _, ok := annotations[key]; ok && (sc == nil || sc.SeccompProfile == nil) {
			w.say(path.Key(key), `non-functional in v1.27+; use the "seccompProfile" field instead`)
		}
		own := spec.SecurityContext != nil && spec.SecurityContext.AppArmorProfile != nil
		key = corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix + c.Name
		if _, ok := annotations[key]; ok && !own && (sc == nil || sc.AppArmorProfile == nil) {
			w.say(path.Key(key), `deprecated since v1.30; use the "appArmorProfile" field instead`)
		}
	})
}

func (w *warner) volumes(path *field.Path, volumes []corev1.Volume) {
	for i, v := range volumes {
		for _, old := range []struct {
			name string
			used bool
			text string
		}{
			{"photonPersistentDisk", v.PhotonPersistentDisk != nil, "deprecated in v1.11, non-functional in v1.16+"},
			{"gitRepo", v.GitRepo != nil, "deprecated in v1.11, and disabled by default in v1.33+"},
			{"scaleIO", v.ScaleIO != nil, "deprecated in v1.16, non-functional in v1.22+"},
			{"flocker", v.Flocker != nil, "deprecated in v1.22, non-functional in v1.25+"},
			{"storageOS", v.StorageOS != nil, "deprecated in v1.22, non-functional in v1.25+"},
			{"quobyte", v.Quobyte != nil, "deprecated in v1.22, non-functional in v1.25+"},
			{"glusterfs", v.Glusterfs != nil, "deprecated in v1.25, non-functional in v1.26+"},
			{"cephfs", v.CephFS != nil, "deprecated in v1.28, non-functional in v1.31+"},
			{"rbd", v.RBD != nil, "deprecated in v1.28, non-functional in v1.31+"},
		} {
			if old.used {
				w.say(path.Index(i).Child(old.name), "%s", old.text)
			}
		}
	}
}

// duplicates warns of keys that come twice in a list, where apply keeps one.
func (w *warner) duplicates(path *field.Path, name string, n int, key func(int) string) {
	seen := map[string]bool{}
	for i := range n {
		if seen[key(i)] {
			w.say(path.Index(i).Child(name), "duplicate %s %q", name, key(i))
		}
		seen[key(i)] = true
	}
}

func (w *warner) fractions(path *field.Path, list corev1.ResourceList) {
	for _, name := range []corev1.ResourceName{corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		if quantity, ok := list[name]; ok && quantity.MilliValue()%1000 != 0 {
			w.say(path.Key(string(name)), "fractional byte value %q is invalid, must be an integer", quantity.String())
		}
	}
}

// env warns where a variable hides one before it without using its value.
func (w *warner) env(path *field.Path, vars []corev1.EnvVar) {
	seen := map[string]bool{}
	for i, env := range vars {
		use := "$(" + env.Name + ")"
		if seen[env.Name] && (env.ValueFrom != nil || env.Value == use || !strings.Contains(env.Value, use)) {
			w.say(path.Index(i), "hides previous definition of %q, which may be dropped when using apply", env.Name)
		}
		seen[env.Name] = true
	}
}

func (w *warner) ports(path *field.Path, spec *corev1.PodSpec) {
	type use struct {
		path *field.Path
		port corev1.ContainerPort
	}
	uses := map[string][]use{}
	eachContainer(path, spec, func(at *field.Path, c *corev1.Container) {
		for i, port := range c.Ports {
			at := at.Child("ports").Index(i)
			if port.HostIP != "" && port.HostPort == 0 {
				w.say(at, "hostIP set without hostPort: %+v", port)
			}
			key := fmt.Sprintf("%d/%s", port.ContainerPort, port.Protocol)
			for _, other := range uses[key] {
				switch {
				case port.HostIP == other.port.HostIP && port.HostPort == other.port.HostPort:
					w.say(at, "duplicate port definition with %s", other.path)
				case port.HostPort == 0 || other.port.HostPort == 0:
					w.say(at, "overlapping port definition with %s", other.path)
				case port.HostPort == other.port.HostPort && (port.HostIP == "") != (other.port.HostIP == ""):
					w.say(at, "dangerously ambiguous port definition with %s", other.path)
				}
			}
			uses[key] = append(uses[key], use{at, port})
		}
	})
}
