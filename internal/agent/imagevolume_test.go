package agent

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// withImages gives the Pod volumes of images, and its container mounts of all
// but the last.
func withImages(refs ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		for i, ref := range refs {
			name := string(rune('a' + i))
			p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
				Image: &corev1.ImageVolumeSource{Reference: ref, PullPolicy: corev1.PullIfNotPresent},
			}})
			if i < len(refs)-1 {
				p.Spec.Containers[0].VolumeMounts = append(p.Spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: name, MountPath: "/" + name})
			}
		}
	}
}

func TestImageVolumes(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		b.images.absent["data:1"] = errors.New("no such host")
		b.images.absent["unused:1"] = errors.New("nobody asks for it")
		pod := webPod(withImages("data:1", "unused:1"))
		b.create(pod)
		if s := b.pod().Status.ContainerStatuses[0].State.Waiting; s == nil || s.Reason != "ErrImagePull" || s.Message != "no such host" {
			t.Errorf("waits for %+v", s)
		}
		pass(2 * time.Second)
		if s := b.pod().Status.ContainerStatuses[0].State.Waiting; s == nil || s.Reason != "ImagePullBackOff" {
			t.Errorf("waits for %+v", s)
		}
		b.images.mu.Lock()
		b.images.absent["data:1"] = nil
		b.images.mu.Unlock()
		pass(20 * time.Second)
		if got := b.pod().Status.Phase; got != corev1.PodRunning {
			t.Errorf("phase %s", got)
		}
		for _, e := range []string{
			`Pulling Pulling image "data:1"`, `Failed Failed to pull image "data:1": no such host`, "Failed Error: ErrImagePull",
			`BackOff Back-off pulling image "data:1"`, "Failed Error: ImagePullBackOff",
		} {
			b.wantEvent(e)
		}
		spec := b.runtime.spec("c")
		at := slices.IndexFunc(spec.Mounts, func(m Mount) bool { return m.Target == "/a" })
		if at < 0 || !spec.Mounts[at].ReadOnly || spec.Mounts[at].Source != b.agent.volumes.ImageDir(string(pod.UID), "a") {
			t.Errorf("mounts %+v", spec.Mounts)
		}
		b.images.mu.Lock()
		mounted := maps.Clone(b.images.mounted)
		b.images.mu.Unlock()
		if want := map[string]string{string(pod.UID) + "/a": "data:1 at a"}; !maps.Equal(mounted, want) {
			t.Errorf("mounted %v, want %v", mounted, want)
		}
		b.delete(0)
		pass(time.Second)
		if len(b.images.mounted) > 0 {
			t.Errorf("after the Pod %v is mounted", b.images.mounted)
		}
	})
}

func TestImageVolumeWithoutItsSubPath(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		pod := webPod(withImages("data:1", "unused:1"))
		pod.Spec.Containers[0].VolumeMounts[0].SubPath = "absent"
		b.create(pod)
		s := b.pod().Status.ContainerStatuses[0].State.Waiting
		if s == nil || s.Reason != "CreateContainerError" {
			t.Errorf("waits for %+v", s)
		}
	})
}
