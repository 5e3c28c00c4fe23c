package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// mountedDir is a directory on the host with another file system mounted in it,
// for as long as the test.
func mountedDir(t *testing.T, flags uintptr) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if err := unix.Mount("", dir, "", flags, ""); err != nil {
		t.Fatal(err)
	}
	inner := filepath.Join(dir, "inner")
	if err := os.Mkdir(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", inner, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestRecursiveReadOnlyMounts(t *testing.T) {
	c := shared(t)
	dir := mountedDir(t, unix.MS_PRIVATE)
	p := once("ro", "for v in plain possible enabled; do touch /$v/x 2>/dev/null && echo $v; touch /$v/inner/$v 2>/dev/null && echo $v/inner; done; true")
	for name, mode := range map[string]corev1.RecursiveReadOnlyMode{
		"plain": corev1.RecursiveReadOnlyDisabled, "possible": corev1.RecursiveReadOnlyIfPossible, "enabled": corev1.RecursiveReadOnlyEnabled,
	} {
		m := mounted(p, name, corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: dir}})
		m.ReadOnly, m.RecursiveReadOnly = true, &mode
	}
	p, log := c.finish(p)
	if log != "plain/inner\n" {
		t.Errorf("written: %q", log)
	}
	for _, m := range mainStatus(p).VolumeMounts {
		want := corev1.RecursiveReadOnlyEnabled
		switch m.Name {
		case "plain":
			want = corev1.RecursiveReadOnlyDisabled
		case "possible", "enabled":
		default:
			continue
		}
		if m.RecursiveReadOnly == nil || *m.RecursiveReadOnly != want {
			t.Errorf("status of %s: %v", m.Name, m.RecursiveReadOnly)
		}
	}
}

func TestMountPropagation(t *testing.T) {
	c := shared(t)
	dir := mountedDir(t, unix.MS_SHARED)
	p := pod("spread", "sleep 1000")
	p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: ptr(true)}
	source := corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: dir}}
	mounted(p, "both", source).MountPropagation = ptr(corev1.MountPropagationBidirectional)
	mounted(p, "in", source).MountPropagation = ptr(corev1.MountPropagationHostToContainer)
	mounted(p, "none", source)
	mounted(p, "own", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}).MountPropagation = ptr(corev1.MountPropagationBidirectional)
	other := *p.Spec.Containers[0].DeepCopy()
	other.Name, other.SecurityContext = "other", nil
	other.VolumeMounts = []corev1.VolumeMount{{Name: "own", MountPath: "/own", MountPropagation: ptr(corev1.MountPropagationHostToContainer)}}
	p.Spec.Containers = append(p.Spec.Containers, other)
	c.startPod(p)
	c.exec("spread", "mkdir /both/made /own/made && mount -t tmpfs none /both/made && mount -t tmpfs none /own/made && touch /both/made/f /own/made/f")
	if _, err := os.Stat(filepath.Join(dir, "made", "f")); err != nil {
		t.Errorf("the container's mount does not reach the host: %v", err)
	}
	if log := c.exec("spread", "ls /in/made /none/made"); !strings.HasSuffix(log, "/in/made:\nf\n\n/none/made:\n") {
		t.Errorf("within the Pod: %q", log)
	}
	if log := c.kubectl("exec", "spread", "-c", "other", "--", "ls", "/own/made"); log != "f\n" {
		t.Errorf("in the other container: %q", log)
	}
	c.exec("spread", "umount /both/made /own/made")

	refused := pod("refused", "sleep 1000")
	refused.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: ptr(true)}
	private := mountedDir(t, unix.MS_PRIVATE)
	mounted(refused, "both", corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: private}}).MountPropagation = ptr(corev1.MountPropagationBidirectional)
	c.create(refused)
	refused = c.awaitPod("refused", waitingFor("CreateContainerError"))
	c.mustContain(mainStatus(refused).State.Waiting.Message, `path "`+private+`" is mounted on "`+private+`" but it is not a shared mount`)
}

func TestVariablesFromFiles(t *testing.T) {
	c := shared(t)
	p := once("vars", "echo \"$A:$B\"")
	mounted(p, "conf", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})
	first := *p.Spec.Containers[0].DeepCopy()
	first.Name, first.Command = "write", []string{"sh", "-c", `printf "# made here\nA='one\ntwo' # why\n" >/conf/env`}
	p.Spec.InitContainers = []corev1.Container{first}
	key := func(name string, optional bool) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{FileKeyRef: &corev1.FileKeySelector{VolumeName: "conf", Path: "env", Key: name, Optional: &optional}}
	}
	p.Spec.Containers[0].VolumeMounts = nil
	p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "A", ValueFrom: key("A", false)}, {Name: "B", ValueFrom: key("B", true)}}
	bad := p.DeepCopy()
	if _, log := c.finish(p); log != "one\ntwo:\n" {
		t.Errorf("log %q", log)
	}
	bad.Name = "bad"
	bad.Spec.Containers[0].Env[1].ValueFrom = key("B", false)
	c.create(bad)
	bad = c.awaitPod("bad", waitingFor("CreateContainerConfigError"))
	c.mustContain(mainStatus(bad).State.Waiting.Message, `environment variable key "B" not found in file`)
}

// A machine with a few huge pages, which nobody else gets as long as the test
// runs.
func TestHugePages(t *testing.T) {
	t.Parallel()
	const file = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
	before, err := os.ReadFile(file)
	if err != nil {
		t.Skipf("a kernel without huge pages: %v", err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(file, before, 0o644); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(file, []byte("4"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(got)) != "4" {
		t.Skipf("the kernel has no memory for huge pages: %s %v", got, err)
	}
	c := ownCluster(t)
	asking := func(name, amount string) *corev1.Pod {
		p := once(name, "grep hugetlbfs /proc/mounts")
		mounted(p, "pages", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: "HugePages-2Mi"}})
		list := corev1.ResourceList{"hugepages-2Mi": resource.MustParse(amount), "memory": resource.MustParse("32Mi")}
		p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Limits: list, Requests: list}
		return p
	}
	_, log := c.finish(asking("huge", "4Mi"))
	c.mustContain(log, " /pages hugetlbfs rw", "pagesize=2M")
	c.create(asking("greedy", "16Mi"))
	c.awaitEvent("greedy", "FailedScheduling", "Insufficient hugepages-2Mi")
}
