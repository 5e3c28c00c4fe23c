package kind

import (
	"fmt"
	"regexp"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/component-helpers/node/util/sysctl"
)

// validatePodSecurity checks what holds for all containers of a Pod.
func (of podIdentity) validatePodSecurity(path *field.Path, spec *corev1.PodSpec) field.ErrorList {
	sc, at := spec.SecurityContext, path.Child("securityContext")
	if sc == nil {
		return nil
	}
	var errs field.ErrorList
	if sc.FSGroup != nil {
		errs = append(errs, invalidEach(at.Child("fsGroup"), *sc.FSGroup, validation.IsValidGroupID(*sc.FSGroup))...)
	}
	errs = append(errs, validateIDs(at, sc.RunAsUser, sc.RunAsGroup)...)
	for i, gid := range sc.SupplementalGroups {
		errs = append(errs, invalidEach(at.Child("supplementalGroups").Index(i), gid, validation.IsValidGroupID(gid))...)
	}
	if isTrue(spec.ShareProcessNamespace) && spec.HostPID {
		errs = append(errs, field.Invalid(at.Child("shareProcessNamespace"), true, "ShareProcessNamespace and HostPID cannot both be enabled"))
	}
	errs = append(errs, validateSysctls(at.Child("sysctls"), spec)...)
	if sc.FSGroupChangePolicy != nil {
		errs = append(errs, oneOf(at.Child("fsGroupChangePolicy"), *sc.FSGroupChangePolicy, corev1.FSGroupChangeAlways, corev1.FSGroupChangeOnRootMismatch)...)
	}
	errs = append(errs, validateSeccomp(at.Child("seccompProfile"), sc.SeccompProfile)...)
	errs = append(errs, validateWindowsOptions(at.Child("windowsOptions"), sc.WindowsOptions)...)
	errs = append(errs, validateAppArmor(at.Child("appArmorProfile"), sc.AppArmorProfile)...)
	if sc.SupplementalGroupsPolicy != nil {
		errs = append(errs, oneOf(at.Child("supplementalGroupsPolicy"), *sc.SupplementalGroupsPolicy, corev1.SupplementalGroupsPolicyMerge, corev1.SupplementalGroupsPolicyStrict)...)
	}
	return append(errs, of.validateSELinuxChange(at.Child("seLinuxChangePolicy"), sc.SELinuxChangePolicy)...)
}

// validateSELinuxChange: mounting with a label is known to 1.36 but off
// (SELinuxMount is beta), and then only to be had by changing another choice.
func (of podIdentity) validateSELinuxChange(path *field.Path, policy *corev1.PodSELinuxChangePolicy) field.ErrorList {
	if policy == nil {
		return nil
	}
	if of.old != nil && of.old.SecurityContext != nil && of.old.SecurityContext.SELinuxChangePolicy != nil {
		return oneOf(path, *policy, corev1.SELinuxChangePolicyMountOption, corev1.SELinuxChangePolicyRecursive)
	}
	return oneOf(path, *policy, corev1.SELinuxChangePolicyRecursive)
}

func validateIDs(path *field.Path, user, group *int64) field.ErrorList {
	var errs field.ErrorList
	if user != nil {
		errs = append(errs, invalidEach(path.Child("runAsUser"), *user, validation.IsValidUserID(*user))...)
	}
	if group != nil {
		errs = append(errs, invalidEach(path.Child("runAsGroup"), *group, validation.IsValidGroupID(*group))...)
	}
	return errs
}

// validateSecurityContext checks what holds for one container. hostUsers is
// false where the Pod has a user namespace of its own.
func validateSecurityContext(path *field.Path, sc *corev1.SecurityContext, hostUsers bool) field.ErrorList {
	if sc == nil {
		return nil
	}
	errs := validateIDs(path, sc.RunAsUser, sc.RunAsGroup)
	if sc.ProcMount != nil {
		at := path.Child("procMount")
		errs = append(errs, oneOf(at, *sc.ProcMount, corev1.DefaultProcMount, corev1.UnmaskedProcMount)...)
		if hostUsers && *sc.ProcMount == corev1.UnmaskedProcMount {
			errs = append(errs, field.Invalid(at, sc.ProcMount, "`hostUsers` must be false to use `Unmasked`"))
		}
	}
	errs = append(errs, validateSeccomp(path.Child("seccompProfile"), sc.SeccompProfile)...)
	errs = append(errs, validateEscalation(path, sc)...)
	errs = append(errs, validateWindowsOptions(path.Child("windowsOptions"), sc.WindowsOptions)...)
	return append(errs, validateAppArmor(path.Child("appArmorProfile"), sc.AppArmorProfile)...)
}

// validateEscalation refuses to forbid more privileges to who has them all.
func validateEscalation(path *field.Path, sc *corev1.SecurityContext) field.ErrorList {
	if sc.AllowPrivilegeEscalation == nil || *sc.AllowPrivilegeEscalation {
		return nil
	}
	var errs field.ErrorList
	if isTrue(sc.Privileged) {
		errs = append(errs, field.Invalid(path, untagged{sc}, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"))
	}
	if sc.Capabilities != nil {
		for _, capability := range sc.Capabilities.Add {
			if capability == "CAP_SYS_ADMIN" {
				errs = append(errs, field.Invalid(path, untagged{sc}, "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"))
			}
		}
	}
	return errs
}

// sysctlName is a name in segments that dots or slashes divide.
var sysctlName = sync.OnceValue(func() *regexp.Regexp {
	const segment = "[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
	return regexp.MustCompile("^(" + segment + `[\./])*` + segment + "$")
})

func validateSysctls(path *field.Path, spec *corev1.PodSpec) field.ErrorList {
	const longest = 253
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, s := range spec.SecurityContext.Sysctls {
		at := path.Index(i).Child("name")
		switch {
		case s.Name == "":
			errs = append(errs, field.Required(at, ""))
		case len(s.Name) > longest || !sysctlName().MatchString(s.Name):
			errs = append(errs, field.Invalid(at, s.Name, fmt.Sprintf("must have at most %d characters and match regex %s", longest, sysctlName())))
		case seen[s.Name]:
			errs = append(errs, field.Duplicate(at, s.Name))
		}
		seen[s.Name] = true
		namespace, _, _ := sysctl.GetNamespace(s.Name)
		switch {
		case spec.HostNetwork && namespace == sysctl.NetNamespace:
			errs = append(errs, field.Invalid(at, s.Name, "may not be specified when 'hostNetwork' is true"))
		case spec.HostIPC && namespace == sysctl.IPCNamespace:
			errs = append(errs, field.Invalid(at, s.Name, "may not be specified when 'hostIPC' is true"))
		}
	}
	return errs
}

func validateSeccomp(path *field.Path, p *corev1.SeccompProfile) field.ErrorList {
	if p == nil {
		return nil
	}
	var errs field.ErrorList
	if p.Type == "" {
		errs = append(errs, field.Required(path.Child("type"), "type is required when seccompProfile is set"))
	} else {
		errs = append(errs, oneOf(path.Child("type"), p.Type,
			corev1.SeccompProfileTypeLocalhost, corev1.SeccompProfileTypeRuntimeDefault, corev1.SeccompProfileTypeUnconfined)...)
	}
	at, local := path.Child("localhostProfile"), p.Type == corev1.SeccompProfileTypeLocalhost
	switch {
	case local && p.LocalhostProfile == nil:
		errs = append(errs, field.Required(at, "must be set when seccomp type is Localhost"))
	case local:
		errs = append(errs, relativePath(at, *p.LocalhostProfile)...)
	case p.LocalhostProfile != nil:
		errs = append(errs, field.Invalid(at, untagged{p}, "can only be set when seccomp type is Localhost"))
	}
	return errs
}

func validateAppArmor(path *field.Path, p *corev1.AppArmorProfile) field.ErrorList {
	if p == nil {
		return nil
	}
	at := path.Child("localhostProfile")
	switch p.Type {
	case corev1.AppArmorProfileTypeLocalhost:
		return validateAppArmorName(at, p.LocalhostProfile)
	case corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined:
		if p.LocalhostProfile != nil {
			return field.ErrorList{field.Invalid(at, p.LocalhostProfile, "can only be set when AppArmor type is Localhost")}
		}
		return nil
	case "":
		return field.ErrorList{field.Required(path.Child("type"), "type is required when appArmorProfile is set")}
	}
	return oneOf(path.Child("type"), p.Type,
		corev1.AppArmorProfileTypeLocalhost, corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined)
}

func validateAppArmorName(path *field.Path, name *string) field.ErrorList {
	const longest = 4095 // PATH_MAX less the terminating zero
	const needed = "must be set when AppArmor type is Localhost"
	if name == nil {
		return field.ErrorList{field.Required(path, needed)}
	}
	var errs field.ErrorList
	if trimmed := strings.TrimSpace(*name); trimmed != *name {
		errs = append(errs, field.Invalid(path, *name, "must not be padded with whitespace"))
	} else if trimmed == "" {
		errs = append(errs, field.Required(path, needed))
	}
	if len(*name) > longest {
		errs = append(errs, field.TooLong(path, "", longest))
	}
	return errs
}
