package agent

import (
	"fmt"
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// unsupported names the first field of the Pod that this node does not
// implement, with the reason; "" if there is none.
func (a *Agent) unsupported(pod *corev1.Pod) string {
	c := fieldCheck{seLinux: fileExists("/sys/fs/selinux/enforce")}
	c.pod(&pod.Spec)
	if len(c.found) == 0 {
		return ""
	}
	return c.found[0]
}

// unsupportedContainer is the same for one container of the Pod.
func (a *Agent) unsupportedContainer(at string, pod *corev1.Pod, container *corev1.Container) string {
	c := fieldCheck{seLinux: fileExists("/sys/fs/selinux/enforce")}
	c.container(at, container)
	if len(c.found) == 0 {
		return ""
	}
	return c.found[0]
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// fieldCheck collects fields that are not implemented.
type fieldCheck struct {
	seLinux bool // the kernel has it
	found   []string
}

func (c *fieldCheck) refuse(bad bool, path, why string) {
	if bad {
		c.found = append(c.found, path+": "+why)
	}
}

const notImplemented = "not implemented by this node"

func (c *fieldCheck) pod(s *corev1.PodSpec) {
	if s.HostUsers != nil && !*s.HostUsers {
		c.ownUsers(s)
	}
	c.refuse(len(s.ResourceClaims) > 0, "spec.resourceClaims", notImplemented)
	c.refuse(s.OS != nil && s.OS.Name != corev1.Linux, "spec.os.name", "this node runs linux")
	c.podSecurity(s.SecurityContext)
	for i := range s.Volumes {
		c.volume(fmt.Sprintf("spec.volumes[%d](%s)", i, s.Volumes[i].Name), &s.Volumes[i].VolumeSource)
	}
	for i := range s.InitContainers {
		c.container(fmt.Sprintf("spec.initContainers[%d](%s)", i, s.InitContainers[i].Name), &s.InitContainers[i])
	}
	for i := range s.Containers {
		c.container(fmt.Sprintf("spec.containers[%d](%s)", i, s.Containers[i].Name), &s.Containers[i])
	}
	if s.Resources != nil {
		c.resources("spec.resources", s.Resources)
	}
}

// ownUsers names what does not go with a user namespace on this node.
func (c *fieldCheck) ownUsers(s *corev1.PodSpec) {
	const why = "not implemented by this node for Pods with hostUsers: false"
	c.refuse(isTrue(s.ShareProcessNamespace), "spec.shareProcessNamespace", why)
	for i := range s.Volumes {
		c.refuse(s.Volumes[i].Image != nil, fmt.Sprintf("spec.volumes[%d](%s).image", i, s.Volumes[i].Name), why)
	}
}

func (c *fieldCheck) podSecurity(s *corev1.PodSecurityContext) {
	if s == nil {
		return
	}
	const at = "spec.securityContext"
	c.refuse(s.SELinuxOptions != nil && c.seLinux, at+".seLinuxOptions", notImplemented)
	c.refuse(s.WindowsOptions != nil, at+".windowsOptions", "this node runs linux")
}

func (c *fieldCheck) container(at string, s *corev1.Container) {
	c.refuse(len(s.VolumeDevices) > 0, at+".volumeDevices", notImplemented)
	c.resources(at+".resources", &s.Resources)
	sec := s.SecurityContext
	if sec == nil {
		return
	}
	at += ".securityContext"
	c.refuse(sec.SELinuxOptions != nil && c.seLinux, at+".seLinuxOptions", notImplemented)
	c.refuse(sec.WindowsOptions != nil, at+".windowsOptions", "this node runs linux")
}

func (c *fieldCheck) resources(at string, r *corev1.ResourceRequirements) {
	c.refuse(len(r.Claims) > 0, at+".claims", notImplemented)
	for _, list := range []corev1.ResourceList{r.Limits, r.Requests} {
		for name, q := range list {
			switch name {
			case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
			default:
				if strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) {
					continue
				}
				c.refuse(!q.IsZero() && !isExtended(name), at, fmt.Sprintf("resource %q is %s", name, notImplemented))
			}
		}
	}
}

func (c *fieldCheck) volume(at string, s *corev1.VolumeSource) {
	switch {
	case s.Projected != nil:
		for i, p := range s.Projected.Sources {
			source := fmt.Sprintf("%s.projected.sources[%d]", at, i)
			const off = "Kubernetes 1.36 does not have it on by default, and this cluster not its kinds"
			c.refuse(p.ClusterTrustBundle != nil, source+".clusterTrustBundle", off)
			c.refuse(p.PodCertificate != nil, source+".podCertificate", off)
		}
	case s.EmptyDir != nil, s.HostPath != nil, s.ConfigMap != nil, s.Secret != nil, s.DownwardAPI != nil, s.Image != nil, s.NFS != nil:
	case *s == corev1.VolumeSource{}: // the API's default: an emptyDir
	default:
		c.refuse(true, at+"."+volumeKind(s), notImplemented)
	}
}

// volumeKind is the name of the source in a Pod's text.
func volumeKind(s *corev1.VolumeSource) string {
	kinds := []struct {
		set  bool
		name string
	}{
		{s.GCEPersistentDisk != nil, "gcePersistentDisk"},
		{s.AWSElasticBlockStore != nil, "awsElasticBlockStore"},
		{s.GitRepo != nil, "gitRepo"},
		{s.ISCSI != nil, "iscsi"},
		{s.Glusterfs != nil, "glusterfs"},
		{s.PersistentVolumeClaim != nil, "persistentVolumeClaim"},
		{s.RBD != nil, "rbd"},
		{s.FlexVolume != nil, "flexVolume"},
		{s.Cinder != nil, "cinder"},
		{s.CephFS != nil, "cephfs"},
		{s.Flocker != nil, "flocker"},
		{s.FC != nil, "fc"},
		{s.AzureFile != nil, "azureFile"},
		{s.VsphereVolume != nil, "vsphereVolume"},
		{s.Quobyte != nil, "quobyte"},
		{s.AzureDisk != nil, "azureDisk"},
		{s.PhotonPersistentDisk != nil, "photonPersistentDisk"},
		{s.PortworxVolume != nil, "portworxVolume"},
		{s.ScaleIO != nil, "scaleIO"},
		{s.StorageOS != nil, "storageos"},
		{s.CSI != nil, "csi"},
		{s.Ephemeral != nil, "ephemeral"},
	}
	for _, k := range kinds {
		if k.set {
			return k.name
		}
	}
	return "unknown"
}
