package kind

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestVolumeValidation(t *testing.T) {
	volume := func(source corev1.VolumeSource) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.ServiceAccountName = "builder"
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: source}}
		}
	}
	projected := func(sources ...corev1.VolumeProjection) func(*corev1.Pod) {
		return volume(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: sources}})
	}
	items := []corev1.KeyToPath{{Key: "a", Path: "x"}}
	const at = "spec.volumes[0]"
	runPodCases(t, []podCase{
		{"names", func(p *corev1.Pod) { p.Spec.Volumes = []corev1.Volume{{}, {Name: "a.b"}, {Name: "c"}, {Name: "c"}} }, []string{
			"spec.volumes[0].name: Required value",
			`spec.volumes[1].name: Invalid value: "a.b": must not contain dots`,
			`spec.volumes[3].name: Duplicate value: "c"`,
		}},
		{"two types", volume(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}, Secret: &corev1.SecretVolumeSource{SecretName: "s"}}), []string{
			at + ".secret: Forbidden: may not specify more than 1 volume type"}},
		{"empty dir", volume(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: new(resources("cpu", "-1")["cpu"])}}), []string{
			at + ".emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity"}},
		{"host path", volume(corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{}}), []string{at + ".hostPath.path: Required value"}},
		{"host path type", volume(corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/a/../b", Type: new(corev1.HostPathType("Disk"))}}), []string{
			at + `.hostPath.path: Invalid value: "/a/../b": must not contain '..'`,
			at + `.hostPath.type: Unsupported value: "Disk": supported values: "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"`}},
		{"secret", volume(corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{DefaultMode: new(int32(0o1000)), Items: []corev1.KeyToPath{{Path: "..a"}}}}), []string{
			at + ".secret.secretName: Required value",
			at + ".secret.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive",
			at + ".secret.items[0].key: Required value",
			at + `.secret.items[0].path: Invalid value: "..a": must not start with '..'`,
		}},
		{"config map", volume(corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{}}), []string{at + ".configMap.name: Required value"}},
		{"claim", volume(corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{}}), []string{
			at + ".persistentVolumeClaim.claimName: Required value"}},
		{"nfs", volume(corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{Server: "s", Path: "a"}}), []string{
			at + `.nfs.path: Invalid value: "a": must be an absolute path`}},
		{"downward", volume(corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{
			{Path: "a"}, {Path: "b", ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.cpu"}},
		}}}), []string{
			at + ".downwardAPI: Required value: one of fieldRef and resourceFieldRef is required",
			at + ".downwardAPI.resourceFieldRef.containerName: Required value",
		}},
		{"token", projected(corev1.VolumeProjection{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{ExpirationSeconds: new(int64(60))}}), []string{
			at + ".projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 60: may not specify a duration less than 10 minutes",
			at + ".projected.path: Required value",
		}},
		{"same file twice", projected(
			corev1.VolumeProjection{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}, Items: items}},
			corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "c"}, Items: items}},
		), []string{at + `.projected: Invalid value: "c": conflicting duplicate paths`}},
		{"two sources in one", projected(corev1.VolumeProjection{
			Secret:    &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}},
			ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "c"}},
		}), []string{at + ".projected.sources[0]: Forbidden: may not specify more than 1 volume type per source"}},
		{"csi", volume(corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{NodePublishSecretRef: &corev1.LocalObjectReference{}}}), []string{
			at + ".csi.driver: Required value", at + ".csi.nodePublishSecretRef.name: Required value"}},
		{"image", volume(corev1.VolumeSource{Image: &corev1.ImageVolumeSource{PullPolicy: "x"}}), []string{
			at + ".image.reference: Required value",
			at + `.image.pullPolicy: Unsupported value: "x": supported values: "Always", "IfNotPresent", "Never"`,
		}},
		{"ephemeral", volume(corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{
			ObjectMeta: metav1.ObjectMeta{Name: "x"},
		}}}), []string{
			at + ".ephemeral.volumeClaimTemplate.metadata.name: Forbidden: cannot be set",
			at + ".ephemeral.volumeClaimTemplate.spec.accessModes: Required value: at least 1 access mode is required",
			at + ".ephemeral.volumeClaimTemplate.spec.resources[storage]: Required value",
		}},
		{"claim of an ephemeral volume", func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{
				{Name: "e", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{Spec: corev1.PersistentVolumeClaimSpec{
					AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, Resources: corev1.VolumeResourceRequirements{Requests: resources("storage", "1Gi")},
				}}}}},
				{Name: "c", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "web-e"}}},
			}
		}, []string{`spec.volumes[1].persistentVolumeClaim.claimName: Invalid value: "web-e": must not reference a PVC that gets created for an ephemeral volume`}},
		{"iscsi", volume(corev1.VolumeSource{ISCSI: &corev1.ISCSIVolumeSource{TargetPortal: "t", IQN: "iqn.a", Lun: 256}}), []string{
			at + `.iscsi.iqn: Invalid value: "iqn.a": must be valid format`,
			at + ".iscsi.lun: Invalid value: 256: must be between 0 and 255, inclusive",
		}},
	})
}
