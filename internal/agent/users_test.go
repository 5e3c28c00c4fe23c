package agent

import (
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func TestOwnUsers(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		pod := webPod(func(p *corev1.Pod) { p.Spec.HostUsers = ptr(false) })
		b.create(pod)
		pass(time.Second)
		spec := b.runtime.spec("c")
		if spec.Pod.FirstID != 65536 || spec.Pod.UserNS != filepath.Join(b.host.RunDir, "userns", string(pod.UID)) {
			t.Errorf("%+v", spec.Pod)
		}
		if _, ok := spec.Sysctls["net.ipv4.ping_group_range"]; ok {
			t.Error("groups that the Pod does not have are let ping")
		}
		b.stop()
		b.start() // what runs is taken over with its IDs
		if first, ok := b.agent.users.Of(string(pod.UID)); !ok || first != 65536 {
			t.Errorf("after a restart: %d %t", first, ok)
		}
		b.delete(0)
		pass(time.Second)
		if _, ok := b.agent.users.Of(string(pod.UID)); ok {
			t.Error("the IDs are still taken")
		}
	})
	for what, change := range map[string]func(*corev1.PodSpec){
		"": func(*corev1.PodSpec) {},
		"spec.shareProcessNamespace: not implemented by this node for Pods with hostUsers: false": func(s *corev1.PodSpec) { s.ShareProcessNamespace = ptr(true) },
		"spec.volumes[0](v).image: not implemented by this node for Pods with hostUsers: false": func(s *corev1.PodSpec) {
			s.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{}}}}
		},
	} {
		pod := webPod(func(p *corev1.Pod) { p.Spec.HostUsers = ptr(false); change(&p.Spec) })
		if got := new(Agent).unsupported(pod); got != what {
			t.Errorf("refused: %q, want %q", got, what)
		}
	}
}
