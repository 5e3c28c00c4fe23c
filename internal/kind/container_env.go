package kind

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateEnv(path *field.Path, vars []corev1.EnvVar) field.ErrorList {
	var errs field.ErrorList
	for i, env := range vars {
		name := path.Index(i).Child("name")
		if env.Name == "" {
			errs = append(errs, field.Required(name, ""))
		} else {
			errs = append(errs, invalidEach(name, env.Name, validation.IsRelaxedEnvVarName(env.Name))...)
		}
		if env.ValueFrom != nil {
			errs = append(errs, validateEnvSource(path.Index(i).Child("valueFrom"), env)...)
		}
	}
	return errs
}

func validateEnvSource(path *field.Path, env corev1.EnvVar) field.ErrorList {
	var errs field.ErrorList
	from, sources := env.ValueFrom, 0
	if from.FieldRef != nil {
		sources++
		errs = append(errs, validateFieldRef(path.Child("fieldRef"), from.FieldRef, envFields())...)
	}
	if from.ResourceFieldRef != nil {
		sources++
		errs = append(errs, validateResourceFieldRef(path.Child("resourceFieldRef"), from.ResourceFieldRef)...)
	}
	if ref := from.ConfigMapKeyRef; ref != nil {
		sources++
		errs = append(errs, validateKeyRef(path.Child("configMapKeyRef"), ref.Name, ref.Key)...)
	}
	if ref := from.SecretKeyRef; ref != nil {
		sources++
		errs = append(errs, validateKeyRef(path.Child("secretKeyRef"), ref.Name, ref.Key)...)
	}
	if from.FileKeyRef != nil {
		sources++
		errs = append(errs, validateFileKeyRef(path.Child("fileKeyRef"), from.FileKeyRef)...)
	}
	switch {
	case sources == 0:
		errs = append(errs, field.Invalid(path, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"))
	case env.Value != "":
		errs = append(errs, field.Invalid(path, "", "may not be specified when `value` is not empty"))
	case sources > 1:
		errs = append(errs, field.Invalid(path, "", "may not have more than one field specified at a time"))
	}
	return errs
}

func validateEnvFrom(path *field.Path, froms []corev1.EnvFromSource) field.ErrorList {
	var errs field.ErrorList
	for i, from := range froms {
		at := path.Index(i)
		if from.Prefix != "" {
			errs = append(errs, invalidEach(at.Child("prefix"), from.Prefix, validation.IsRelaxedEnvVarName(from.Prefix))...)
		}
		if from.ConfigMapRef != nil {
			errs = append(errs, validatePrefixName(at.Child("configMapRef", "name"), from.ConfigMapRef.Name)...)
		}
		if from.SecretRef != nil {
			errs = append(errs, validatePrefixName(at.Child("secretRef", "name"), from.SecretRef.Name)...)
		}
		switch {
		case from.ConfigMapRef == nil && from.SecretRef == nil:
			errs = append(errs, field.Invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"))
		case from.ConfigMapRef != nil && from.SecretRef != nil:
			errs = append(errs, field.Invalid(path, "", "may not have more than one field specified at a time"))
		}
	}
	return errs
}

// validatePrefixName accepts a trailing dash, as upstream does here.
func validatePrefixName(path *field.Path, name string) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return invalidEach(path, name, apivalidation.NameIsDNSSubdomain(name, true))
}

// validateKeyRef checks the name of a ConfigMap or Secret and a key in it.
func validateKeyRef(path *field.Path, name, key string) field.ErrorList {
	errs := dnsSubdomain(path.Child("name"), name)
	if key == "" {
		return append(errs, field.Required(path.Child("key"), ""))
	}
	return append(errs, invalidEach(path.Child("key"), key, validation.IsConfigMapKey(key))...)
}

func validateFileKeyRef(path *field.Path, ref *corev1.FileKeySelector) field.ErrorList {
	var errs field.ErrorList
	if ref.Key == "" {
		errs = append(errs, field.Required(path.Child("key"), ""))
	} else {
		errs = append(errs, invalidEach(path.Child("key"), ref.Key, validation.IsRelaxedEnvVarName(ref.Key))...)
	}
	if ref.VolumeName == "" {
		errs = append(errs, field.Required(path.Child("volumeName"), ""))
	} else {
		errs = append(errs, dnsLabel(path.Child("volumeName"), ref.VolumeName)...)
	}
	if ref.Path == "" {
		return append(errs, field.Required(path.Child("path"), ""))
	}
	return append(errs, noBackstep(path.Child("path"), ref.Path)...)
}

// envFields are the fields of a Pod that an environment variable may show,
// besides single labels and annotations.
func envFields() []string {
	return []string{
		"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
		"status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
	}
}

// volumeFields are those that a file may show.
func volumeFields() []string {
	return []string{"metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"}
}

// validateFieldRef checks a downward API field: metadata.labels['KEY'],
// metadata.annotations['KEY'] or one of fields.
func validateFieldRef(path *field.Path, ref *corev1.ObjectFieldSelector, fields []string) field.ErrorList {
	at := path.Child("fieldPath")
	switch {
	case ref.FieldPath == "":
		return field.ErrorList{field.Required(at, "")}
	case ref.APIVersion != "v1":
		return field.ErrorList{field.Invalid(at, ref.FieldPath, "error converting fieldPath: unsupported pod version: "+ref.APIVersion)}
	}
	if base, key, ok := subscript(ref.FieldPath); ok {
		switch base {
		case "metadata.annotations":
			return qualifiedName(path, strings.ToLower(key))
		case "metadata.labels":
			return qualifiedName(path, key)
		}
		return field.ErrorList{field.Invalid(at, ref.FieldPath, "error converting fieldPath: field label does not support subscript: "+ref.FieldPath)}
	}
	name := ref.FieldPath
	if name == "spec.host" { // its name before v1
		name = "spec.nodeName"
	}
	known := slices.Concat(envFields(), volumeFields(), []string{"spec.restartPolicy", "spec.schedulerName", "status.phase"})
	if !slices.Contains(known, name) {
		return field.ErrorList{field.Invalid(at, ref.FieldPath, "error converting fieldPath: field label not supported: "+ref.FieldPath)}
	}
	// Upstream tells the name left over from splitting off a subscript.
	return oneOf(at, name, fields...)
}

// subscript splits a['b'] into a and b.
func subscript(path string) (base, key string, ok bool) {
	rest, ok := strings.CutSuffix(path, "']")
	if !ok {
		return path, "", false
	}
	base, key, ok = strings.Cut(rest, "['")
	if !ok || base == "" {
		return path, "", false
	}
	return base, key, true
}

// validateResourceFieldRef checks a reference to a container's own resources.
func validateResourceFieldRef(path *field.Path, ref *corev1.ResourceFieldSelector) field.ErrorList {
	known := []string{
		"limits.cpu", "limits.ephemeral-storage", "limits.memory",
		"requests.cpu", "requests.ephemeral-storage", "requests.memory",
	}
	var errs field.ErrorList
	switch {
	case ref.Resource == "":
		errs = append(errs, field.Required(path.Child("resource"), ""))
	case !isHugePagesField(ref.Resource):
		errs = append(errs, oneOf(path.Child("resource"), ref.Resource, known...)...)
	}
	return append(errs, validateDivisor(path.Child("divisor"), ref)...)
}

func isHugePagesField(name string) bool {
	return strings.HasPrefix(name, "limits.hugepages-") || strings.HasPrefix(name, "requests.hugepages-")
}

// validateDivisor checks the unit in which a resource is shown; zero means 1.
func validateDivisor(path *field.Path, ref *corev1.ResourceFieldSelector) field.ErrorList {
	if ref.Divisor.Cmp(resource.Quantity{}) == 0 {
		return nil
	}
	sizes := []string{"1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"}
	var units []string
	var list, what string
	_, name, _ := strings.Cut(ref.Resource, ".")
	switch {
	case name == "cpu":
		units, list, what = []string{"1m", "1"}, "1m and 1", "cpu"
	case name == "memory":
		units, list, what = sizes, strings.Join(sizes, ", "), "memory"
	case name == "ephemeral-storage":
		units, list, what = sizes, strings.Join(sizes, ", "), "local ephemeral storage"
	case isHugePagesField(ref.Resource):
		units, list, what = sizes, strings.Join(sizes, ", "), "hugepages"
	default:
		return nil
	}
	if slices.Contains(units, ref.Divisor.String()) {
		return nil
	}
	return field.ErrorList{field.Invalid(path, ref.Resource, fmt.Sprintf("only divisor's values %s are supported with the %s resource", list, what))}
}
