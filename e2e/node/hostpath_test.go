package node

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// hostDir is a directory of the host with something of each kind.
func hostDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(base, "host-") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("from the host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	if err := unix.Mknod(filepath.Join(dir, "block"), unix.S_IFBLK|0o600, int(unix.Mkdev(7, 200))); err != nil {
		t.Fatal(err)
	}
	return dir
}

func hostPath(path string, kind corev1.HostPathType) corev1.VolumeSource {
	return corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path, Type: &kind}}
}

// What is mounted from the host is of the kind that is asked for, or made where that may
// be; else the Pod says what is wrong.
func TestHostPaths(t *testing.T) {
	c := shared(t)
	dir := hostDir(t)
	p := once("all", `cat /file; echo back >/dir/answer; test -S /socket && echo socket; test -c /character && echo character; test -b /block && echo block
ls -d /made /any; echo x >/empty; stat -c %a /made /empty`)
	for name, source := range map[string]corev1.VolumeSource{
		"file":      hostPath(dir+"/file", corev1.HostPathFile),
		"dir":       hostPath(dir+"/dir", corev1.HostPathDirectory),
		"socket":    hostPath(dir+"/socket", corev1.HostPathSocket),
		"character": hostPath("/dev/null", corev1.HostPathCharDev),
		"block":     hostPath(dir+"/block", corev1.HostPathBlockDev),
		"made":      hostPath(dir+"/deep/made", corev1.HostPathDirectoryOrCreate),
		"empty":     hostPath(dir+"/empty", corev1.HostPathFileOrCreate),
		"any":       hostPath(dir+"/any", corev1.HostPathUnset),
	} {
		mounted(p, name, source)
	}
	if _, log := c.finish(p); log != "from the host\nsocket\ncharacter\nblock\n/any\n/made\n755\n644\n" {
		t.Errorf("log %q", log)
	}
	for file, want := range map[string]string{"dir/answer": "back\n", "empty": "x\n"} {
		if data, err := os.ReadFile(filepath.Join(dir, file)); string(data) != want {
			t.Errorf("on the host: %q %v", data, err)
		}
	}
	for name, bad := range map[string]struct {
		kind       corev1.HostPathType
		path, says string
	}{
		"absent":       {corev1.HostPathDirectory, "/absent", "hostPath type check failed: " + dir + "/absent is not a directory"},
		"no-directory": {corev1.HostPathDirectoryOrCreate, "/file", "hostPath type check failed: " + dir + "/file is not a directory"},
		"no-file":      {corev1.HostPathFile, "/dir", "hostPath type check failed: " + dir + "/dir is not a file"},
		"no-parent":    {corev1.HostPathFileOrCreate, "/none/file", "open " + dir + "/none/file: no such file or directory"},
		"no-socket":    {corev1.HostPathSocket, "/file", "hostPath type check failed: " + dir + "/file is not a socket file"},
		"no-character": {corev1.HostPathCharDev, "/block", "hostPath type check failed: " + dir + "/block is not a character device"},
		"no-block":     {corev1.HostPathBlockDev, "/file", "hostPath type check failed: " + dir + "/file is not a block device"},
	} {
		p := pod(name, "true")
		mounted(p, "v", hostPath(dir+bad.path, bad.kind))
		c.create(p)
		c.awaitEvent(name, "FailedMount", `MountVolume.SetUp failed for volume "v" : `+bad.says)
	}
}

// A part of a volume is found through links that stay inside, and through no others,
// whoever made them.
func TestSubPathsAndLinks(t *testing.T) {
	c := shared(t)
	dir := hostDir(t)
	for name, target := range map[string]string{"current": dir + "/dir", "out": "/etc"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "dir", "passwd"), []byte("the Pod's own\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	asking := func(name string, source corev1.VolumeSource) *corev1.Pod {
		p := once(name, "cat /v/passwd")
		m := mounted(p, "v", source)
		m.SubPathExpr = "$(WHICH)"
		p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "WHICH", Value: name}}
		return p
	}
	planted := func(name string) *corev1.Pod {
		p := asking(name, corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})
		plant := *p.Spec.Containers[0].DeepCopy()
		plant.Name, plant.VolumeMounts[0].SubPathExpr = "plant", ""
		plant.Command = []string{"sh", "-c", `cd /v; mkdir real; echo "the Pod's own" >real/passwd
ln -s real inside; ln -s /etc absolute; ln -s ../../../../../../../../../../../../etc up; ln -s up chain`}
		p.Spec.InitContainers = []corev1.Container{plant}
		return p
	}
	for _, p := range []*corev1.Pod{planted("inside"), asking("current", hostPath(dir, corev1.HostPathDirectory))} {
		if _, log := c.finish(p); log != "the Pod's own\n" {
			t.Errorf("%s: log %q", p.Name, log)
		}
	}
	for _, p := range []*corev1.Pod{planted("absolute"), planted("up"), planted("chain"), asking("out", hostPath(dir, corev1.HostPathDirectory))} {
		name := p.Name
		c.create(p)
		p = c.awaitPod(name, waitingFor("CreateContainerConfigError"))
		c.mustContain(mainStatus(p).State.Waiting.Message, `failed to prepare subPath for volumeMount "v" of container "main"`)
	}
}
