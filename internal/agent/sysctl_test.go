package agent

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestForbiddenSysctl(t *testing.T) {
	allowed := []string{"kernel.msg*", "net.core.somaxconn"}
	network, ipc := func(p *corev1.Pod) { p.Spec.HostNetwork = true }, func(p *corev1.Pod) { p.Spec.HostIPC = true }
	for _, c := range []struct {
		name string
		pod  func(*corev1.Pod)
		want string
	}{
		{"net.ipv4.tcp_syncookies", nil, ""},
		{"net/ipv4/tcp_syncookies", nil, ""},
		{"kernel.msgmax", nil, ""},
		{"net.core.somaxconn", nil, ""},
		{"net.core.somaxconn2", nil, `forbidden sysctl: "net.core.somaxconn2" not allowlisted`},
		{"kernel.sem", nil, `forbidden sysctl: "kernel.sem" not allowlisted`},
		{"net.ipv4.tcp_syncookies", network, `forbidden sysctl: "net.ipv4.tcp_syncookies" not allowed with host Net enabled`},
		{"kernel.msgmax", ipc, `forbidden sysctl: "kernel.msgmax" not allowed with host IPC enabled`},
		{"kernel.msgmax", network, ""},
	} {
		pod := webPod(func(p *corev1.Pod) {
			p.Spec.SecurityContext = &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: c.name, Value: "1"}}}
		})
		if c.pod != nil {
			c.pod(pod)
		}
		got := ""
		if r := forbiddenSysctl(pod, allowed); r != nil {
			got = r.Message
			if r.Reason != "SysctlForbidden" {
				t.Errorf("reason %s", r.Reason)
			}
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
