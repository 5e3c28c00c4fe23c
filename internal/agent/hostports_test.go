package agent

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// The host ports of all containers are the network's to lead to the Pod; on the
// host's network a port is the host's by itself.
func TestHostPorts(t *testing.T) {
	for _, c := range []struct {
		name        string
		hostNetwork bool
		want        []string
	}{
		{"in a network of its own", false, []string{"uid :53>53/UDP", "uid 192.0.2.7:8080>80/TCP"}},
		{"in the host's", true, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.start()
				defer func() { b.stop() }()
				pod := webPod()
				pod.UID = "uid"
				pod.Spec.HostNetwork = c.hostNetwork
				pod.Spec.InitContainers = []corev1.Container{{
					Name: "sidecar", Image: "hello:1", RestartPolicy: ptr(corev1.ContainerRestartPolicyAlways),
					Ports: []corev1.ContainerPort{{ContainerPort: 53, HostPort: 53, Protocol: corev1.ProtocolUDP}},
				}}
				pod.Spec.Containers[0].Ports = []corev1.ContainerPort{
					{ContainerPort: 80, HostPort: 8080, HostIP: "192.0.2.7", Protocol: corev1.ProtocolTCP},
					{ContainerPort: 81, Protocol: corev1.ProtocolTCP},
				}
				b.create(pod)
				pass(time.Second)
				if !slices.Equal(b.network.exposed, c.want) {
					t.Errorf("exposed %q, want %q", b.network.exposed, c.want)
				}
			})
		})
	}
}
