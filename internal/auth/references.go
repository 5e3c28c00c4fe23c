package auth

import (
	corev1 "k8s.io/api/core/v1"
)

// refers reports whether a Pod names an object of its namespace. Mirror Pods
// do not count: a node writes those itself, and could name anything.
func refers(pod *corev1.Pod, resource, name string) bool {
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return false
	}
	switch resource {
	case "serviceaccounts":
		return pod.Spec.ServiceAccountName == name
	case "secrets":
		return secretIn(&pod.Spec, name)
	case "configmaps":
		return configMapIn(&pod.Spec, name)
	}
	return false
}

func secretIn(spec *corev1.PodSpec, name string) bool {
	for _, secret := range spec.ImagePullSecrets {
		if secret.Name == name {
			return true
		}
	}
	found := false
	environment(spec, func(from *corev1.EnvFromSource, one *corev1.EnvVarSource) {
		found = found ||
			from != nil && from.SecretRef != nil && from.SecretRef.Name == name ||
			one != nil && one.SecretKeyRef != nil && one.SecretKeyRef.Name == name
	})
	for i := range spec.Volumes {
		found = found || secretInVolume(&spec.Volumes[i], name)
	}
	return found
}

func configMapIn(spec *corev1.PodSpec, name string) bool {
	found := false
	environment(spec, func(from *corev1.EnvFromSource, one *corev1.EnvVarSource) {
		found = found ||
			from != nil && from.ConfigMapRef != nil && from.ConfigMapRef.Name == name ||
			one != nil && one.ConfigMapKeyRef != nil && one.ConfigMapKeyRef.Name == name
	})
	for i := range spec.Volumes {
		v := &spec.Volumes[i]
		found = found || v.ConfigMap != nil && v.ConfigMap.Name == name
		if v.Projected == nil {
			continue
		}
		for _, source := range v.Projected.Sources {
			found = found || source.ConfigMap != nil && source.ConfigMap.Name == name
		}
	}
	return found
}

// environment visits every source of variables of every container.
func environment(spec *corev1.PodSpec, visit func(*corev1.EnvFromSource, *corev1.EnvVarSource)) {
	container := func(from []corev1.EnvFromSource, env []corev1.EnvVar) {
		for i := range from {
			visit(&from[i], nil)
		}
		for i := range env {
			if env[i].ValueFrom != nil {
				visit(nil, env[i].ValueFrom)
			}
		}
	}
	for i := range spec.InitContainers {
		container(spec.InitContainers[i].EnvFrom, spec.InitContainers[i].Env)
	}
	for i := range spec.Containers {
		container(spec.Containers[i].EnvFrom, spec.Containers[i].Env)
	}
	for i := range spec.EphemeralContainers {
		container(spec.EphemeralContainers[i].EnvFrom, spec.EphemeralContainers[i].Env)
	}
}

// secretInVolume looks also into the drivers that skiff does not have: what a
// node may read follows from the Pod, not from what the node can do with it.
func secretInVolume(v *corev1.Volume, name string) bool {
	named := func(ref *corev1.LocalObjectReference) bool { return ref != nil && ref.Name == name }
	switch {
	case v.Secret != nil:
		return v.Secret.SecretName == name
	case v.Projected != nil:
		for _, source := range v.Projected.Sources {
			if source.Secret != nil && source.Secret.Name == name {
				return true
			}
		}
	case v.AzureFile != nil:
		return v.AzureFile.SecretName == name
	case v.CephFS != nil:
		return named(v.CephFS.SecretRef)
	case v.Cinder != nil:
		return named(v.Cinder.SecretRef)
	case v.CSI != nil:
		return named(v.CSI.NodePublishSecretRef)
	case v.FlexVolume != nil:
		return named(v.FlexVolume.SecretRef)
	case v.ISCSI != nil:
		return named(v.ISCSI.SecretRef)
	case v.RBD != nil:
		return named(v.RBD.SecretRef)
	case v.ScaleIO != nil:
		return named(v.ScaleIO.SecretRef)
	case v.StorageOS != nil:
		return named(v.StorageOS.SecretRef)
	}
	return false
}
