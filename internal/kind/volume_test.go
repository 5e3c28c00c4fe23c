package kind

import (
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
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
	const claimSpec = at + ".ephemeral.volumeClaimTemplate.spec"
	claim := func(change func(*corev1.PersistentVolumeClaimSpec)) func(*corev1.Pod) {
		spec := corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: resources("storage", "1Gi")},
		}
		change(&spec)
		return volume(corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{Spec: spec}}})
	}
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
		{"flocker", volume(corev1.VolumeSource{Flocker: &corev1.FlockerVolumeSource{DatasetName: "a/b", DatasetUUID: "u"}}), []string{
			at + `.flocker: Invalid value: "resource": datasetName and datasetUUID can not be specified simultaneously`,
			at + `.flocker.datasetName: Invalid value: "a/b": must not contain '/'`}},
		{"fc", volume(corev1.VolumeSource{FC: &corev1.FCVolumeSource{TargetWWNs: []string{"a"}}}), []string{
			at + ".fc.lun: Required value: lun is required if targetWWNs is specified"}},
		{"quobyte", volume(corev1.VolumeSource{Quobyte: &corev1.QuobyteVolumeSource{Registry: "a"}}), []string{
			at + `.quobyte.registry: Invalid value: "a": must be a host:port pair or multiple pairs separated by commas`, at + ".quobyte.volume: Required value"}},
		{"flex", volume(corev1.VolumeSource{FlexVolume: &corev1.FlexVolumeSource{Options: map[string]string{"fs.k8s.io/a": "b"}}}), []string{
			at + ".flexVolume.driver: Required value",
			at + `.flexVolume.options[fs.k8s.io/a]: Invalid value: "fs.k8s.io/a": kubernetes.io and k8s.io namespaces are reserved`}},
		{"azure disk", volume(corev1.VolumeSource{AzureDisk: &corev1.AzureDiskVolumeSource{DiskName: "d", DataDiskURI: "ftp://x"}}), []string{
			at + `.azureDisk.diskURI: Unsupported value: "ftp://x": supported values: "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"`}},
		{"storageos", volume(corev1.VolumeSource{StorageOS: &corev1.StorageOSVolumeSource{SecretRef: &corev1.LocalObjectReference{}}}), []string{
			at + ".storageos.volumeName: Required value", at + ".storageos.secretRef.name: Required value"}},
		{"others", func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{
				{Name: "a", VolumeSource: corev1.VolumeSource{RBD: &corev1.RBDVolumeSource{}}},
				{Name: "b", VolumeSource: corev1.VolumeSource{AWSElasticBlockStore: &corev1.AWSElasticBlockStoreVolumeSource{VolumeID: "v", Partition: 256}}},
				{Name: "c", VolumeSource: corev1.VolumeSource{VsphereVolume: &corev1.VsphereVirtualDiskVolumeSource{}}},
				{Name: "d", VolumeSource: corev1.VolumeSource{GitRepo: &corev1.GitRepoVolumeSource{Directory: "/a"}}},
				{Name: "e", VolumeSource: corev1.VolumeSource{ScaleIO: &corev1.ScaleIOVolumeSource{Gateway: "g", System: "s"}}},
			}
		}, []string{
			"spec.volumes[0].rbd.monitors: Required value", "spec.volumes[0].rbd.image: Required value",
			"spec.volumes[1].awsElasticBlockStore.partition: Invalid value: 256: must be between 1 and 255, inclusive",
			"spec.volumes[2].vsphereVolume.volumePath: Required value",
			"spec.volumes[3].gitRepo.repository: Required value", `spec.volumes[3].gitRepo.directory: Invalid value: "/a": must be a relative path`,
			"spec.volumes[4].scaleIO.volumeName: Required value",
		}},
		{"surplus types by upstream's names", volume(corev1.VolumeSource{
			HostPath: &corev1.HostPathVolumeSource{Path: "/"}, GCEPersistentDisk: &corev1.GCEPersistentDiskVolumeSource{},
			CephFS: &corev1.CephFSVolumeSource{}, DownwardAPI: &corev1.DownwardAPIVolumeSource{},
		}), []string{
			at + ".gcePersistentDisk: Forbidden: may not specify more than 1 volume type",
			at + ".cephFS: Forbidden: may not specify more than 1 volume type",
			at + ".downwarAPI: Forbidden: may not specify more than 1 volume type",
		}},
		{"gce", volume(corev1.VolumeSource{GCEPersistentDisk: &corev1.GCEPersistentDiskVolumeSource{}}), []string{at + ".persistentDisk.pdName: Required value"}},
		{"iscsi name", volume(corev1.VolumeSource{ISCSI: &corev1.ISCSIVolumeSource{
			TargetPortal: strings.Repeat("p", 63), IQN: "iqn.2001-04.com.example:a", InitiatorName: new("iqn.2001-04.com.example:a"),
		}}), []string{at + `.name: Invalid value: "v": Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.`}},
		{"claim filled with nothing", claim(func(s *corev1.PersistentVolumeClaimSpec) { s.DataSourceRef = &corev1.TypedObjectReference{} }), []string{
			claimSpec + ".dataSourceRef.name: Required value", claimSpec + ".dataSourceRef.kind: Required value",
			claimSpec + `.dataSourceRef: Invalid value: "": must be 'PersistentVolumeClaim' when referencing the default apiGroup`,
		}},
		{"claim filled with two things", claim(func(s *corev1.PersistentVolumeClaimSpec) {
			s.DataSource = &corev1.TypedLocalObjectReference{Kind: "PersistentVolumeClaim", Name: "a"}
			s.DataSourceRef = &corev1.TypedObjectReference{Kind: "PersistentVolumeClaim", Name: "b"}
		}), []string{claimSpec + ": Invalid value: {}: must match dataSourceRef"}},
		{"claim filled from elsewhere", claim(func(s *corev1.PersistentVolumeClaimSpec) {
			s.DataSource = &corev1.TypedLocalObjectReference{APIGroup: new("A"), Kind: "x", Name: "a"}
			s.DataSourceRef = &corev1.TypedObjectReference{APIGroup: new("a"), Kind: "x", Name: "a", Namespace: new("ns")}
		}), []string{
			claimSpec + `.dataSource.apiGroup: Invalid value: "A": ` + nameRule,
			claimSpec + ": Invalid value: {}: may not be specified when dataSourceRef.namespace is specified",
		}},
		{"modes of a claim", claim(func(s *corev1.PersistentVolumeClaimSpec) {
			s.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod, "x"}
			s.VolumeAttributesClassName = new("A")
		}), []string{
			claimSpec + `.accessModes: Unsupported value: "x": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"`,
			claimSpec + `.volumeAttributesClassName: Invalid value: "A": ` + nameRule,
		}},
		{"iscsi", volume(corev1.VolumeSource{ISCSI: &corev1.ISCSIVolumeSource{TargetPortal: "t", IQN: "iqn.a", Lun: 256}}), []string{
			at + `.iscsi.iqn: Invalid value: "iqn.a": must be valid format`,
			at + ".iscsi.lun: Invalid value: 256: must be between 0 and 255, inclusive",
		}},
	})
}

// TestEveryVolumeTypeIsKnown: a type that a newer library brings must not be
// taken for none.
func TestEveryVolumeTypeIsKnown(t *testing.T) {
	for f := range reflect.TypeFor[corev1.VolumeSource]().NumField() {
		v := corev1.Volume{Name: "v"}
		source := reflect.ValueOf(&v.VolumeSource).Elem().Field(f)
		source.Set(reflect.New(source.Type().Elem()))
		for _, e := range validateVolumeSource(field.NewPath("v"), &v, podIdentity{pod: true, name: "web"}) {
			if e.Detail == "must specify a volume type" {
				t.Errorf("%s is no volume type", reflect.TypeFor[corev1.VolumeSource]().Field(f).Name)
			}
		}
	}
}
