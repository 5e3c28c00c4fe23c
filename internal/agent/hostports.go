package agent

import corev1 "k8s.io/api/core/v1"

// hostPorts are the Pod's ports that are the node's too, those of its sidecars
// among them.
func hostPorts(pod *corev1.Pod) []corev1.ContainerPort {
	var ports []corev1.ContainerPort
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			for _, p := range containers[i].Ports {
				if p.HostPort != 0 {
					ports = append(ports, p)
				}
			}
		}
	}
	return ports
}
