package kind

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateVolumes checks the volumes of a Pod and returns the good ones by
// name. The claims that ephemeral volumes create are named after the Pod.
func validateVolumes(path *field.Path, volumes []corev1.Volume, of podIdentity) (map[string]corev1.VolumeSource, field.ErrorList) {
	var errs field.ErrorList
	good := map[string]corev1.VolumeSource{}
	for i := range volumes {
		v, at := &volumes[i], path.Index(i)
		wrong := validateVolumeSource(at, v, of)
		if v.Name == "" {
			wrong = append(wrong, field.Required(at.Child("name"), ""))
		} else {
			wrong = append(wrong, dnsLabel(at.Child("name"), v.Name)...)
		}
		if _, ok := good[v.Name]; ok {
			wrong = append(wrong, field.Duplicate(at.Child("name"), v.Name))
		}
		if len(wrong) == 0 {
			good[v.Name] = v.VolumeSource
		}
		errs = append(errs, wrong...)
		if claim := v.PersistentVolumeClaim; claim != nil && createsClaim(volumes, of.name, claim.ClaimName) {
			errs = append(errs, field.Invalid(at.Child("persistentVolumeClaim", "claimName"), claim.ClaimName, "must not reference a PVC that gets created for an ephemeral volume"))
		}
	}
	return good, errs
}

// createsClaim reports whether an ephemeral volume makes the claim of that name.
func createsClaim(volumes []corev1.Volume, podName, claim string) bool {
	for _, v := range volumes {
		if v.Ephemeral != nil && podName != "" && claim == podName+"-"+v.Name {
			return true
		}
	}
	return false
}

func validateEmptyDir(path *field.Path, v *corev1.EmptyDirVolumeSource) field.ErrorList {
	if v.SizeLimit != nil && v.SizeLimit.Sign() < 0 {
		return field.ErrorList{field.Forbidden(path.Child("sizeLimit"), "SizeLimit field must be a valid resource quantity")}
	}
	return nil
}

func validateHostPath(path *field.Path, v *corev1.HostPathVolumeSource) field.ErrorList {
	if v.Path == "" {
		return field.ErrorList{field.Required(path.Child("path"), "")}
	}
	errs := noBackstep(path.Child("path"), v.Path)
	if v.Type != nil {
		errs = append(errs, oneOf(path.Child("type"), *v.Type,
			corev1.HostPathUnset, corev1.HostPathBlockDev, corev1.HostPathCharDev, corev1.HostPathDirectory,
			corev1.HostPathDirectoryOrCreate, corev1.HostPathFile, corev1.HostPathFileOrCreate, corev1.HostPathSocket)...)
	}
	return errs
}

// validateFiles checks a ConfigMap or Secret whose keys become files.
func validateFiles(path *field.Path, nameField, name string, mode *int32, items []corev1.KeyToPath) field.ErrorList {
	errs := notEmpty(path.Child(nameField), name)
	errs = append(errs, fileMode(path.Child("defaultMode"), mode)...)
	return append(errs, validateItems(path.Child("items"), items)...)
}

func validateSecretFiles(path *field.Path, v *corev1.SecretVolumeSource) field.ErrorList {
	return validateFiles(path, "secretName", v.SecretName, v.DefaultMode, v.Items)
}

func validateConfigMapFiles(path *field.Path, v *corev1.ConfigMapVolumeSource) field.ErrorList {
	return validateFiles(path, "name", v.Name, v.DefaultMode, v.Items)
}

func validateClaimName(path *field.Path, v *corev1.PersistentVolumeClaimVolumeSource) field.ErrorList {
	return notEmpty(path.Child("claimName"), v.ClaimName)
}

func validateItems(path *field.Path, items []corev1.KeyToPath) field.ErrorList {
	var errs field.ErrorList
	for i, item := range items {
		at := path.Index(i)
		errs = append(errs, notEmpty(at.Child("key"), item.Key)...)
		errs = append(errs, notEmpty(at.Child("path"), item.Path)...)
		errs = append(errs, fileName(at.Child("path"), item.Path)...)
		errs = append(errs, fileMode(at.Child("mode"), item.Mode)...)
	}
	return errs
}

func validateNFS(path *field.Path, v *corev1.NFSVolumeSource) field.ErrorList {
	errs := notEmpty(path.Child("server"), v.Server)
	errs = append(errs, notEmpty(path.Child("path"), v.Path)...)
	if len(v.Path) == 0 || v.Path[0] != '/' {
		errs = append(errs, field.Invalid(path.Child("path"), v.Path, "must be an absolute path"))
	}
	return errs
}

// validateDownward tells errors of files at the volume, as upstream does.
func validateDownward(path *field.Path, v *corev1.DownwardAPIVolumeSource) field.ErrorList {
	errs := fileMode(path.Child("defaultMode"), v.DefaultMode)
	for i := range v.Items {
		errs = append(errs, validateDownwardFile(path, &v.Items[i])...)
	}
	return errs
}

func validateDownwardFile(path *field.Path, file *corev1.DownwardAPIVolumeFile) field.ErrorList {
	errs := notEmpty(path.Child("path"), file.Path)
	errs = append(errs, fileName(path.Child("path"), file.Path)...)
	switch {
	case file.FieldRef != nil:
		errs = append(errs, validateFieldRef(path.Child("fieldRef"), file.FieldRef, volumeFields())...)
		if file.ResourceFieldRef != nil {
			errs = append(errs, field.Invalid(path, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously"))
		}
	case file.ResourceFieldRef != nil && file.ResourceFieldRef.ContainerName == "":
		errs = append(errs, field.Required(path.Child("resourceFieldRef", "containerName"), ""))
	case file.ResourceFieldRef != nil:
		errs = append(errs, validateResourceFieldRef(path.Child("resourceFieldRef"), file.ResourceFieldRef)...)
	default:
		errs = append(errs, field.Required(path, "one of fieldRef and resourceFieldRef is required"))
	}
	return append(errs, fileMode(path.Child("mode"), file.Mode)...)
}

func validateCSI(path *field.Path, v *corev1.CSIVolumeSource) field.ErrorList {
	errs := validateCSIDriver(path.Child("driver"), v.Driver)
	if ref := v.NodePublishSecretRef; ref != nil {
		if ref.Name == "" {
			errs = append(errs, field.Required(path.Child("nodePublishSecretRef", "name"), ""))
		} else {
			errs = append(errs, dnsSubdomain(path.Child("name"), ref.Name)...)
		}
	}
	return errs
}
