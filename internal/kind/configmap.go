package kind

import (
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ConfigMap describes the kind of that name.
var ConfigMap = &Kind{
	Resource:   schema.GroupVersionResource{Group: "", Version: "v1", Resource: "configmaps"},
	Kind:       "ConfigMap",
	Singular:   "configmap",
	ShortNames: []string{"cm"},
	Namespaced: true,
	New:        func() Object { return &corev1.ConfigMap{} },
	NewList:    func() runtime.Object { return &corev1.ConfigMapList{} },

	Default:  func(obj Object) { defaultConfigMap(obj.(*corev1.ConfigMap)) },
	Validate: func(obj Object) field.ErrorList { return configMapErrors(obj.(*corev1.ConfigMap), nil) },
	ValidateUpdate: func(obj, old Object) field.ErrorList {
		return configMapUpdateErrors(obj.(*corev1.ConfigMap), old.(*corev1.ConfigMap))
	},

	Columns: []metav1.TableColumnDefinition{
		nameColumn,
		column("Data", corev1.ConfigMap{}.SwaggerDoc()["data"]),
		ageColumn,
	},
	Row: func(obj Object, now time.Time) []any {
		c := obj.(*corev1.ConfigMap)
		return []any{c.Name, int64(len(c.Data) + len(c.BinaryData)), since(c.CreationTimestamp.Time, now)}
	},
}

func defaultConfigMap(c *corev1.ConfigMap) { wholeBytes(c.BinaryData) }

// wholeBytes makes of values that are null what they are once stored: empty.
func wholeBytes(data map[string][]byte) {
	for key, value := range data {
		if value == nil {
			data[key] = []byte{}
		}
	}
}

// emptied reports whether a map was sent that has nothing in it, which upstream
// takes for another one than no map at all.
func emptied(data map[string][]byte) bool { return data != nil && len(data) == 0 }

// frozen is what upstream says of a change to a ConfigMap or Secret whose
// immutable field is true.
const frozen = "field is immutable when `immutable` is set"

// configMapErrors checks a whole ConfigMap. old may be nil.
func configMapErrors(c *corev1.ConfigMap, old Object) field.ErrorList {
	errs := newMetaErrors(c, old, apivalidation.NameIsDNSSubdomain)
	size := 0
	for _, key := range slices.Sorted(maps.Keys(c.Data)) {
		path := field.NewPath("data").Key(key)
		for _, msg := range validation.IsConfigMapKey(key) {
			errs = append(errs, field.Invalid(path, key, msg))
		}
		if _, both := c.BinaryData[key]; both {
			errs = append(errs, field.Invalid(path, key, "duplicate of key present in binaryData"))
		}
		size += len(c.Data[key])
	}
	for _, key := range slices.Sorted(maps.Keys(c.BinaryData)) {
		for _, msg := range validation.IsConfigMapKey(key) {
			errs = append(errs, field.Invalid(field.NewPath("binaryData").Key(key), key, msg))
		}
		size += len(c.BinaryData[key])
	}
	if size > corev1.MaxSecretSize {
		errs = append(errs, field.TooLong(field.NewPath(""), "", corev1.MaxSecretSize))
	}
	return errs
}

func configMapUpdateErrors(c, old *corev1.ConfigMap) field.ErrorList {
	errs := metaUpdateErrors(c, old)
	if old.Immutable != nil && *old.Immutable {
		if c.Immutable == nil || !*c.Immutable {
			errs = append(errs, field.Forbidden(field.NewPath("immutable"), frozen))
		}
		if !equality.Semantic.DeepEqual(c.Data, old.Data) {
			errs = append(errs, field.Forbidden(field.NewPath("data"), frozen))
		}
		if !equality.Semantic.DeepEqual(c.BinaryData, old.BinaryData) || emptied(c.BinaryData) {
			errs = append(errs, field.Forbidden(field.NewPath("binaryData"), frozen))
		}
	}
	return append(errs, configMapErrors(c, old)...)
}
