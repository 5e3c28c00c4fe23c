package node

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func evicted(p *corev1.Pod) bool { return p.Status.Reason == "Evicted" && podEnded(p) }

// Whoever writes more to the disk than it may has to go.
func TestDiskLimits(t *testing.T) {
	c := shared(t)
	limit := corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse("4Mi")}
	layer := pod("layer", "head -c 20000000 /dev/zero >/big; sleep 1000")
	layer.Spec.Containers[0].Resources.Limits = limit
	logs := pod("logs", "i=0; while [ $i -lt 400 ]; do head -c 30000 /dev/zero | tr '\\0' x; echo; i=$((i+1)); done; sleep 1000")
	logs.Spec.Containers[0].Resources.Limits = limit
	volume := pod("volume", "head -c 20000000 /dev/zero >/data/big; sleep 1000")
	mounted(volume, "data", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: resource.NewQuantity(4<<20, resource.BinarySI)}})
	within := pod("within", "head -c 1000000 /dev/zero >/big; sleep 1000")
	within.Spec.Containers[0].Resources.Limits = limit
	for _, p := range []*corev1.Pod{layer, logs, volume, within} {
		c.create(p)
	}
	for name, want := range map[string]string{
		"layer":  "Pod ephemeral local storage usage exceeds the total limit of containers 4Mi. ",
		"logs":   "Pod ephemeral local storage usage exceeds the total limit of containers 4Mi. ",
		"volume": `Usage of EmptyDir volume "data" exceeds the limit "4Mi". `,
	} {
		p := c.awaitPod(name, evicted)
		if p.Status.Phase != corev1.PodFailed || p.Status.Message != want {
			t.Errorf("%s: %s %q", name, p.Status.Phase, p.Status.Message)
		}
		c.awaitEvent(name, "Evicted", want)
	}
	c.awaitPod("within", podReady)
}

// A disk that runs full takes the Pod that fills it, and no other.
func TestDiskPressureEvicts(t *testing.T) {
	t.Parallel()
	m := ownMachine(t, "--kubelet-arg=eviction-hard=nodefs.available<100Mi", "--kubelet-arg=eviction-minimum-reclaim=nodefs.available=1Mi",
		"--kubelet-arg=eviction-pressure-transition-period=5s")
	if err := unix.Mount("small", m.host.DataDir, "tmpfs", 0, "size=500m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = m.run(nil, skiff, "killall", "--data-dir", m.host.DataDir)
		if err := unix.Unmount(m.host.DataDir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if err := m.start(); err != nil {
		t.Fatal(err)
	}
	if err := m.importBox(); err != nil {
		t.Fatal(err)
	}
	c := m.cluster(t)
	c.kubectl("version") // unpacks it while there is room
	modest := pod("modest", "sleep 1000")
	modest.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse("10Mi")}
	c.startPod(modest)
	greedy := pod("greedy", "while ! test -e /data/go; do sleep 0.2; done; head -c 60000000 /dev/zero >/data/big; sleep 1000")
	mounted(greedy, "data", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})
	c.startPod(greedy)
	var free unix.Statfs_t
	if err := unix.Statfs(c.host.DataDir, &free); err != nil {
		t.Fatal(err)
	}
	filler, err := os.Create(c.filler())
	if err != nil {
		t.Fatal(err)
	}
	defer filler.Close()
	if err := unix.Fallocate(int(filler.Fd()), 0, 0, int64(free.Bavail)*free.Bsize-(135<<20)); err != nil {
		t.Fatal(err)
	}
	c.exec("greedy", "touch /data/go")
	p := c.awaitPod("greedy", evicted)
	if !strings.HasPrefix(p.Status.Message, "The node was low on resource: ephemeral-storage. Threshold quantity: 100Mi, available: ") ||
		podCondition(p, corev1.DisruptionTarget) != corev1.ConditionTrue {
		t.Errorf("status is %q, conditions %v", p.Status.Message, p.Status.Conditions)
	}
	c.kubectl("wait", "--for=condition=DiskPressure=false", "node", "--all", "--timeout=60s")
	c.awaitPod("modest", podReady)
	c.startPod(pod("next", "sleep 1000"))
}
