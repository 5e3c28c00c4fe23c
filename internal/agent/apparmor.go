package agent

import (
	"fmt"
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/kind"
)

// canConfine says whether this kernel's AppArmor is there and on.
func canConfine() bool {
	if _, err := os.Stat("/sys/kernel/security/apparmor"); err != nil {
		return false
	}
	return strings.HasPrefix(firstFile("/sys/module/apparmor/parameters/enabled"), "Y")
}

// unconfinable says why the node cannot confine the Pod as it wishes. Nil: it can, or
// need not. A profile that the kernel does not hold is its container's problem. It
// is pure.
func unconfinable(pod *corev1.Pod, kernelCan bool) *refusal {
	const reason, message = "AppArmor", "Cannot enforce AppArmor: "
	if !wantsConfinement(pod) {
		return nil
	}
	if !kernelCan {
		return &refusal{Reason: reason, Message: message + "AppArmor is not enabled on the host"}
	}
	for _, c := range containers(&pod.Spec) {
		p := kind.AppArmorProfile(pod, c)
		if p != nil && p.Type == corev1.AppArmorProfileTypeLocalhost && strings.TrimSpace(localProfile(p)) == "" {
			return &refusal{Reason: reason, Message: fmt.Sprintf("%sinvalid empty AppArmor profile name: %q", message, p)}
		}
	}
	return nil
}

// wantsConfinement says whether anything of the Pod names a profile.
func wantsConfinement(pod *corev1.Pod) bool {
	confines := func(p *corev1.AppArmorProfile) bool {
		return p != nil && p.Type != corev1.AppArmorProfileTypeUnconfined
	}
	if s := pod.Spec.SecurityContext; s != nil && confines(s.AppArmorProfile) {
		return true
	}
	for _, c := range containers(&pod.Spec) {
		if s := c.SecurityContext; s != nil && confines(s.AppArmorProfile) {
			return true
		}
	}
	for key, value := range pod.Annotations {
		if strings.HasPrefix(key, corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix) && value != corev1.DeprecatedAppArmorBetaProfileNameUnconfined {
			return true
		}
	}
	return false
}

// appArmor is a container's profile in the runtime's words.
func appArmor(pod *corev1.Pod, c *corev1.Container) (string, error) {
	p := kind.AppArmorProfile(pod, c)
	switch {
	case p == nil:
		return "", nil
	case p.Type == corev1.AppArmorProfileTypeRuntimeDefault:
		return AppArmorDefault, nil
	case p.Type == corev1.AppArmorProfileTypeUnconfined:
		return AppArmorUnconfined, nil
	case p.Type != corev1.AppArmorProfileTypeLocalhost:
		return "", fmt.Errorf("unknown apparmor profile type: %q", p.Type)
	case p.LocalhostProfile == nil:
		return "", fmt.Errorf("missing localhost apparmor profile name")
	}
	return AppArmorLocal + *p.LocalhostProfile, nil
}

func localProfile(p *corev1.AppArmorProfile) string {
	if p.LocalhostProfile == nil {
		return ""
	}
	return *p.LocalhostProfile
}

// containers are all of a Pod, of every sort.
func containers(s *corev1.PodSpec) []*corev1.Container {
	var out []*corev1.Container
	for _, list := range [][]corev1.Container{s.InitContainers, s.Containers} {
		for i := range list {
			out = append(out, &list[i])
		}
	}
	for i := range s.EphemeralContainers {
		out = append(out, asContainer(&s.EphemeralContainers[i]))
	}
	return out
}
