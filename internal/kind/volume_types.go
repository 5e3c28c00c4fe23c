package kind

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// volumeType is one type of volume: its field, whether it is set, and what is
// wrong with it.
type volumeType struct {
	name  string
	set   func(*corev1.VolumeSource) bool
	check func(volumeScope, *corev1.VolumeSource) field.ErrorList
	// surplus is what upstream calls the type where it is one too many, if that
	// is not its name.
	surplus string
	// always is checked even then.
	always func(volumeScope, *corev1.VolumeSource) field.ErrorList
}

// volumeScope is what the check of a type may need to know besides.
type volumeScope struct {
	path   *field.Path // of the type's field
	volume *field.Path
	name   string // of the volume
	of     podIdentity
}

// volumeOf makes a volumeType that needs to know its own field only.
func volumeOf[T any](name string, get func(*corev1.VolumeSource) *T, check func(*field.Path, *T) field.ErrorList) volumeType {
	return volumeType{
		name:  name,
		set:   func(v *corev1.VolumeSource) bool { return get(v) != nil },
		check: func(s volumeScope, v *corev1.VolumeSource) field.ErrorList { return check(s.path, get(v)) },
	}
}

// volumeTypes are in upstream's order: the first one that is set counts, further
// ones are refused.
var volumeTypes = []volumeType{
	volumeOf("emptyDir", func(v *corev1.VolumeSource) *corev1.EmptyDirVolumeSource { return v.EmptyDir }, validateEmptyDir),
	volumeOf("hostPath", func(v *corev1.VolumeSource) *corev1.HostPathVolumeSource { return v.HostPath }, validateHostPath),
	volumeOf("gitRepo", func(v *corev1.VolumeSource) *corev1.GitRepoVolumeSource { return v.GitRepo }, validateGitRepo),
	{
		name: "persistentDisk", surplus: "gcePersistentDisk",
		set: func(v *corev1.VolumeSource) bool { return v.GCEPersistentDisk != nil },
		check: func(s volumeScope, v *corev1.VolumeSource) field.ErrorList {
			return validateGCEDisk(s.path, v.GCEPersistentDisk)
		},
	},
	volumeOf("awsElasticBlockStore", func(v *corev1.VolumeSource) *corev1.AWSElasticBlockStoreVolumeSource { return v.AWSElasticBlockStore }, validateAWSDisk),
	volumeOf("secret", func(v *corev1.VolumeSource) *corev1.SecretVolumeSource { return v.Secret }, validateSecretFiles),
	volumeOf("nfs", func(v *corev1.VolumeSource) *corev1.NFSVolumeSource { return v.NFS }, validateNFS),
	{
		name:   "iscsi",
		set:    func(v *corev1.VolumeSource) bool { return v.ISCSI != nil },
		check:  func(s volumeScope, v *corev1.VolumeSource) field.ErrorList { return validateISCSI(s.path, v.ISCSI) },
		always: validateISCSIName,
	},
	volumeOf("glusterfs", func(v *corev1.VolumeSource) *corev1.GlusterfsVolumeSource { return v.Glusterfs }, validateGlusterfs),
	volumeOf("flocker", func(v *corev1.VolumeSource) *corev1.FlockerVolumeSource { return v.Flocker }, validateFlocker),
	volumeOf("persistentVolumeClaim", func(v *corev1.VolumeSource) *corev1.PersistentVolumeClaimVolumeSource { return v.PersistentVolumeClaim }, validateClaimName),
	volumeOf("rbd", func(v *corev1.VolumeSource) *corev1.RBDVolumeSource { return v.RBD }, validateRBD),
	volumeOf("cinder", func(v *corev1.VolumeSource) *corev1.CinderVolumeSource { return v.Cinder }, validateCinder),
	{
		name: "cephfs", surplus: "cephFS",
		set: func(v *corev1.VolumeSource) bool { return v.CephFS != nil },
		check: func(s volumeScope, v *corev1.VolumeSource) field.ErrorList {
			return notEmptyList(s.path.Child("monitors"), v.CephFS.Monitors)
		},
	},
	volumeOf("quobyte", func(v *corev1.VolumeSource) *corev1.QuobyteVolumeSource { return v.Quobyte }, validateQuobyte),
	{
		name: "downwardAPI", surplus: "downwarAPI",
		set: func(v *corev1.VolumeSource) bool { return v.DownwardAPI != nil },
		check: func(s volumeScope, v *corev1.VolumeSource) field.ErrorList {
			return validateDownward(s.path, v.DownwardAPI)
		},
	},
	volumeOf("fc", func(v *corev1.VolumeSource) *corev1.FCVolumeSource { return v.FC }, validateFC),
	volumeOf("flexVolume", func(v *corev1.VolumeSource) *corev1.FlexVolumeSource { return v.FlexVolume }, validateFlex),
	volumeOf("configMap", func(v *corev1.VolumeSource) *corev1.ConfigMapVolumeSource { return v.ConfigMap }, validateConfigMapFiles),
	volumeOf("azureFile", func(v *corev1.VolumeSource) *corev1.AzureFileVolumeSource { return v.AzureFile }, validateAzureFile),
	volumeOf("vsphereVolume", func(v *corev1.VolumeSource) *corev1.VsphereVirtualDiskVolumeSource { return v.VsphereVolume }, validateVsphere),
	volumeOf("photonPersistentDisk", func(v *corev1.VolumeSource) *corev1.PhotonPersistentDiskVolumeSource { return v.PhotonPersistentDisk }, validatePhoton),
	volumeOf("portworxVolume", func(v *corev1.VolumeSource) *corev1.PortworxVolumeSource { return v.PortworxVolume }, validatePortworx),
	volumeOf("azureDisk", func(v *corev1.VolumeSource) *corev1.AzureDiskVolumeSource { return v.AzureDisk }, validateAzureDisk),
	volumeOf("storageos", func(v *corev1.VolumeSource) *corev1.StorageOSVolumeSource { return v.StorageOS }, validateStorageOS),
	volumeOf("projected", func(v *corev1.VolumeSource) *corev1.ProjectedVolumeSource { return v.Projected }, validateProjected),
	volumeOf("scaleIO", func(v *corev1.VolumeSource) *corev1.ScaleIOVolumeSource { return v.ScaleIO }, validateScaleIO),
	volumeOf("csi", func(v *corev1.VolumeSource) *corev1.CSIVolumeSource { return v.CSI }, validateCSI),
	{
		name:  "ephemeral",
		set:   func(v *corev1.VolumeSource) bool { return v.Ephemeral != nil },
		check: validateEphemeralOf,
	},
	{
		name:  "image",
		set:   func(v *corev1.VolumeSource) bool { return v.Image != nil },
		check: validateImageVolume,
	},
}

// validateVolumeSource checks the type of a volume.
func validateVolumeSource(path *field.Path, v *corev1.Volume, of podIdentity) field.ErrorList {
	var errs field.ErrorList
	found := false
	for i := range volumeTypes {
		t := &volumeTypes[i]
		if !t.set(&v.VolumeSource) {
			continue
		}
		scope := volumeScope{path: path.Child(t.name), volume: path, name: v.Name, of: of}
		if found {
			surplus := t.surplus
			orDefault(&surplus, t.name)
			errs = append(errs, field.Forbidden(path.Child(surplus), "may not specify more than 1 volume type"))
		} else {
			errs = append(errs, t.check(scope, &v.VolumeSource)...)
		}
		if t.always != nil {
			errs = append(errs, t.always(scope, &v.VolumeSource)...)
		}
		found = true
	}
	return errs
}

// validateEphemeralOf checks the claim, and that a Pod can give it a name.
func validateEphemeralOf(s volumeScope, v *corev1.VolumeSource) field.ErrorList {
	errs := validateEphemeral(s.path, v.Ephemeral)
	if s.of.name == "" || s.name == "" {
		return errs
	}
	claim := s.of.name + "-" + s.name
	for _, wrong := range dnsSubdomain(s.path, claim) {
		errs = append(errs, field.Invalid(s.volume.Child("name"), s.name, fmt.Sprintf("PVC name %q: %v", claim, wrong.Detail)))
	}
	return errs
}

// validateImageVolume lets a template leave the image to what fills it in.
func validateImageVolume(s volumeScope, v *corev1.VolumeSource) field.ErrorList {
	var errs field.ErrorList
	if s.of.pod {
		errs = notEmpty(s.path.Child("reference"), v.Image.Reference)
	}
	return append(errs, validatePullPolicy(s.path.Child("pullPolicy"), v.Image.PullPolicy)...)
}
