package kind

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var nodeColumns = []metav1.TableColumnDefinition{
	nameColumn,
	column("Status", "The status of the node"),
	column("Roles", "The roles of the node"),
	ageColumn,
	column("Version", corev1.NodeSystemInfo{}.SwaggerDoc()["kubeletVersion"]),
	wideColumn("Internal-IP", corev1.NodeStatus{}.SwaggerDoc()["addresses"]),
	wideColumn("External-IP", corev1.NodeStatus{}.SwaggerDoc()["addresses"]),
	wideColumn("OS-Image", corev1.NodeSystemInfo{}.SwaggerDoc()["osImage"]),
	wideColumn("Kernel-Version", corev1.NodeSystemInfo{}.SwaggerDoc()["kernelVersion"]),
	wideColumn("Container-Runtime", corev1.NodeSystemInfo{}.SwaggerDoc()["containerRuntimeVersion"]),
}

func nodeRow(n *corev1.Node, now time.Time) []any {
	info := &n.Status.NodeInfo
	kernel := orUnknown(info.KernelVersion)
	if info.Architecture != "" {
		kernel += " (" + info.Architecture + ")"
	}
	roles := nodeRoles(n)
	if roles == "" {
		roles = "<none>"
	}
	return []any{
		n.Name,
		nodeStatusText(n),
		roles,
		since(n.CreationTimestamp.Time, now),
		info.KubeletVersion,
		nodeAddress(n, corev1.NodeInternalIP),
		nodeAddress(n, corev1.NodeExternalIP),
		orUnknown(info.OSImage),
		kernel,
		orUnknown(info.ContainerRuntimeVersion),
	}
}

func nodeStatusText(n *corev1.Node) string {
	text := "Unknown"
	for _, c := range n.Status.Conditions {
		if c.Type != corev1.NodeReady {
			continue
		}
		text = "NotReady"
		if c.Status == corev1.ConditionTrue {
			text = "Ready"
		}
	}
	if n.Spec.Unschedulable {
		text += ",SchedulingDisabled"
	}
	return text
}

// nodeRoles are what is behind the prefix of role labels, and the value of the
// older single label.
func nodeRoles(n *corev1.Node) string {
	const prefix, single = "node-role.kubernetes.io/", "kubernetes.io/role"
	var roles []string
	for label, value := range n.Labels {
		switch role, ok := strings.CutPrefix(label, prefix); {
		case ok && role != "":
			roles = append(roles, role)
		case label == single && value != "":
			roles = append(roles, value)
		}
	}
	slices.Sort(roles)
	return strings.Join(slices.Compact(roles), ",")
}

func nodeAddress(n *corev1.Node, t corev1.NodeAddressType) string {
	for _, a := range n.Status.Addresses {
		if a.Type == t {
			return a.Address
		}
	}
	return "<none>"
}

func orUnknown(text string) string {
	if text == "" {
		return "<unknown>"
	}
	return text
}
