package agent

import (
	"path/filepath"

	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/userns"
)

// ownUsers says whether the Pod has a user namespace of its own.
func ownUsers(pod *corev1.Pod) bool { return pod.Spec.HostUsers != nil && !*pod.Spec.HostUsers }

// setUpUsers makes the Pod's user namespace, and the others inside.
func (a *Agent) setUpUsers(pod *corev1.Pod) error {
	uid := string(pod.UID)
	first, err := a.users.Take(uid)
	if err != nil {
		return err
	}
	hostname, err := kernelHostname(pod, a.ClusterDomain)
	if err != nil {
		return err
	}
	pins := userns.Pins{User: a.userPin(uid), Net: a.netPin(uid), IPC: a.ipcPin(uid), UTS: a.utsPin(uid)}
	return a.Namespaces.CreateUser(pins, first, hostname, filepath.Join(a.podDir(uid), "shm"))
}
