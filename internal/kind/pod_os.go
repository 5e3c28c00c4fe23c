package kind

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateOS checks that a Pod which names its operating system has nothing
// that only the other one knows.
func validateOS(path *field.Path, spec *corev1.PodSpec) field.ErrorList {
	if spec.OS == nil {
		return nil
	}
	at := path.Child("os")
	switch spec.OS.Name {
	case "":
		return field.ErrorList{field.Required(at.Child("name"), "")}
	case corev1.Linux:
		return refuseWindowsOptions(path, spec)
	case corev1.Windows:
		return refuseLinuxFields(path, spec)
	}
	return field.ErrorList{field.NotSupported(at, spec.OS.Name, []corev1.OSName{corev1.Linux, corev1.Windows})}
}

func refuseWindowsOptions(path *field.Path, spec *corev1.PodSpec) field.ErrorList {
	const why = "windows options cannot be set for a linux pod"
	var errs field.ErrorList
	if spec.SecurityContext != nil && spec.SecurityContext.WindowsOptions != nil {
		errs = append(errs, field.Forbidden(path.Child("securityContext", "windowsOptions"), why))
	}
	eachContainer(path, spec, func(at *field.Path, c *corev1.Container) {
		if c.SecurityContext != nil && c.SecurityContext.WindowsOptions != nil {
			errs = append(errs, field.Forbidden(at.Child("securityContext", "windowsOptions"), why))
		}
	})
	return errs
}

func refuseLinuxFields(path *field.Path, spec *corev1.PodSpec) field.ErrorList {
	const why = "cannot be set for a windows pod"
	var errs field.ErrorList
	refuse := func(at *field.Path, set bool) {
		if set {
			errs = append(errs, field.Forbidden(at, why))
		}
	}
	if sc := spec.SecurityContext; sc != nil {
		at := path.Child("securityContext")
		refuse(at.Child("appArmorProfile"), sc.AppArmorProfile != nil)
		refuse(at.Child("seLinuxOptions"), sc.SELinuxOptions != nil)
		refuse(path.Child("hostUsers"), spec.HostUsers != nil)
		refuse(path.Child("hostPID"), spec.HostPID)
		refuse(path.Child("hostIPC"), spec.HostIPC)
		refuse(at.Child("seccompProfile"), sc.SeccompProfile != nil)
		refuse(at.Child("fsGroup"), sc.FSGroup != nil)
		refuse(at.Child("fsGroupChangePolicy"), sc.FSGroupChangePolicy != nil)
		refuse(at.Child("sysctls"), len(sc.Sysctls) > 0)
		refuse(path.Child("shareProcessNamespace"), spec.ShareProcessNamespace != nil)
		refuse(at.Child("runAsUser"), sc.RunAsUser != nil)
		refuse(at.Child("runAsGroup"), sc.RunAsGroup != nil)
		refuse(at.Child("supplementalGroups"), sc.SupplementalGroups != nil)
		refuse(at.Child("supplementalGroupsPolicy"), sc.SupplementalGroupsPolicy != nil)
		refuse(at.Child("seLinuxChangePolicy"), sc.SELinuxChangePolicy != nil)
	}
	eachContainer(path, spec, func(at *field.Path, c *corev1.Container) {
		sc, at := c.SecurityContext, at.Child("securityContext")
		if sc == nil {
			return
		}
		refuse(at.Child("appArmorProfile"), sc.AppArmorProfile != nil)
		refuse(at.Child("seLinuxOptions"), sc.SELinuxOptions != nil)
		refuse(at.Child("seccompProfile"), sc.SeccompProfile != nil)
		refuse(at.Child("capabilities"), sc.Capabilities != nil)
		refuse(at.Child("readOnlyRootFilesystem"), sc.ReadOnlyRootFilesystem != nil)
		refuse(at.Child("privileged"), sc.Privileged != nil)
		refuse(at.Child("allowPrivilegeEscalation"), sc.AllowPrivilegeEscalation != nil)
		refuse(at.Child("procMount"), sc.ProcMount != nil)
		refuse(at.Child("runAsUser"), sc.RunAsUser != nil)
		refuse(at.Child("runAsGroup"), sc.RunAsGroup != nil)
	})
	return errs
}
