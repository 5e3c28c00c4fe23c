package admission

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestNamesSecret(t *testing.T) {
	s := &corev1.LocalObjectReference{Name: "s"}
	volume := func(v corev1.VolumeSource) corev1.PodSpec {
		return corev1.PodSpec{Volumes: []corev1.Volume{{VolumeSource: v}}}
	}
	key := &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: *s}}
	env := corev1.EnvFromSource{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: *s}}
	projected := &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{Secret: &corev1.SecretProjection{LocalObjectReference: *s}}}}
	for name, c := range map[string]struct {
		spec corev1.PodSpec
		want bool
	}{
		"none":        {corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}, false},
		"pull":        {corev1.PodSpec{ImagePullSecrets: []corev1.LocalObjectReference{{}, *s}}, true},
		"pull none":   {corev1.PodSpec{ImagePullSecrets: []corev1.LocalObjectReference{{}}}, false},
		"environment": {corev1.PodSpec{InitContainers: []corev1.Container{{Env: []corev1.EnvVar{{ValueFrom: key}}}}}, true},
		"all of it":   {corev1.PodSpec{Containers: []corev1.Container{{EnvFrom: []corev1.EnvFromSource{env}}}}, true},
		"ephemeral": {corev1.PodSpec{EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
			EnvFrom: []corev1.EnvFromSource{env},
		}}}}, true},
		"volume":    {volume(corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s"}}), true},
		"projected": {volume(corev1.VolumeSource{Projected: projected}), true},
		"driver":    {volume(corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{NodePublishSecretRef: s}}), true},
		"map":       {volume(corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: *s}}), false},
		"two types": {volume(corev1.VolumeSource{AzureFile: &corev1.AzureFileVolumeSource{}, Secret: &corev1.SecretVolumeSource{SecretName: "s"}}), false},
	} {
		if got := namesSecret(&c.spec); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
