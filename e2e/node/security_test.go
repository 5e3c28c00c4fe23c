package node

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// secure runs a script with the container's security settings, and returns its
// log.
func (c *cluster) secure(name, script string, s corev1.SecurityContext) string {
	c.t.Helper()
	p := once(name, script)
	p.Spec.Containers[0].SecurityContext = &s
	_, log := c.finish(p)
	return log
}

func TestUsersAndGroups(t *testing.T) {
	c := shared(t)
	p := once("user", "id -u; id -g; id -G; stat -c '%g %A' /plain; touch /plain/f; stat -c '%u %g' /plain/f; cat /conf/a && ls -ln /conf/..data/a; cat /var/run/secrets/kubernetes.io/serviceaccount/token | wc -l")
	p.Spec.SecurityContext = &corev1.PodSecurityContext{
		RunAsUser: ptr(int64(1000)), RunAsGroup: ptr(int64(2000)), FSGroup: ptr(int64(3000)), SupplementalGroups: []int64{4000},
	}
	c.configMap("cm", map[string]string{"a": "text\n"})
	mounted(p, "plain", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})
	mounted(p, "conf", corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}, DefaultMode: ptr(int32(0o400))}})
	p, log := c.finish(p)
	c.mustContain(log, "1000\n2000\n2000 3000 4000\n3000 drwxrwsrwx\n1000 3000\ntext\n-r--r-----")
	if p.Status.Phase != corev1.PodSucceeded {
		t.Errorf("phase %s: %s", p.Status.Phase, log)
	}
	if u := mainStatus(p).User; u == nil || u.Linux == nil || u.Linux.UID != 1000 || fmt.Sprint(u.Linux.SupplementalGroups) != "[2000 4000 3000]" {
		t.Errorf("the status has the user %+v", u)
	}

	if log := c.secure("root", "id -u; id -g", corev1.SecurityContext{}); log != "0\n0\n" {
		t.Errorf("by default: %q", log)
	}
	p = pod("refused", "id")
	p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{RunAsNonRoot: ptr(true)}
	c.create(p)
	p = c.awaitPod("refused", func(p *corev1.Pod) bool {
		w := mainStatus(p).State.Waiting
		return w != nil && w.Reason == "CreateContainerConfigError"
	})
	c.mustContain(mainStatus(p).State.Waiting.Message, "container has runAsNonRoot and image will run as root")
}

func TestCapabilities(t *testing.T) {
	c := shared(t)
	const show = "grep -E 'CapEff|CapBnd|NoNewPrivs|Seccomp:' /proc/self/status"
	c.mustContain(c.secure("default", show, corev1.SecurityContext{}),
		"CapEff:\t00000000a80425fb", "CapBnd:\t00000000a80425fb", "NoNewPrivs:\t0", "Seccomp:\t0")
	c.mustContain(c.secure("none", show, corev1.SecurityContext{
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}, AllowPrivilegeEscalation: ptr(false),
	}), "CapEff:\t0000000000000000", "NoNewPrivs:\t1")
	c.mustContain(c.secure("admin", show, corev1.SecurityContext{
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_ADMIN"}},
	}), "CapEff:\t0000000000001000")
	c.mustContain(c.secure("user", show, corev1.SecurityContext{RunAsUser: ptr(int64(1000))}),
		"CapEff:\t0000000000000000", "CapBnd:\t00000000a80425fb")
}

func TestPrivileged(t *testing.T) {
	c := shared(t)
	log := c.secure("privileged", "grep CapEff /proc/self/status; mount -t tmpfs none /tmp && echo mounted; test -e /dev/kmsg && echo devices; mount | grep ' /sys ' | grep -c '(rw'",
		corev1.SecurityContext{Privileged: ptr(true)})
	c.mustContain(log, "fffff", "mounted\n", "devices\n", "1\n")
	log = c.secure("plain", "mount -t tmpfs none /tmp 2>&1; test -e /dev/kmsg || echo no devices; touch /proc/sys/kernel/hostname 2>&1",
		corev1.SecurityContext{})
	c.mustContain(log, "ermi", "no devices", "Read-only file system")
}

func TestReadOnlyRoot(t *testing.T) {
	c := shared(t)
	p := once("fixed", "touch /x 2>&1; touch /tmp/y && echo written")
	p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{ReadOnlyRootFilesystem: ptr(true)}
	mounted(p, "tmp", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})
	_, log := c.finish(p)
	c.mustContain(log, "Read-only file system", "written")
}

func TestMemoryLimit(t *testing.T) {
	c := shared(t)
	p := once("hungry", "box alloc 200; exit $?") // the child is killed, and the shell with it or after it
	p.Spec.Containers[0].Command = []string{"box", "alloc", "200"}
	p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("48Mi")}
	p, log := c.finish(p)
	if s := mainStatus(p).State.Terminated; p.Status.Phase != corev1.PodFailed || s.Reason != "OOMKilled" || s.ExitCode != 137 {
		t.Errorf("phase %s, ended %+v, log %q", p.Status.Phase, s, log)
	}
	if p.Status.QOSClass != corev1.PodQOSBurstable {
		t.Errorf("class %s", p.Status.QOSClass)
	}
	p = once("modest", "")
	p.Spec.Containers[0].Command = []string{"box", "alloc", "10"}
	p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("48Mi"), corev1.ResourceCPU: resource.MustParse("1")}
	if p, log := c.finish(p); p.Status.Phase != corev1.PodSucceeded || log != "10 MiB\n" || p.Status.QOSClass != corev1.PodQOSGuaranteed {
		t.Errorf("phase %s, class %s, log %q", p.Status.Phase, p.Status.QOSClass, log)
	}
}

func TestHostNamespaces(t *testing.T) {
	c := shared(t)
	p := once("pid", "tr '\\0' ' ' </proc/*/cmdline | grep -c 'skiff server' ; cat /proc/*/cmdline | tr '\\0' ' ' | grep -c -- --data-dir")
	p.Spec.HostPID = true
	_, log := c.finish(p)
	if strings.HasSuffix(strings.TrimSpace(log), "\n0") || log == "" {
		t.Errorf("the machine's processes are not seen: %q", log)
	}
	_, log = c.finish(once("own", "ls -d /proc/[0-9]* | wc -l"))
	if n := strings.TrimSpace(log); len(n) != 1 {
		t.Errorf("%s processes seen", n)
	}
}
