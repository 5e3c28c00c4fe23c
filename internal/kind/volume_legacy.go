package kind

import (
	"net"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The types below are storage that Kubernetes has, or had, code of its own for.
// They are accepted as upstream accepts them; what runs Pods says which of them
// it can mount.

func validateGitRepo(path *field.Path, v *corev1.GitRepoVolumeSource) field.ErrorList {
	return append(notEmpty(path.Child("repository"), v.Repository), relativePath(path.Child("directory"), v.Directory)...)
}

func validateGCEDisk(path *field.Path, v *corev1.GCEPersistentDiskVolumeSource) field.ErrorList {
	return append(notEmpty(path.Child("pdName"), v.PDName), validatePartition(path, v.Partition)...)
}

func validateAWSDisk(path *field.Path, v *corev1.AWSElasticBlockStoreVolumeSource) field.ErrorList {
	return append(notEmpty(path.Child("volumeID"), v.VolumeID), validatePartition(path, v.Partition)...)
}

func validateGlusterfs(path *field.Path, v *corev1.GlusterfsVolumeSource) field.ErrorList {
	return append(notEmpty(path.Child("endpoints"), v.EndpointsName), notEmpty(path.Child("path"), v.Path)...)
}

func validateRBD(path *field.Path, v *corev1.RBDVolumeSource) field.ErrorList {
	return append(notEmptyList(path.Child("monitors"), v.CephMonitors), notEmpty(path.Child("image"), v.RBDImage)...)
}

func validateCinder(path *field.Path, v *corev1.CinderVolumeSource) field.ErrorList {
	return append(notEmpty(path.Child("volumeID"), v.VolumeID), validateSecretName(path, v.SecretRef)...)
}

func validateAzureFile(path *field.Path, v *corev1.AzureFileVolumeSource) field.ErrorList {
	return append(notEmpty(path.Child("secretName"), v.SecretName), notEmpty(path.Child("shareName"), v.ShareName)...)
}

func validateVsphere(path *field.Path, v *corev1.VsphereVirtualDiskVolumeSource) field.ErrorList {
	return notEmpty(path.Child("volumePath"), v.VolumePath)
}

func validatePhoton(path *field.Path, v *corev1.PhotonPersistentDiskVolumeSource) field.ErrorList {
	return notEmpty(path.Child("pdID"), v.PdID)
}

func validatePortworx(path *field.Path, v *corev1.PortworxVolumeSource) field.ErrorList {
	return notEmpty(path.Child("volumeID"), v.VolumeID)
}

func validateScaleIO(path *field.Path, v *corev1.ScaleIOVolumeSource) field.ErrorList {
	errs := append(notEmpty(path.Child("gateway"), v.Gateway), notEmpty(path.Child("system"), v.System)...)
	return append(errs, notEmpty(path.Child("volumeName"), v.VolumeName)...)
}

// validateISCSIName: what the node calls the session is made of both.
func validateISCSIName(s volumeScope, v *corev1.VolumeSource) field.ErrorList {
	if v.ISCSI.InitiatorName == nil || len(s.name+":"+v.ISCSI.TargetPortal) <= 64 {
		return nil
	}
	return field.ErrorList{field.Invalid(s.volume.Child("name"), s.name, "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.")}
}

func notEmptyList(path *field.Path, list []string) field.ErrorList {
	if len(list) == 0 {
		return field.ErrorList{field.Required(path, "")}
	}
	return nil
}

func validateSecretName(path *field.Path, ref *corev1.LocalObjectReference) field.ErrorList {
	if ref == nil {
		return nil
	}
	return notEmpty(path.Child("secretRef", "name"), ref.Name)
}

func validatePartition(path *field.Path, partition int32) field.ErrorList {
	if partition < 0 || partition > 255 {
		return field.ErrorList{field.Invalid(path.Child("partition"), partition, validation.InclusiveRangeError(1, 255))}
	}
	return nil
}

func validateLun(path *field.Path, lun int32) field.ErrorList {
	if lun < 0 || lun > 255 {
		return field.ErrorList{field.Invalid(path.Child("lun"), lun, validation.InclusiveRangeError(0, 255))}
	}
	return nil
}

func validateISCSI(path *field.Path, v *corev1.ISCSIVolumeSource) field.ErrorList {
	errs := notEmpty(path.Child("targetPortal"), v.TargetPortal)
	if v.IQN == "" {
		errs = append(errs, field.Required(path.Child("iqn"), ""))
	} else {
		errs = append(errs, validateInitiator(path.Child("iqn"), v.IQN)...)
	}
	errs = append(errs, validateLun(path, v.Lun)...)
	if (v.DiscoveryCHAPAuth || v.SessionCHAPAuth) && v.SecretRef == nil {
		errs = append(errs, field.Required(path.Child("secretRef"), ""))
	}
	if v.InitiatorName != nil {
		errs = append(errs, validateInitiator(path.Child("initiatorname"), *v.InitiatorName)...)
	}
	return errs
}

// validateInitiator checks a name by the scheme that it begins with.
func validateInitiator(path *field.Path, name string) field.ErrorList {
	for prefix, format := range map[string]string{
		"iqn": `iqn\.\d{4}-\d{2}\.([[:alnum:]-.]+)(:[^,;*&$|\s]+)$`,
		"eui": `^eui.[[:alnum:]]{16}$`,
		"naa": `^naa.[[:alnum:]]{32}$`,
	} {
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		if !regexp.MustCompile(format).MatchString(name) {
			return field.ErrorList{field.Invalid(path, name, "must be valid format")}
		}
		return nil
	}
	return field.ErrorList{field.Invalid(path, name, "must be valid format starting with iqn, eui, or naa")}
}

func validateFlocker(path *field.Path, v *corev1.FlockerVolumeSource) field.ErrorList {
	var errs field.ErrorList
	if v.DatasetName == "" && v.DatasetUUID == "" {
		errs = append(errs, field.Required(path, "one of datasetName and datasetUUID is required"))
	}
	if v.DatasetName != "" && v.DatasetUUID != "" {
		errs = append(errs, field.Invalid(path, "resource", "datasetName and datasetUUID can not be specified simultaneously"))
	}
	if strings.Contains(v.DatasetName, "/") {
		errs = append(errs, field.Invalid(path.Child("datasetName"), v.DatasetName, "must not contain '/'"))
	}
	return errs
}

func validateQuobyte(path *field.Path, v *corev1.QuobyteVolumeSource) field.ErrorList {
	const pairs = "must be a host:port pair or multiple pairs separated by commas"
	var errs field.ErrorList
	switch {
	case v.Registry == "":
		errs = append(errs, field.Required(path.Child("registry"), pairs))
	case len(v.Tenant) > 64:
		errs = append(errs, field.Required(path.Child("tenant"), "must be a UUID and may not exceed a length of 64 characters"))
	default:
		for _, pair := range strings.Split(v.Registry, ",") {
			if _, _, err := net.SplitHostPort(pair); err != nil {
				errs = append(errs, field.Invalid(path.Child("registry"), v.Registry, pairs))
			}
		}
	}
	return append(errs, notEmpty(path.Child("volume"), v.Volume)...)
}

func validateFC(path *field.Path, v *corev1.FCVolumeSource) field.ErrorList {
	var errs field.ErrorList
	at := path.Child("targetWWNs")
	if len(v.TargetWWNs) == 0 && len(v.WWIDs) == 0 {
		errs = append(errs, field.Required(at, "must specify either targetWWNs or wwids, but not both"))
	}
	if len(v.TargetWWNs) != 0 && len(v.WWIDs) != 0 {
		errs = append(errs, field.Invalid(at, v.TargetWWNs, "targetWWNs and wwids can not be specified simultaneously"))
	}
	if len(v.TargetWWNs) == 0 {
		return errs
	}
	if v.Lun == nil {
		return append(errs, field.Required(path.Child("lun"), "lun is required if targetWWNs is specified"))
	}
	return append(errs, validateLun(path, *v.Lun)...)
}

func validateFlex(path *field.Path, v *corev1.FlexVolumeSource) field.ErrorList {
	errs := notEmpty(path.Child("driver"), v.Driver)
	for key := range v.Options {
		domain, _, _ := strings.Cut(key, "/")
		domain = "." + strings.ToLower(domain)
		if strings.HasSuffix(domain, ".kubernetes.io") || strings.HasSuffix(domain, ".k8s.io") {
			errs = append(errs, field.Invalid(path.Child("options").Key(key), key, "kubernetes.io and k8s.io namespaces are reserved"))
		}
	}
	return errs
}

func validateAzureDisk(path *field.Path, v *corev1.AzureDiskVolumeSource) field.ErrorList {
	errs := append(notEmpty(path.Child("diskName"), v.DiskName), notEmpty(path.Child("diskURI"), v.DataDiskURI)...)
	if v.CachingMode != nil {
		errs = append(errs, oneOf(path.Child("cachingMode"), *v.CachingMode,
			corev1.AzureDataDiskCachingNone, corev1.AzureDataDiskCachingReadOnly, corev1.AzureDataDiskCachingReadWrite)...)
	}
	if v.Kind == nil {
		return errs
	}
	errs = append(errs, oneOf(path.Child("kind"), *v.Kind, corev1.AzureDedicatedBlobDisk, corev1.AzureManagedDisk, corev1.AzureSharedBlobDisk)...)
	prefix, form := "https://", "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"
	if *v.Kind == corev1.AzureManagedDisk {
		prefix, form = "/subscriptions/", "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"
	}
	if !strings.HasPrefix(v.DataDiskURI, prefix) {
		errs = append(errs, field.NotSupported(path.Child("diskURI"), v.DataDiskURI, []string{form}))
	}
	return errs
}

func validateStorageOS(path *field.Path, v *corev1.StorageOSVolumeSource) field.ErrorList {
	var errs field.ErrorList
	if v.VolumeName == "" {
		errs = append(errs, field.Required(path.Child("volumeName"), ""))
	} else {
		errs = append(errs, dnsLabel(path.Child("volumeName"), v.VolumeName)...)
	}
	if v.VolumeNamespace != "" {
		errs = append(errs, dnsLabel(path.Child("volumeNamespace"), v.VolumeNamespace)...)
	}
	return append(errs, validateSecretName(path, v.SecretRef)...)
}
