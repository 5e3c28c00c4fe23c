package kind

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
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

// earlyPodWarnings are told of what a new Pod was sent with, before it is made
// what is stored: an annotation that says what no field does.
func earlyPodWarnings(obj Object) []string {
	pod := obj.(*corev1.Pod)
	if len(pod.Annotations) == 0 || pod.Spec.OS != nil && pod.Spec.OS.Name == corev1.Windows {
		return nil
	}
	w := &warner{}
	eachContainer(nil, &pod.Spec, func(_ *field.Path, c *corev1.Container) {
		if value, ok := olderAppArmor(pod.Annotations, c); ok {
			if profile := appArmorProfile(value); profile == nil || !equality.Semantic.DeepEqual(profile, podAppArmor(&pod.Spec)) {
				w.appArmor(field.NewPath("metadata", "annotations"), c.Name)
			}
		}
	})
	return w.texts
}

// podStatusWarnings are about addresses that a node reports.
func podStatusWarnings(obj, _ Object) []string {
	status, path := &obj.(*corev1.Pod).Status, field.NewPath("status")
	var texts []string
	for i, ip := range status.PodIPs {
		texts = append(texts, validation.GetWarningsForIP(path.Child("podIPs").Index(i).Child("ip"), ip.IP)...)
	}
	for i, ip := range status.HostIPs {
		texts = append(texts, validation.GetWarningsForIP(path.Child("hostIPs").Index(i).Child("ip"), ip.IP)...)
	}
	return texts
}

// specWarnings are upstream's about a Pod (path is nil) or the template at path.
func specWarnings(path *field.Path, annotations map[string]string, spec *corev1.PodSpec) []string {
	w := &warner{}
	at, notes := path.Child("spec"), path.Child("metadata", "annotations")
	w.labels(at, spec)
	w.annotations(notes, annotations)
	w.volumes(at.Child("volumes"), spec.Volumes)
	w.overlaps(spec.Volumes)
	w.duplicates(at.Child("hostAliases"), "ip", len(spec.HostAliases), func(i int) string { return spec.HostAliases[i].IP })
	w.duplicates(at.Child("imagePullSecrets"), "name", len(spec.ImagePullSecrets), func(i int) string { return spec.ImagePullSecrets[i].Name })
	for i, s := range spec.ImagePullSecrets {
		if s.Name == "" {
			w.say(at.Child("imagePullSecrets").Index(i).Child("name"), `invalid empty name ""`)
		}
	}
	w.fractions(corev1.ResourceMemory, spec.Overhead, at, "overhead")
	w.fractions(corev1.ResourceEphemeralStorage, spec.Overhead, at, "overhead")
	if spec.SecurityContext == nil || spec.SecurityContext.SeccompProfile == nil {
		w.seccomp(notes, annotations, corev1.SeccompPodAnnotationKey)
	}
	eachContainer(at, spec, func(at *field.Path, c *corev1.Container) {
		w.profiles(notes, annotations, spec, c, path != nil)
		for _, name := range []corev1.ResourceName{corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
			w.fractions(name, c.Resources.Limits, at, "resources", "limits")
			w.fractions(name, c.Resources.Requests, at, "resources", "requests")
		}
		if len(c.Env) > 1 {
			w.env(at.Child("env"), c.Env)
		}
	})
	w.ports(at, spec)
	w.portNames(at, spec)
	if s := spec.TerminationGracePeriodSeconds; s != nil && *s < 0 {
		w.say(at.Child("terminationGracePeriodSeconds"), "must be >= 0; negative values are invalid and will be treated as 1")
	}
	w.affinity(at.Child("affinity"), spec.Affinity)
	w.addresses(at, spec)
	return w.texts
}

type warner struct{ texts []string }

func (w *warner) say(path *field.Path, format string, args ...any) {
	w.texts = append(w.texts, path.String()+": "+fmt.Sprintf(format, args...))
}

func (w *warner) annotations(path *field.Path, annotations map[string]string) {
	for _, old := range []struct{ key, text string }{
		{"scheduler.alpha.kubernetes.io/critical-pod", `non-functional in v1.16+; use the "priorityClassName" field instead`},
		{"security.alpha.kubernetes.io/sysctls", `non-functional in v1.11+; use the "sysctls" field instead`},
		{"security.alpha.kubernetes.io/unsafe-sysctls", `non-functional in v1.11+; use the "sysctls" field instead`},
	} {
		if _, ok := annotations[old.key]; ok {
			w.say(path.Key(old.key), "%s", old.text)
		}
	}
}

func (w *warner) seccomp(path *field.Path, annotations map[string]string, key string) {
	if _, ok := annotations[key]; ok {
		w.say(path.Key(key), `non-functional in v1.27+; use the "seccompProfile" field instead`)
	}
}

// profiles warns of a container's profiles in annotations. AppArmor's of a Pod
// has been told before it was copied into the field.
func (w *warner) profiles(path *field.Path, annotations map[string]string, spec *corev1.PodSpec, c *corev1.Container, template bool) {
	if len(annotations) == 0 {
		return
	}
	if c.SecurityContext == nil || c.SecurityContext.SeccompProfile == nil {
		w.seccomp(path, annotations, corev1.SeccompContainerAnnotationKeyPrefix+c.Name)
	}
	if value, ok := olderAppArmor(annotations, c); ok && template {
		if own := podAppArmor(spec); own == nil || !equality.Semantic.DeepEqual(own, appArmorField(value)) {
			w.appArmor(path, c.Name)
		}
	}
}

func (w *warner) appArmor(path *field.Path, container string) {
	w.say(path.Key(corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix+container), `deprecated since v1.30; use the "appArmorProfile" field instead`)
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

// fractions warns of a part of a byte in the list that is at path and below.
func (w *warner) fractions(name corev1.ResourceName, list corev1.ResourceList, path *field.Path, below ...string) {
	if quantity, ok := list[name]; ok && quantity.MilliValue()%1000 != 0 {
		w.say(path.Child(below[0], below[1:]...).Key(string(name)), "fractional byte value %q is invalid, must be an integer", quantity.String())
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
