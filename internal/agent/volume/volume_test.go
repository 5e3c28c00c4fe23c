package volume

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	runtimego "runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"go.uber.org/zap/zaptest"
	"golang.org/x/sys/unix"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"
)

func ptr[T any](v T) *T { return &v }

// room is a node's volumes under test, on the real kernel.
type room struct {
	*testing.T
	*Volumes
	client *fake.Clientset
	tokens atomic.Int64
	life   int64 // seconds
}

func newRoom(t *testing.T, objects ...runtime.Object) *room {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounts tmpfs: needs root")
	}
	r := &room{T: t, client: fake.NewClientset(objects...), life: 3600}
	r.client.PrependReactor("create", "serviceaccounts", func(a ktesting.Action) (bool, runtime.Object, error) {
		if a.GetSubresource() != "token" {
			return false, nil, nil
		}
		request := a.(ktesting.CreateAction).GetObject().(*authenticationv1.TokenRequest).DeepCopy()
		request.Spec.ExpirationSeconds = &r.life
		request.Status.Token = fmt.Sprintf("token%d of %s", r.tokens.Add(1), request.Spec.BoundObjectRef.Name)
		return true, request, nil
	})
	r.Volumes = New(Config{
		Client: r.client, Objects: NewObjects(r.client), Root: t.TempDir(),
		Allocatable: corev1.ResourceList{"memory": resource.MustParse("1Gi")}, Log: zaptest.NewLogger(t),
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, 2)
	go func() { r.Volumes.Run(ctx); done <- struct{}{} }()
	go func() { r.Objects.Run(ctx); done <- struct{}{} }()
	t.Cleanup(func() {
		cancel()
		<-done
		<-done
		if err := r.Unmount("u1"); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *room) mount(pod *corev1.Pod) map[string]string {
	r.Helper()
	r.Objects.Acquire(pod)
	ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
	defer cancel()
	paths, err := r.Mount(ctx, pod)
	if err != nil {
		r.Fatal(err)
	}
	return paths
}

func (r *room) read(parts ...string) string {
	r.Helper()
	data, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		r.Fatal(err)
	}
	return string(data)
}

// until waits for a condition that a change brings about.
func (r *room) until(what string, ok func() bool) {
	r.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			r.Fatalf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
}

func pod(volumes ...corev1.Volume) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u1", Labels: map[string]string{"b": "2", "a": "1"}},
		Spec:       corev1.PodSpec{Volumes: volumes, ServiceAccountName: "sa", Containers: []corev1.Container{{Name: "c"}}},
	}
}

func source(name string, s corev1.VolumeSource) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: s}
}

func fsType(t *testing.T, path string) int64 {
	t.Helper()
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		t.Fatal(err)
	}
	return int64(s.Type)
}

func TestVolumesMount(t *testing.T) {
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "cm"}, Data: map[string]string{"k": "v"}, BinaryData: map[string][]byte{"bin": {1}}}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "s"}, Data: map[string][]byte{"pw": []byte("x"), "other": nil}}
	r := newRoom(t, cm, secret)
	p := pod(
		source("plain", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}),
		source("ram", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: ptr(resource.MustParse("1Mi"))}}),
		source("cm", corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}, DefaultMode: ptr(int32(0o600))}}),
		source("s", corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s", Items: []corev1.KeyToPath{{Key: "pw", Path: "deep/pw", Mode: ptr(int32(0o400))}}}}),
		source("gone", corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "none", Optional: ptr(true)}}),
		source("down", corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{
			{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}},
			{Path: "mem", ResourceFieldRef: &corev1.ResourceFieldSelector{ContainerName: "c", Resource: "limits.memory", Divisor: resource.MustParse("1Mi")}},
		}}}),
	)
	p.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: ptr(int64(4321))}
	paths := r.mount(p)

	const tmpfs = 0x01021994
	for name, want := range map[string]bool{"ram": true, "s": true, "down": true} {
		if got := fsType(t, paths[name]) == tmpfs; got != want {
			t.Errorf("%s is on tmpfs: %v", name, got)
		}
	}
	var size unix.Statfs_t
	if err := unix.Statfs(paths["ram"], &size); err != nil || size.Blocks*uint64(size.Bsize) != 1<<20 {
		t.Errorf("size of ram is %d, %v", size.Blocks*uint64(size.Bsize), err)
	}
	if r.read(paths["cm"], "k") != "v" || r.read(paths["s"], "deep/pw") != "x" || r.read(paths["down"], "labels") != "a=\"1\"\nb=\"2\"" || r.read(paths["down"], "mem") != "1024" {
		t.Error("contents are wrong")
	}
	if _, err := os.Stat(filepath.Join(paths["s"], "other")); err == nil {
		t.Error("a key that is not among the items is there")
	}
	for path, mode := range map[string]uint32{filepath.Join(paths["cm"], "k"): 0o640, filepath.Join(paths["s"], "deep/pw"): 0o440, paths["plain"]: 0o2777} {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil || st.Mode&0o7777 != mode || st.Gid != 4321 {
			t.Errorf("%s: mode %o, group %d, %v; want %o", path, st.Mode&0o7777, st.Gid, err, mode)
		}
	}
	if link, err := os.Readlink(filepath.Join(paths["cm"], "k")); err != nil || link != "..data/k" {
		t.Errorf("k links to %s, %v", link, err)
	}
	// Mounting again keeps what the Pod wrote.
	if err := os.WriteFile(filepath.Join(paths["ram"], "mine"), []byte("1"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.mount(p)
	r.read(paths["ram"], "mine")
	if err := r.Unmount("u1"); err != nil {
		t.Fatal(err)
	}
	if uids, _ := r.UIDs(); len(uids) != 0 {
		t.Errorf("left: %q", uids)
	}
}

func TestConfigMapChangeReachesTheVolume(t *testing.T) {
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "cm"}, Data: map[string]string{"a": "1", "b": "1"}}
	r := newRoom(t, cm)
	paths := r.mount(pod(source("cm", corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}}})))
	before, err := os.Readlink(filepath.Join(paths["cm"], dataLink))
	if err != nil {
		t.Fatal(err)
	}
	cm = cm.DeepCopy()
	cm.Data = map[string]string{"a": "2", "c": "2"}
	if _, err := r.client.CoreV1().ConfigMaps("ns").Update(t.Context(), cm, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	r.until("the new value", func() bool {
		data, _ := os.ReadFile(filepath.Join(paths["cm"], "a"))
		return string(data) == "2"
	})
	r.until("old names to go", func() bool { _, err := os.Lstat(filepath.Join(paths["cm"], "b")); return os.IsNotExist(err) })
	if r.read(paths["cm"], "c") != "2" {
		t.Error("a new key is not there")
	}
	r.until("old data to go", func() bool { _, err := os.Stat(filepath.Join(paths["cm"], before)); return os.IsNotExist(err) })
}

func TestToken(t *testing.T) {
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "kube-root-ca.crt"}, Data: map[string]string{"ca.crt": "CA"}}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "s"}, Data: map[string][]byte{"pw": []byte("x")}}
	r := newRoom(t, cm, secret)
	r.life = 1 // renewed after 0.8 seconds
	p := pod(source("api", corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
		{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: ptr(int64(3607))}},
		{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"}, Items: []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}}}},
		{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.namespace"}}}}},
		{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}}},
	}}}))
	p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{RunAsUser: ptr(int64(1234))}
	paths := r.mount(p)
	if r.read(paths["api"], "ca.crt") != "CA" || r.read(paths["api"], "namespace") != "ns" || r.read(paths["api"], "pw") != "x" || r.read(paths["api"], "token") != "token1 of p" {
		t.Error("contents are wrong")
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(paths["api"], "token"), &st); err != nil || st.Uid != 1234 || st.Mode&0o777 != 0o600 {
		t.Errorf("token belongs to %d with mode %o, %v", st.Uid, st.Mode&0o777, err)
	}
	r.until("a fresh token", func() bool {
		data, _ := os.ReadFile(filepath.Join(paths["api"], "token"))
		return string(data) == "token2 of p"
	})
}

// The servers' clock was set: by it the tokens of before have ended.
func TestTokensAreRenewedAtOnce(t *testing.T) {
	r := newRoom(t)
	paths := r.mount(pod(source("api", corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
		{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}},
	}}})))
	if got := r.read(paths["api"], "token"); got != "token1 of p" {
		t.Fatalf("token is %q", got)
	}
	r.RenewTokens()
	r.until("a fresh token", func() bool {
		data, _ := os.ReadFile(filepath.Join(paths["api"], "token"))
		return string(data) == "token2 of p"
	})
}

func TestDownwardAPIFollowsLabels(t *testing.T) {
	r := newRoom(t)
	p := pod(source("down", corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{
		{Path: "a", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels['a']"}}}}}))
	paths := r.mount(p)
	p = p.DeepCopy()
	p.Labels["a"] = "new"
	r.Update(p)
	r.until("the new label", func() bool {
		data, _ := os.ReadFile(filepath.Join(paths["down"], "a"))
		return string(data) == "new"
	})
}

func TestMissingObjects(t *testing.T) {
	r := newRoom(t, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "cm"}})
	for want, s := range map[string]corev1.VolumeSource{
		`MountVolume.SetUp failed for volume "v" : secret "none" not found`:               {Secret: &corev1.SecretVolumeSource{SecretName: "none"}},
		`MountVolume.SetUp failed for volume "v" : references non-existent config key: k`: {ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}, Items: []corev1.KeyToPath{{Key: "k", Path: "k"}}}},
	} {
		p := pod(source("v", s))
		r.Objects.Acquire(p)
		if _, err := r.Mount(t.Context(), p); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestHostPath(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		path string
		kind corev1.HostPathType
		want string
	}{
		{dir, corev1.HostPathDirectory, ""},
		{file, corev1.HostPathFile, ""},
		{file, corev1.HostPathDirectory, "hostPath type check failed: " + file + " is not a directory"},
		{dir, corev1.HostPathFile, "hostPath type check failed: " + dir + " is not a file"},
		{dir, corev1.HostPathSocket, "hostPath type check failed: " + dir + " is not a socket file"},
		{"/dev/null", corev1.HostPathCharDev, ""},
		{"/dev/null", corev1.HostPathBlockDev, "hostPath type check failed: /dev/null is not a block device"},
		{filepath.Join(dir, "a/b"), corev1.HostPathDirectoryOrCreate, ""},
		{filepath.Join(dir, "c/d"), corev1.HostPathFileOrCreate, "open " + dir + "/c/d: no such file or directory"},
		{filepath.Join(dir, "e"), corev1.HostPathFileOrCreate, ""},
		{filepath.Join(dir, "e"), corev1.HostPathFile, ""},
		{dir, "Other", "Other is an invalid volume type"},
		{filepath.Join(dir, "none"), corev1.HostPathUnset, ""},
	} {
		got := ""
		if err := checkHostPath(&corev1.HostPathVolumeSource{Path: test.path, Type: &test.kind}); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%s as %q: got %q, want %q", test.path, test.kind, got, test.want)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "none")); err != nil || !info.IsDir() {
		t.Errorf("a path of no type that did not exist: %v, expected a directory", err)
	}
}

func TestSubPath(t *testing.T) {
	r := newRoom(t)
	p := pod(source("v", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}))
	root := r.mount(p)["v"]
	sub := SubPath{PodUID: "u1", Volume: "v", Container: "c", Root: root, Path: "new/dir"}
	at, err := r.Bind(sub)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "new/dir/f"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r.read(at, "f") != "x" {
		t.Error("the bind mount shows something else")
	}
	sub.Index, sub.Path = 1, "new/dir/f"
	if at, err = r.Bind(sub); err != nil || r.read(at) != "x" {
		t.Errorf("a file: %s, %v", at, err)
	}
	if err := os.Symlink("/etc", filepath.Join(root, "out")); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"absolute": root + "/new/dir", "relative": "new/dir"} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
		sub.Index, sub.Path = sub.Index+1, name+"/f"
		if at, err = r.Bind(sub); err != nil || r.read(at) != "x" {
			t.Errorf("by a link that is %s: %s, %v", name, at, err)
		}
	}
	for _, path := range []string{"out/passwd", "../x", "/etc"} {
		sub.Path = path
		if at, err := r.Bind(sub); err == nil {
			t.Errorf("%s leads out of the volume to %s", path, at)
		}
	}
}

func TestReleasedObjectsAreNotWatched(t *testing.T) {
	r := newRoom(t, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "cm"}})
	p := pod(source("cm", corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}}}))
	r.mount(p)
	r.Objects.Acquire(p)
	if _, err := r.Objects.ConfigMap(t.Context(), "ns", "cm"); err != nil {
		t.Error(err)
	}
	r.Objects.Release("u1")
	if _, err := r.Objects.ConfigMap(t.Context(), "ns", "cm"); err == nil || !strings.Contains(err.Error(), "not registered") {
		t.Errorf("a released object gives %v", err)
	}
}

// A Pod whose Mount waits for the API must hold up neither who brings news of
// it nor the volumes of other Pods, and misses nothing itself.
func TestSlowMountHoldsUpNobody(t *testing.T) {
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c"}, Data: map[string]string{"k": "1"}}
	r := newRoom(t, cm)
	contents := corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "c"}}}
	slow, other := pod(source("v", contents)), pod(source("v", contents))
	other.UID = "other"
	slowDir, otherDir := r.mount(slow)["v"], r.mount(other)["v"]
	r.Volumes.mu.Lock()
	busy := r.pods["u1"]
	r.Volumes.mu.Unlock()
	busy.mu.Lock() // as Mount does

	told := make(chan struct{})
	go func() { defer close(told); r.Update(slow) }()
	select {
	case <-told:
	case <-time.After(5 * time.Second):
		t.Error("news of a Pod waits for its Mount")
	}
	cm = cm.DeepCopy()
	cm.Data["k"] = "2"
	if _, err := r.client.CoreV1().ConfigMaps("ns").Update(t.Context(), cm, metav1.UpdateOptions{}); err != nil {
		busy.mu.Unlock()
		t.Fatal(err)
	}
	seen := func(dir string) bool {
		data, _ := os.ReadFile(filepath.Join(dir, "k"))
		return string(data) == "2"
	}
	for deadline := time.Now().Add(5 * time.Second); !seen(otherDir) && time.Now().Before(deadline); {
		runtimego.Gosched()
	}
	if !seen(otherDir) {
		t.Error("the volumes of other Pods wait for it")
	}
	busy.mu.Unlock()
	<-told
	r.mount(slow)
	r.until("the Pod's own new contents", func() bool { return seen(slowDir) })
}

// What may be secret must not be swapped out to a disk, where the kernel can
// promise that.
func TestSecretsAreNotSwapped(t *testing.T) {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "s"}, Data: map[string][]byte{"k": []byte("v")}}
	r := newRoom(t, secret)
	dir := r.mount(pod(source("v", corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s"}})))["v"]
	probe := t.TempDir()
	if err := unix.Mount("tmpfs", probe, "tmpfs", 0, "noswap"); err != nil {
		t.Skipf("this kernel cannot: %v", err)
	}
	if err := unix.Unmount(probe, 0); err != nil {
		t.Error(err)
	}
	mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(dir))
	if err != nil || len(mounts) != 1 || !strings.Contains(mounts[0].VFSOptions, "noswap") {
		t.Errorf("mounts %+v, %v", mounts, err)
	}
}

// A directory made for a subPath keeps the group of a shared volume.
func TestSubPathKeepsTheGroup(t *testing.T) {
	r := newRoom(t)
	p := pod(source("v", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}))
	p.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: ptr(int64(2000))}
	root := r.mount(p)["v"]
	at, err := r.Bind(SubPath{PodUID: "u1", Volume: "v", Container: "c", Root: root, Path: "a/b"})
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(at, &st); err != nil || st.Gid != 2000 || st.Mode&0o7777 != 0o2777 {
		t.Errorf("group %d, mode %o, %v", st.Gid, st.Mode&0o7777, err)
	}
}
