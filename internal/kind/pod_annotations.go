package kind

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validatePodAnnotations checks those annotations that are settings, most of
// them from before the setting had a field.
func validatePodAnnotations(path *field.Path, annotations map[string]string, spec *corev1.PodSpec) field.ErrorList {
	if len(annotations) == 0 {
		return nil
	}
	var errs field.ErrorList
	if value, ok := annotations[corev1.MirrorPodAnnotationKey]; ok && spec.NodeName == "" {
		errs = append(errs, field.Invalid(path.Key(corev1.MirrorPodAnnotationKey), value, "must set spec.nodeName if mirror pod annotation is set"))
	}
	if value := annotations[corev1.TolerationsAnnotationKey]; value != "" {
		var tolerations []corev1.Toleration
		if err := json.Unmarshal([]byte(value), &tolerations); err != nil {
			errs = append(errs, field.Invalid(path, corev1.TolerationsAnnotationKey, internalText(err)))
		} else {
			errs = append(errs, validateTolerations(path.Child(corev1.TolerationsAnnotationKey), tolerations)...)
		}
	}
	if value, ok := annotations[corev1.PodDeletionCost]; ok && !isDeletionCost(value) {
		errs = append(errs, field.Invalid(path.Key(corev1.PodDeletionCost), value, "must be a 32bit integer"))
	}
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		value := annotations[key]
		if key == corev1.SeccompPodAnnotationKey || strings.HasPrefix(key, corev1.SeccompContainerAnnotationKeyPrefix) {
			errs = append(errs, validateSeccompAnnotation(path.Child(key), value)...)
		}
		if name, ok := strings.CutPrefix(key, corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix); ok {
			errs = append(errs, validateAppArmorAnnotation(path.Key(key), name, value, spec)...)
		}
	}
	return errs
}

// isDeletionCost reports whether value is an integer in its shortest form.
func isDeletionCost(value string) bool {
	n, err := strconv.ParseInt(value, 10, 32)
	return err == nil && strconv.FormatInt(n, 10) == value
}

func validateSeccompAnnotation(path *field.Path, value string) field.ErrorList {
	switch value {
	case corev1.SeccompProfileRuntimeDefault, corev1.DeprecatedSeccompProfileDockerDefault, corev1.SeccompProfileNameUnconfined:
		return nil
	}
	if name, ok := strings.CutPrefix(value, corev1.SeccompLocalhostProfileNamePrefix); ok {
		return relativePath(path, name)
	}
	return field.ErrorList{field.Invalid(path, value, "must be a valid seccomp profile")}
}

func validateAppArmorAnnotation(path *field.Path, container, value string, spec *corev1.PodSpec) field.ErrorList {
	var errs field.ErrorList
	found := false
	eachContainer(nil, spec, func(_ *field.Path, c *corev1.Container) { found = found || c.Name == container })
	if !found {
		errs = append(errs, field.Invalid(path, container, "container not found"))
	}
	switch value {
	case "", corev1.DeprecatedAppArmorBetaProfileRuntimeDefault, corev1.DeprecatedAppArmorBetaProfileNameUnconfined:
		return errs
	}
	if !strings.HasPrefix(value, corev1.DeprecatedAppArmorBetaProfileNamePrefix) {
		errs = append(errs, field.Invalid(path, value, fmt.Sprintf("invalid AppArmor profile name: %q", value)))
	}
	return errs
}

// validateAnnotationsUpdate: what a node or runtime has acted on stays. What is
// wrong with the annotations as they are is told after it (an update tells it
// twice, as upstream does).
func validateAnnotationsUpdate(path *field.Path, pod *corev1.Pod, old map[string]string) field.ErrorList {
	annotations := pod.Annotations
	var errs field.ErrorList
	changed := func(key, verb string) {
		switch {
		case strings.HasPrefix(key, corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix):
			errs = append(errs, field.Forbidden(path.Key(key), "may not "+verb+" AppArmor annotations"))
		case key == corev1.MirrorPodAnnotationKey:
			errs = append(errs, field.Forbidden(path.Key(key), "may not "+verb+" mirror pod annotation"))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(old)) {
		if value, ok := annotations[key]; !ok || value != old[key] {
			changed(key, "remove or update")
		}
	}
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		if _, ok := old[key]; !ok {
			changed(key, "add")
		}
	}
	return append(errs, validatePodAnnotations(path, annotations, &pod.Spec)...)
}

// validateProfilesMatch compares a setting given twice, as an annotation and as
// a field.
func validateProfilesMatch(path *field.Path, annotations map[string]string, spec *corev1.PodSpec) field.ErrorList {
	if len(annotations) == 0 {
		return nil
	}
	var errs field.ErrorList
	var podAppArmor *corev1.AppArmorProfile
	if sc := spec.SecurityContext; sc != nil {
		podAppArmor = sc.AppArmorProfile
		errs = append(errs, matchSeccomp(path.Child("securityContext", "seccompProfile"), annotations, corev1.SeccompPodAnnotationKey, sc.SeccompProfile)...)
	}
	eachContainer(path, spec, func(at *field.Path, c *corev1.Container) {
		appArmor, sc := podAppArmor, c.SecurityContext
		if sc != nil {
			errs = append(errs, matchSeccomp(at.Child("securityContext", "seccompProfile"), annotations, corev1.SeccompContainerAnnotationKeyPrefix+c.Name, sc.SeccompProfile)...)
			if sc.AppArmorProfile != nil {
				appArmor = sc.AppArmorProfile
			}
		}
		if spec.OS == nil || spec.OS.Name != corev1.Windows {
			errs = append(errs, matchAppArmor(at.Child("securityContext", "appArmorProfile"), annotations, c.Name, appArmor)...)
		}
	})
	return errs
}

func matchSeccomp(path *field.Path, annotations map[string]string, key string, p *corev1.SeccompProfile) field.ErrorList {
	value, ok := annotations[key]
	if !ok || p == nil {
		return nil
	}
	name, local := strings.CutPrefix(value, corev1.SeccompLocalhostProfileNamePrefix)
	var same bool
	switch p.Type {
	case corev1.SeccompProfileTypeUnconfined:
		same = value == corev1.SeccompProfileNameUnconfined
	case corev1.SeccompProfileTypeRuntimeDefault:
		same = value == corev1.SeccompProfileRuntimeDefault || value == corev1.DeprecatedSeccompProfileDockerDefault
	case corev1.SeccompProfileTypeLocalhost:
		if same = local; same && (p.LocalhostProfile == nil || *p.LocalhostProfile != name) {
			return field.ErrorList{field.Forbidden(path.Child("localhostProfile"), "seccomp profile in annotation and field must match")}
		}
	default:
		return nil
	}
	if !same {
		return field.ErrorList{field.Forbidden(path.Child("type"), "seccomp type in annotation and field must match")}
	}
	return nil
}

func matchAppArmor(path *field.Path, annotations map[string]string, container string, p *corev1.AppArmorProfile) field.ErrorList {
	value, ok := annotations[corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix+container]
	if !ok || p == nil {
		return nil
	}
	name, local := strings.CutPrefix(value, corev1.DeprecatedAppArmorBetaProfileNamePrefix)
	var same bool
	switch p.Type {
	case corev1.AppArmorProfileTypeUnconfined:
		same = value == corev1.DeprecatedAppArmorBetaProfileNameUnconfined
	case corev1.AppArmorProfileTypeRuntimeDefault:
		same = value == corev1.DeprecatedAppArmorBetaProfileRuntimeDefault
	case corev1.AppArmorProfileTypeLocalhost:
		if same = local; same && (p.LocalhostProfile == nil || *p.LocalhostProfile != name) {
			return field.ErrorList{field.Forbidden(path.Child("localhostProfile"), "apparmor profile in annotation and field must match")}
		}
	default:
		return nil
	}
	if !same {
		return field.ErrorList{field.Forbidden(path.Child("type"), "apparmor type in annotation and field must match")}
	}
	return nil
}
