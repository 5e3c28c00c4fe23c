package node

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

func TestUserNamespaces(t *testing.T) {
	c := shared(t)
	c.configMap("cm", map[string]string{"a": "text\n"})
	here := t.TempDir()
	p := pod("own", "touch /here/root; sleep 1000")
	p.Spec.HostUsers = ptr(false)
	p.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: ptr(int64(3000))}
	mounted(p, "plain", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})
	mounted(p, "memory", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}})
	mounted(p, "conf", corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}}})
	mounted(p, "here", corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: here}})
	user := *p.Spec.Containers[0].DeepCopy()
	user.Name, user.Command = "user", []string{"sh", "-c", "touch /plain/user; sleep 1000"}
	user.SecurityContext = &corev1.SecurityContext{RunAsUser: ptr(int64(1000))}
	p.Spec.Containers = append(p.Spec.Containers, user)
	p = c.startPod(p)

	log := c.kubectl("exec", "own", "-c", "main", "--", "sh", "-c",
		"cat /proc/self/uid_map; id -u; stat -c %u /bin /etc/hosts; touch /bin/new /plain/f /memory/f /dev/shm/f && stat -c %u /bin/new /plain/f; cat /conf/a; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; hostname; mount | grep -c ' /sys '")
	lines := strings.Split(log, "\n")
	fields := strings.Fields(lines[0])
	if len(fields) != 3 || fields[0] != "0" || fields[1] == "0" || fields[2] != "65536" {
		t.Fatalf("mapping %q\n%s", lines[0], log)
	}
	if want := "0\n0\n0\n0\n0\ntext\n0\nown\n1\n"; strings.Join(lines[1:], "\n") != want {
		t.Errorf("inside: %q, want %q", strings.Join(lines[1:], "\n"), want)
	}
	if out, err := c.try("exec", "own", "-c", "main", "--", "sh", "-c", "echo 1 >/proc/sys/kernel/sysrq"); err == nil {
		t.Errorf("the machine's settings can be written: %s", out)
	}
	if log := c.kubectl("exec", "own", "-c", "user", "--", "sh", "-c", "stat -c '%u %g' /plain/user"); log != "1000 3000\n" {
		t.Errorf("a user's file: %q", log)
	}

	t.Log("on the machine the processes are nobody's, and what they write is as if it were without")
	if owner(t, filepath.Join(here, "root")) != 0 {
		t.Error("a file on the host is not root's")
	}
	var pid int
	running, err := c.running()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range p.Status.ContainerStatuses {
		if s.Name == "main" {
			pid = running[strings.TrimPrefix(s.ContainerID, "containerd://")].PID
		}
	}
	if got := fmt.Sprint(owner(t, fmt.Sprintf("/proc/%d", pid))); got != fields[1] {
		t.Errorf("process %d is of user %s, want %s", pid, got, fields[1])
	}

	other := once("other", "cat /proc/self/uid_map")
	other.Spec.HostUsers = ptr(false)
	if _, log := c.finish(other); strings.Fields(log)[1] == fields[1] {
		t.Errorf("two Pods share their IDs: %q", log)
	}
	c.kubectl("delete", "pod", "own")
}

func owner(t *testing.T, path string) uint32 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Uid
}
