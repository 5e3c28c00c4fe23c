package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

// smallDisk puts a disk of so many MiB at a directory of a machine.
func smallDisk(t *testing.T, m *machine, dir string, size int) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("small", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", size)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = m.run(nil, skiff, "killall", "--data-dir", m.host.DataDir)
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("killall leaves a disk that somebody mounted: %v", err)
		}
	})
}

// startCluster starts the machine, with the box image.
func (m *machine) startCluster(t *testing.T) *cluster {
	t.Helper()
	c := m.open(t)
	c.kubectl("version") // unpacks it while there is room
	return c
}

// leave fills the disk at dir but for so many MiB.
func leave(t *testing.T, dir string, size int64) {
	t.Helper()
	var free unix.Statfs_t
	if err := unix.Statfs(dir, &free); err != nil {
		t.Fatal(err)
	}
	filler, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer filler.Close()
	if err := unix.Fallocate(int(filler.Fd()), 0, 0, int64(free.Bavail)*free.Bsize-(size<<20)); err != nil {
		t.Fatal(err)
	}
}

// A disk that runs full takes the Pod that fills it, and no other.
func TestDiskPressureEvicts(t *testing.T) {
	t.Parallel()
	m := ownMachine(t, "--kubelet-arg=eviction-hard=nodefs.available<100Mi", "--kubelet-arg=eviction-minimum-reclaim=nodefs.available=1Mi",
		"--kubelet-arg=eviction-pressure-transition-period=5s")
	smallDisk(t, m, m.host.DataDir, 500)
	c := m.startCluster(t)
	modest := pod("modest", "sleep 1000")
	modest.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse("10Mi")}
	c.startPod(modest)
	greedy := pod("greedy", "while ! test -e /data/go; do sleep 0.2; done; head -c 60000000 /dev/zero >/data/big; sleep 1000")
	mounted(greedy, "data", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})
	c.startPod(greedy)
	leave(t, c.host.DataDir, 135)
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

// What has a disk of its own is not the node's: who fills that of the images has
// written into its root file system, whatever others have in their volumes. A soft
// threshold lets it end as it wants to.
func TestImageDiskPressureEvictsSoftly(t *testing.T) {
	t.Parallel()
	m := ownMachine(t, "--kubelet-arg=eviction-hard=memory.available<1Mi", "--kubelet-arg=eviction-soft=imagefs.available<100Mi",
		"--kubelet-arg=eviction-minimum-reclaim=imagefs.available=1Mi", "--kubelet-arg=eviction-soft-grace-period=imagefs.available=2s", "--kubelet-arg=eviction-max-pod-grace-period=30",
		"--kubelet-arg=eviction-pressure-transition-period=5s")
	images := filepath.Join(m.host.DataDir, "agent", "containerd")
	smallDisk(t, m, images, 400)
	c := m.startCluster(t)
	hoarder := pod("hoarder", "head -c 150000000 /dev/zero >/data/big; sleep 1000")
	mounted(hoarder, "data", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})
	c.startPod(hoarder)
	greedy := once("greedy", "trap 'sleep 3; echo ended well; exit 0' TERM; while ! test -e /go; do sleep 0.2; done; head -c 60000000 /dev/zero >/big; while :; do sleep 0.2; done")
	greedy.Spec.TerminationGracePeriodSeconds = new(int64(20))
	c.startPod(greedy)
	leave(t, images, 135)
	c.exec("greedy", "touch /go")
	p := c.awaitPod("greedy", evicted)
	if !strings.HasPrefix(p.Status.Message, "The node was low on resource: ephemeral-storage. Threshold quantity: 100Mi, available: ") ||
		!strings.Contains(p.Status.Message, "Container main was using ") || podCondition(p, corev1.DisruptionTarget) != corev1.ConditionTrue {
		t.Errorf("status is %q, conditions %v", p.Status.Message, p.Status.Conditions)
	}
	if log := c.logs("greedy"); log != "ended well\n" {
		t.Errorf("it had no time to end well: %q", log)
	}
	if e := c.awaitEvent("greedy", "Evicted", "low on resource"); e.Annotations["starved_resource"] != "ephemeral-storage" || e.Annotations["offending_containers"] != "main" {
		t.Errorf("the event's annotations are %v", e.Annotations)
	}
	c.kubectl("wait", "--for=condition=DiskPressure=false", "node", "--all", "--timeout=60s")
	c.awaitPod("hoarder", podReady)
}

// What the kernel says of a victim for want of memory becomes an event of the node.
// The test speaks in its place.
func TestSystemOOM(t *testing.T) {
	log, err := os.OpenFile("/dev/kmsg", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("the kernel's log is not ours: %v", err)
	}
	defer log.Close()
	c := shared(t)
	victim := "victim-" + c.namespace
	for _, line := range []string{
		victim + " invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0",
		"Out of memory: Killed process 4711 (" + victim + ") total-vm:1kB, anon-rss:1kB",
	} {
		if _, err := log.WriteString("<4>" + line); err != nil {
			t.Skipf("the kernel's log takes nothing: %v", err)
		}
	}
	c.retry(func() error {
		// Some kernels wake who reads their log only with the next line.
		if _, err := log.WriteString("<7>" + c.namespace + " waits"); err != nil {
			return err
		}
		events, err := c.client.CoreV1().Events("").List(c.ctx, metav1.ListOptions{FieldSelector: "reason=SystemOOM"})
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(events.Items, func(e corev1.Event) bool {
			return e.InvolvedObject.Kind == "Node" && e.Message == "System OOM encountered, victim process: "+victim+", pid: 4711"
		}) {
			return errors.New("nobody was told")
		}
		return nil
	})
}

// Of a container's attempts the last that ended is kept, and no more once it has
// ended for good; its previous log is that of the attempt before the one that waits.
func TestDeadContainers(t *testing.T) {
	c := shared(t)
	p := pod("fails", "echo attempt $(cat /data/n 2>/dev/null | wc -c); printf x >>/data/n; exit 1")
	mounted(p, "data", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})
	p = c.create(p)
	c.awaitPod("fails", func(p *corev1.Pod) bool {
		s := mainStatus(p)
		return s.RestartCount >= 2 && s.State.Waiting != nil && s.State.Waiting.Reason == "CrashLoopBackOff"
	})
	for _, args := range [][]string{{"logs", "fails"}, {"logs", "fails", "--previous"}} {
		if log := c.kubectl(args...); log != "attempt 2\n" {
			t.Errorf("%v: %q", args, log)
		}
	}
	logs, err := filepath.Glob(filepath.Join(c.host.LogDir, c.namespace+"_fails_"+string(p.UID), "main", "*"))
	if err != nil || len(logs) == 0 || len(logs) > 2 {
		t.Errorf("%v: logs of %q", err, logs)
	}
}
