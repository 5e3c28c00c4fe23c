package kind

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateMounts checks that mounts name good volumes and have paths of their
// own. Errors about sub paths and propagation stand at the list, not at the
// mount, as upstream has them.
func validateMounts(path *field.Path, c *corev1.Container, volumes map[string]corev1.VolumeSource) field.ErrorList {
	var errs field.ErrorList
	seen, devices := map[string]bool{}, map[string]string{}
	for _, device := range c.VolumeDevices {
		devices[device.Name] = device.DevicePath
	}
	for i, mount := range c.VolumeMounts {
		name, at := path.Index(i).Child("name"), path.Index(i).Child("mountPath")
		errs = append(errs, notEmpty(name, mount.Name)...)
		if _, ok := volumes[mount.Name]; !ok {
			errs = append(errs, field.NotFound(name, mount.Name))
		}
		errs = append(errs, notEmpty(at, mount.MountPath)...)
		if seen[mount.MountPath] {
			errs = append(errs, field.Invalid(at, mount.MountPath, "must be unique"))
		}
		seen[mount.MountPath] = true
		if _, ok := devices[mount.Name]; ok {
			errs = append(errs, field.Invalid(name, mount.Name, "must not already exist in volumeDevices"))
		}
		if hasValue(devices, mount.MountPath) {
			errs = append(errs, field.Invalid(at, mount.MountPath, "must not already exist as a path in volumeDevices"))
		}
		errs = append(errs, validateSubPath(path, path.Index(i), mount)...)
		errs = append(errs, validatePropagation(path.Child("mountPropagation"), mount.MountPropagation, c)...)
		errs = append(errs, validateRecursiveReadOnly(path.Child("recursiveReadOnly"), mount)...)
	}
	return errs
}

func validateSubPath(list, path *field.Path, mount corev1.VolumeMount) field.ErrorList {
	if mount.SubPath == "" && mount.SubPathExpr == "" {
		return nil
	}
	errs := relativePath(list.Child("subPath"), mount.SubPath)
	if mount.SubPathExpr != "" && mount.SubPath != "" {
		errs = append(errs, field.Invalid(path.Child("subPathExpr"), mount.SubPathExpr, "subPathExpr and subPath are mutually exclusive"))
	}
	return append(errs, relativePath(list.Child("subPathExpr"), mount.SubPathExpr)...)
}

func validatePropagation(path *field.Path, mode *corev1.MountPropagationMode, c *corev1.Container) field.ErrorList {
	if mode == nil {
		return nil
	}
	errs := oneOf(path, *mode, corev1.MountPropagationBidirectional, corev1.MountPropagationHostToContainer, corev1.MountPropagationNone)
	privileged := c.SecurityContext != nil && isTrue(c.SecurityContext.Privileged)
	if *mode == corev1.MountPropagationBidirectional && !privileged {
		errs = append(errs, field.Forbidden(path, "Bidirectional mount propagation is available only to privileged containers"))
	}
	return errs
}

func validateRecursiveReadOnly(path *field.Path, mount corev1.VolumeMount) field.ErrorList {
	if mount.RecursiveReadOnly == nil || *mount.RecursiveReadOnly == corev1.RecursiveReadOnlyDisabled {
		return nil
	}
	errs := oneOf(path, *mount.RecursiveReadOnly,
		corev1.RecursiveReadOnlyDisabled, corev1.RecursiveReadOnlyEnabled, corev1.RecursiveReadOnlyIfPossible)
	if len(errs) > 0 {
		return errs
	}
	if !mount.ReadOnly {
		errs = append(errs, field.Forbidden(path, "may only be specified when readOnly is true"))
	}
	if mount.MountPropagation != nil && *mount.MountPropagation != corev1.MountPropagationNone {
		errs = append(errs, field.Forbidden(path, "may only be specified when mountPropagation is None or not specified"))
	}
	return errs
}

// validateDevices checks raw block devices, which only claims can give.
func validateDevices(path *field.Path, c *corev1.Container, volumes map[string]corev1.VolumeSource) field.ErrorList {
	var errs field.ErrorList
	names, paths, mounts := map[string]bool{}, map[string]bool{}, map[string]string{}
	for _, mount := range c.VolumeMounts {
		mounts[mount.Name] = mount.MountPath
	}
	for i, device := range c.VolumeDevices {
		name, at := path.Index(i).Child("name"), path.Index(i).Child("devicePath")
		errs = append(errs, notEmpty(name, device.Name)...)
		if names[device.Name] {
			errs = append(errs, field.Invalid(name, device.Name, "must be unique"))
		}
		source, ok := volumes[device.Name]
		if !ok {
			errs = append(errs, field.NotFound(name, device.Name))
		} else if source.PersistentVolumeClaim == nil && source.Ephemeral == nil {
			errs = append(errs, field.Invalid(name, device.Name, "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"))
		}
		errs = append(errs, notEmpty(at, device.DevicePath)...)
		if paths[device.DevicePath] {
			errs = append(errs, field.Invalid(at, device.DevicePath, "must be unique"))
		}
		if len(noBackstep(at, device.DevicePath)) > 0 {
			errs = append(errs, field.Invalid(at, device.DevicePath, "can not contain backsteps ('..')"))
		}
		if _, ok := mounts[device.Name]; ok {
			errs = append(errs, field.Invalid(name, device.Name, "must not already exist in volumeMounts"))
		}
		if hasValue(mounts, device.DevicePath) {
			errs = append(errs, field.Invalid(at, device.DevicePath, "must not already exist as a path in volumeMounts"))
		}
		names[device.Name], paths[device.DevicePath] = device.Name != "", true
	}
	return errs
}

func hasValue(m map[string]string, value string) bool {
	for _, v := range m {
		if v == value {
			return true
		}
	}
	return false
}

func isTrue(b *bool) bool { return b != nil && *b }
