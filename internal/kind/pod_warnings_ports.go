package kind

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ports warns of ports that are the same, or may be.
func (w *warner) ports(path *field.Path, spec *corev1.PodSpec) {
	type use struct {
		path *field.Path
		port corev1.ContainerPort
	}
	uses := map[string][]use{}
	eachContainer(path, spec, func(at *field.Path, c *corev1.Container) {
		for i, port := range c.Ports {
			at := at.Child("ports").Index(i)
			if port.HostIP != "" && port.HostPort == 0 {
				w.say(at, "hostIP set without hostPort: %+v", port)
			}
			key := fmt.Sprintf("%d/%s", port.ContainerPort, port.Protocol)
			for _, other := range uses[key] {
				switch {
				case port.HostIP == other.port.HostIP && port.HostPort == other.port.HostPort:
					w.say(at, "duplicate port definition with %s", other.path)
				case port.HostPort == 0 || other.port.HostPort == 0:
					w.say(at, "overlapping port definition with %s", other.path)
				case port.HostPort == other.port.HostPort && (port.HostIP == "") != (other.port.HostIP == ""):
					w.say(at, "dangerously ambiguous port definition with %s", other.path)
				}
			}
			uses[key] = append(uses[key], use{at, port})
		}
	})
}

// portNames warns of a name that two containers give a port: within one it is
// an error.
func (w *warner) portNames(path *field.Path, spec *corev1.PodSpec) {
	names := map[string]*field.Path{}
	eachContainer(path, spec, func(at *field.Path, c *corev1.Container) {
		for i, port := range c.Ports {
			if port.Name == "" {
				continue
			}
			at := at.Child("ports").Index(i)
			if first, ok := names[port.Name]; ok {
				w.say(at, "duplicate port name %q with %s, services and probes that select ports by name will use %s", port.Name, first, first)
			} else {
				names[port.Name] = at
			}
		}
	})
}
