package agent

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// security is what applies to one container: its own settings over those of
// the Pod.
type security struct {
	RunAsUser, RunAsGroup *int64
	RunAsNonRoot          bool
	Seccomp               *corev1.SeccompProfile
	Own                   corev1.SecurityContext
	Pod                   corev1.PodSecurityContext
}

func effectiveSecurity(pod *corev1.Pod, c *corev1.Container) security {
	var s security
	if pod.Spec.SecurityContext != nil {
		s.Pod = *pod.Spec.SecurityContext
	}
	if c.SecurityContext != nil {
		s.Own = *c.SecurityContext
	}
	s.RunAsUser, s.RunAsGroup, s.Seccomp = s.Pod.RunAsUser, s.Pod.RunAsGroup, s.Pod.SeccompProfile
	nonRoot := s.Pod.RunAsNonRoot
	if s.Own.RunAsUser != nil {
		s.RunAsUser = s.Own.RunAsUser
	}
	if s.Own.RunAsGroup != nil {
		s.RunAsGroup = s.Own.RunAsGroup
	}
	if s.Own.RunAsNonRoot != nil {
		nonRoot = s.Own.RunAsNonRoot
	}
	if s.Own.SeccompProfile != nil {
		s.Seccomp = s.Own.SeccompProfile
	}
	s.RunAsNonRoot = isTrue(nonRoot)
	return s
}

// checkNonRoot refuses a container that would run as root against its Pod's
// word.
func (s security) checkNonRoot(pod *corev1.Pod, c *corev1.Container, imageUser string) error {
	if !s.RunAsNonRoot {
		return nil
	}
	if s.RunAsUser != nil {
		if *s.RunAsUser == 0 {
			return fmt.Errorf("container's runAsUser breaks non-root policy (pod: %q, container: %s)", podName(pod), c.Name)
		}
		return nil
	}
	name, _, _ := strings.Cut(imageUser, ":")
	if name == "" {
		return fmt.Errorf("container has runAsNonRoot and image will run as root (pod: %q, container: %s)", podName(pod), c.Name)
	}
	uid, err := strconv.ParseInt(name, 10, 64)
	switch {
	case err != nil:
		return fmt.Errorf("container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root (pod: %q, container: %s)", name, podName(pod), c.Name)
	case uid == 0:
		return fmt.Errorf("container has runAsNonRoot and image will run as root (pod: %q, container: %s)", podName(pod), c.Name)
	}
	return nil
}

// user is whom the container runs as. Names, and the groups the image lists,
// are for the runtime to look up.
func (s security) user(imageUser string) User {
	u := User{Spec: imageUser}
	if s.RunAsUser != nil {
		u.Spec = strconv.FormatInt(*s.RunAsUser, 10)
	}
	if u.Spec == "" {
		u.Spec = "0"
	}
	name, group, _ := strings.Cut(u.Spec, ":")
	if s.RunAsGroup != nil {
		group = strconv.FormatInt(*s.RunAsGroup, 10)
		u.Spec = name + ":" + group
	}
	// What is a number is known already.
	u.UID, _ = strconv.ParseInt(name, 10, 64)
	u.GID, _ = strconv.ParseInt(group, 10, 64)
	u.Groups = slices.Clone(s.Pod.SupplementalGroups)
	if g := s.Pod.FSGroup; g != nil && !slices.Contains(u.Groups, *g) {
		u.Groups = append(u.Groups, *g)
	}
	u.Strict = s.Pod.SupplementalGroupsPolicy != nil &&
		*s.Pod.SupplementalGroupsPolicy == corev1.SupplementalGroupsPolicyStrict
	return u
}

// seccomp is the profile in the runtime's words. Without one a container is
// not confined, as upstream has it, unless the node says that it is.
func (s security) seccomp(profiles string, confine bool) string {
	switch {
	case isTrue(s.Own.Privileged):
		return "unconfined"
	case s.Seccomp == nil && confine, s.Seccomp != nil && s.Seccomp.Type == corev1.SeccompProfileTypeRuntimeDefault:
		return ""
	case s.Seccomp != nil && s.Seccomp.Type == corev1.SeccompProfileTypeLocalhost && s.Seccomp.LocalhostProfile != nil:
		return filepath.Join(profiles, *s.Seccomp.LocalhostProfile)
	}
	return "unconfined"
}

func capabilities(list []corev1.Capability) []string {
	var out []string
	for _, c := range list {
		out = append(out, strings.TrimPrefix(strings.ToUpper(string(c)), "CAP_"))
	}
	return out
}

// safeSysctls are those that a Pod may set, being its own alone.
var safeSysctls = [...]string{
	"kernel.shm_rmid_forced",
	"net.ipv4.ip_local_port_range",
	"net.ipv4.tcp_syncookies",
	"net.ipv4.ping_group_range",
	"net.ipv4.ip_unprivileged_port_start",
	"net.ipv4.ip_local_reserved_ports",
	"net.ipv4.tcp_keepalive_time",
	"net.ipv4.tcp_fin_timeout",
	"net.ipv4.tcp_keepalive_intvl",
	"net.ipv4.tcp_keepalive_probes",
	"net.ipv4.tcp_rmem",
	"net.ipv4.tcp_wmem",
}

// sysctls are the Pod's, over what containerd gives Pods with a network of
// their own: any port and ping without privileges.
func sysctls(pod *corev1.Pod) map[string]string {
	out := map[string]string{}
	if !pod.Spec.HostNetwork {
		out["net.ipv4.ip_unprivileged_port_start"] = "0"
		if !ownUsers(pod) { // not all of these groups are the Pod's
			out["net.ipv4.ping_group_range"] = "0 2147483647"
		}
	}
	if pod.Spec.SecurityContext != nil {
		for _, s := range pod.Spec.SecurityContext.Sysctls {
			out[strings.ReplaceAll(s.Name, "/", ".")] = s.Value
		}
	}
	return out
}
