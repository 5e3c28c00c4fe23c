package kind

import (
	"net"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// legacyVolumeChecks are the types of storage that Kubernetes has, or had, code
// of its own for. They are accepted as upstream accepts them; what runs Pods
// says which of them it can mount.
func legacyVolumeChecks(v *corev1.VolumeSource) []volumeCheck {
	one := func(name string, set bool, child string, value func() string) volumeCheck {
		return volumeCheck{name, set, func(p *field.Path) field.ErrorList { return notEmpty(p.Child(child), value()) }}
	}
	return []volumeCheck{
		{"gitRepo", v.GitRepo != nil, func(p *field.Path) field.ErrorList {
			return append(notEmpty(p.Child("repository"), v.GitRepo.Repository), relativePath(p.Child("directory"), v.GitRepo.Directory)...)
		}},
		{"gcePersistentDisk", v.GCEPersistentDisk != nil, func(p *field.Path) field.ErrorList {
			d := v.GCEPersistentDisk
			return append(notEmpty(p.Child("pdName"), d.PDName), validatePartition(p, d.Partition)...)
		}},
		{"awsElasticBlockStore", v.AWSElasticBlockStore != nil, func(p *field.Path) field.ErrorList {
			d := v.AWSElasticBlockStore
			return append(notEmpty(p.Child("volumeID"), d.VolumeID), validatePartition(p, d.Partition)...)
		}},
		{"iscsi", v.ISCSI != nil, func(p *field.Path) field.ErrorList { return validateISCSI(p, v.ISCSI) }},
		{"glusterfs", v.Glusterfs != nil, func(p *field.Path) field.ErrorList {
			return append(notEmpty(p.Child("endpoints"), v.Glusterfs.EndpointsName), notEmpty(p.Child("path"), v.Glusterfs.Path)...)
		}},
		{"flocker", v.Flocker != nil, func(p *field.Path) field.ErrorList { return validateFlocker(p, v.Flocker) }},
		{"rbd", v.RBD != nil, func(p *field.Path) field.ErrorList {
			return append(notEmptyList(p.Child("monitors"), v.RBD.CephMonitors), notEmpty(p.Child("image"), v.RBD.RBDImage)...)
		}},
		{"cinder", v.Cinder != nil, func(p *field.Path) field.ErrorList {
			return append(notEmpty(p.Child("volumeID"), v.Cinder.VolumeID), validateSecretName(p, v.Cinder.SecretRef)...)
		}},
		{"cephfs", v.CephFS != nil, func(p *field.Path) field.ErrorList { return notEmptyList(p.Child("monitors"), v.CephFS.Monitors) }},
		{"quobyte", v.Quobyte != nil, func(p *field.Path) field.ErrorList { return validateQuobyte(p, v.Quobyte) }},
		{"fc", v.FC != nil, func(p *field.Path) field.ErrorList { return validateFC(p, v.FC) }},
		{"flexVolume", v.FlexVolume != nil, func(p *field.Path) field.ErrorList { return validateFlex(p, v.FlexVolume) }},
		{"azureFile", v.AzureFile != nil, func(p *field.Path) field.ErrorList {
			return append(notEmpty(p.Child("secretName"), v.AzureFile.SecretName), notEmpty(p.Child("shareName"), v.AzureFile.ShareName)...)
		}},
		one("vsphereVolume", v.VsphereVolume != nil, "volumePath", func() string { return v.VsphereVolume.VolumePath }),
		one("photonPersistentDisk", v.PhotonPersistentDisk != nil, "pdID", func() string { return v.PhotonPersistentDisk.PdID }),
		one("portworxVolume", v.PortworxVolume != nil, "volumeID", func() string { return v.PortworxVolume.VolumeID }),
		{"azureDisk", v.AzureDisk != nil, func(p *field.Path) field.ErrorList { return validateAzureDisk(p, v.AzureDisk) }},
		{"storageos", v.StorageOS != nil, func(p *field.Path) field.ErrorList { return validateStorageOS(p, v.StorageOS) }},
		{"scaleIO", v.ScaleIO != nil, func(p *field.Path) field.ErrorList {
			errs := append(notEmpty(p.Child("gateway"), v.ScaleIO.Gateway), notEmpty(p.Child("system"), v.ScaleIO.System)...)
			return append(errs, notEmpty(p.Child("volumeName"), v.ScaleIO.VolumeName)...)
		}},
	}
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
