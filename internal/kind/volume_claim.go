package kind

import (
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateEphemeral checks the claim that a Pod brings with it.
func validateEphemeral(path *field.Path, v *corev1.EphemeralVolumeSource) field.ErrorList {
	at := path.Child("volumeClaimTemplate")
	if v.VolumeClaimTemplate == nil {
		return field.ErrorList{field.Required(at, "")}
	}
	meta := &v.VolumeClaimTemplate.ObjectMeta
	errs := apivalidation.ValidateAnnotations(meta.Annotations, at.Child("metadata", "annotations"))
	errs = append(errs, metavalidation.ValidateLabels(meta.Labels, at.Child("metadata", "labels"))...)
	errs = append(errs, refuseOtherFields(at.Child("metadata"), reflect.ValueOf(*meta), []string{"Annotations", "Labels"}, "cannot be set")...)
	return append(errs, validateClaimSpec(at.Child("spec"), &v.VolumeClaimTemplate.Spec)...)
}

func validateClaimSpec(path *field.Path, spec *corev1.PersistentVolumeClaimSpec) field.ErrorList {
	modes := path.Child("accessModes")
	var errs field.ErrorList
	if len(spec.AccessModes) == 0 {
		errs = append(errs, field.Required(modes, "at least 1 access mode is required"))
	}
	if spec.Selector != nil {
		errs = append(errs, metavalidation.ValidateLabelSelector(spec.Selector, metavalidation.LabelSelectorValidationOptions{}, path.Child("selector"))...)
	}
	errs = append(errs, validateAccessModes(modes, spec.AccessModes)...)
	storage := path.Child("resources").Key(string(corev1.ResourceStorage))
	if quantity, ok := spec.Resources.Requests[corev1.ResourceStorage]; !ok {
		errs = append(errs, field.Required(storage, ""))
	} else if quantity.Sign() <= 0 {
		errs = append(errs, field.Invalid(storage, quantity.String(), "must be greater than zero"))
	}
	if class := spec.StorageClassName; class != nil && *class != "" {
		errs = append(errs, dnsSubdomain(path.Child("storageClassName"), *class)...)
	}
	if spec.VolumeMode != nil {
		errs = append(errs, oneOf(path.Child("volumeMode"), *spec.VolumeMode, corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)...)
	}
	errs = append(errs, validateDataSources(path, spec)...)
	if class := spec.VolumeAttributesClassName; class != nil && *class != "" {
		errs = append(errs, dnsSubdomain(path.Child("volumeAttributesClassName"), *class)...)
	}
	return errs
}

func validateAccessModes(path *field.Path, modes []corev1.PersistentVolumeAccessMode) field.ErrorList {
	var errs field.ErrorList
	others := false
	for _, mode := range modes {
		wrong := oneOf(path, mode, corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOnce, corev1.ReadWriteOncePod)
		errs = append(errs, wrong...)
		others = others || len(wrong) == 0 && mode != corev1.ReadWriteOncePod
	}
	if others && slices.Contains(modes, corev1.ReadWriteOncePod) {
		errs = append(errs, field.Forbidden(path, "may not use ReadWriteOncePod with other access modes"))
	}
	return errs
}

// validateDataSources checks what a claim is to be filled with. The older field
// knows no namespace; where both are given they are the same.
func validateDataSources(path *field.Path, spec *corev1.PersistentVolumeClaimSpec) field.ErrorList {
	from, ref := spec.DataSource, spec.DataSourceRef
	var errs field.ErrorList
	if from != nil {
		errs = append(errs, validateDataSource(path.Child("dataSource"), *from)...)
	}
	if ref == nil {
		return errs
	}
	local := corev1.TypedLocalObjectReference{APIGroup: ref.APIGroup, Kind: ref.Kind, Name: ref.Name}
	errs = append(errs, validateDataSource(path.Child("dataSourceRef"), local)...)
	elsewhere := ref.Namespace != nil && *ref.Namespace != ""
	if elsewhere {
		errs = append(errs, invalidEach(path.Child("dataSourceRef", "namespace"), *ref.Namespace, apivalidation.ValidateNamespaceName(*ref.Namespace, false))...)
	}
	switch {
	case from != nil && elsewhere:
		errs = append(errs, field.Invalid(path, path.Child("dataSource"), "may not be specified when dataSourceRef.namespace is specified"))
	case from != nil && !reflect.DeepEqual(*from, local):
		errs = append(errs, field.Invalid(path, path.Child("dataSource"), "must match dataSourceRef"))
	}
	return errs
}

func validateDataSource(path *field.Path, from corev1.TypedLocalObjectReference) field.ErrorList {
	errs := notEmpty(path.Child("name"), from.Name)
	errs = append(errs, notEmpty(path.Child("kind"), from.Kind)...)
	if from.APIGroup != nil && *from.APIGroup != "" {
		return append(errs, dnsSubdomain(path.Child("apiGroup"), *from.APIGroup)...)
	}
	if from.Kind != "PersistentVolumeClaim" {
		errs = append(errs, field.Invalid(path, from.Kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup"))
	}
	return errs
}

func validateCSIDriver(path *field.Path, name string) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	var errs field.ErrorList
	if len(name) > 63 {
		errs = append(errs, field.TooLong(path, "", 63))
	}
	for _, wrong := range dnsSubdomain(path, strings.ToLower(name)) {
		errs = append(errs, field.Invalid(path, name, wrong.Detail))
	}
	return errs
}
