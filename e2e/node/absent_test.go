package node

import (
	"os"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// A kernel without AppArmor runs who may go unconfined, and nobody else. What one with
// it does is seen in the guest of e2e/vm.
func TestWithoutAppArmor(t *testing.T) {
	if _, err := os.Stat("/sys/kernel/security/apparmor"); err == nil {
		t.Skip("this kernel has AppArmor")
	}
	c := shared(t)
	armored := pod("armored", "sleep 1000")
	armored.Spec.SecurityContext = &corev1.PodSecurityContext{AppArmorProfile: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeRuntimeDefault}}
	free := pod("free", "sleep 1000")
	free.Annotations = map[string]string{corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix + free.Spec.Containers[0].Name: "unconfined"}
	c.create(armored)
	c.startPod(free)
	const why = "Cannot enforce AppArmor: AppArmor is not enabled on the host"
	p := c.awaitPod("armored", podEnded)
	if s := p.Status; s.Phase != corev1.PodFailed || s.Reason != "AppArmor" || s.Message != "Pod was rejected: "+why {
		t.Errorf("%s %s: %s", s.Phase, s.Reason, s.Message)
	}
	c.awaitEvent("armored", "AppArmor", why)
}

// A Pod whose NFS server is not there waits for it, and says why.
func TestNFSServerNotThere(t *testing.T) {
	c := shared(t)
	p := pod("shares", "sleep 1000")
	mounted(p, "far", corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{Server: "127.0.0.1", Path: "/srv"}})
	c.create(p)
	c.awaitEvent("shares", "FailedMount", `MountVolume.SetUp failed for volume "far" : mount failed: NFS server 127.0.0.1: `)
}
