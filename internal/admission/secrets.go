package admission

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// namesSecret reports whether a Pod asks for a Secret in any way: to pull images, in
// the environment, as a volume or for what mounts one.
func namesSecret(spec *corev1.PodSpec) bool {
	if slices.ContainsFunc(spec.ImagePullSecrets, func(r corev1.LocalObjectReference) bool { return r.Name != "" }) {
		return true
	}
	containers := slices.Concat(spec.InitContainers, spec.Containers)
	for i := range spec.EphemeralContainers {
		containers = append(containers, corev1.Container(spec.EphemeralContainers[i].EphemeralContainerCommon))
	}
	return slices.ContainsFunc(containers, func(c corev1.Container) bool {
		return slices.ContainsFunc(c.EnvFrom, func(e corev1.EnvFromSource) bool { return e.SecretRef != nil && e.SecretRef.Name != "" }) ||
			slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool {
				return e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil && e.ValueFrom.SecretKeyRef.Name != ""
			})
	}) || slices.ContainsFunc(spec.Volumes, func(v corev1.Volume) bool { return volumeSecret(&v.VolumeSource) != "" })
}

// volumeSecret is the name of a Secret that a volume asks for. Of a volume that is of
// several types, the first in upstream's order counts.
func volumeSecret(v *corev1.VolumeSource) string {
	local := func(r *corev1.LocalObjectReference) string {
		if r == nil {
			return ""
		}
		return r.Name
	}
	switch {
	case v.AzureFile != nil:
		return v.AzureFile.SecretName
	case v.CephFS != nil:
		return local(v.CephFS.SecretRef)
	case v.Cinder != nil:
		return local(v.Cinder.SecretRef)
	case v.FlexVolume != nil:
		return local(v.FlexVolume.SecretRef)
	case v.Projected != nil:
		for _, source := range v.Projected.Sources {
			if source.Secret != nil && source.Secret.Name != "" {
				return source.Secret.Name
			}
		}
	case v.RBD != nil:
		return local(v.RBD.SecretRef)
	case v.Secret != nil:
		return v.Secret.SecretName
	case v.ScaleIO != nil:
		return local(v.ScaleIO.SecretRef)
	case v.ISCSI != nil:
		return local(v.ISCSI.SecretRef)
	case v.StorageOS != nil:
		return local(v.StorageOS.SecretRef)
	case v.CSI != nil:
		return local(v.CSI.NodePublishSecretRef)
	}
	return ""
}
