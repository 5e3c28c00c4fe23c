package agent

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/node/util/sysctl"
)

// forbiddenSysctl says which setting of the kernel the Pod must not make: one that
// is neither safe nor among those allowed, each a name or a prefix with "*", or
// one of a namespace that is the node's own. Nil: all are well. It is pure.
func forbiddenSysctl(pod *corev1.Pod, allowed []string) *refusal {
	if pod.Spec.SecurityContext == nil {
		return nil
	}
	for _, s := range pod.Spec.SecurityContext.Sysctls {
		name := sysctl.NormalizeName(s.Name)
		matches := func(pattern string) bool {
			prefix, open := strings.CutSuffix(sysctl.NormalizeName(pattern), "*")
			return name == prefix || open && strings.HasPrefix(name, prefix)
		}
		space, _, _ := sysctl.GetNamespace(name)
		problem := ""
		switch {
		case !slices.Contains(safeSysctls[:], name) && !slices.ContainsFunc(allowed, matches):
			problem = fmt.Sprintf("%q not allowlisted", name)
		case space == sysctl.IPCNamespace && pod.Spec.HostIPC, space == sysctl.NetNamespace && pod.Spec.HostNetwork:
			problem = fmt.Sprintf("%q not allowed with host %s enabled", name, space)
		}
		if problem != "" {
			return &refusal{Reason: "SysctlForbidden", Message: "forbidden sysctl: " + problem}
		}
	}
	return nil
}
