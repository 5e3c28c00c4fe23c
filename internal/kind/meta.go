package kind

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// CreateErrors says what is wrong with an object that is about to be created
// through a face (nil: the kind's own version): its name has been generated, its
// namespace filled in, its fields defaulted and prepared. Where the kind's own
// rules have nothing to say, those that all kinds share are asked.
func CreateErrors(k *Kind, f *Face, obj Object) field.ErrorList {
	validate := k.Validate
	if f != nil && f.Validate != nil {
		validate = f.Validate
	}
	if validate != nil {
		if errs := validate(obj); len(errs) > 0 {
			return errs
		}
	}
	return sharedMetaErrors(obj, k.Namespaced)
}

// UpdateErrors says what is wrong with obj, which is about to replace old, or
// with a part of it, through a face. An update without a resourceVersion is an
// error: whoever allows unconditional updates fills it in before.
//
// Metadata is looked at by the rules that all kinds share and again by the
// kind's own, so that one fault can be several causes, as upstream lists them.
func UpdateErrors(k *Kind, f *Face, part *Subresource, obj, old Object) field.ErrorList {
	validate := k.ValidateUpdate
	switch {
	case part != nil:
		validate = part.ValidateUpdate
	case f != nil && f.ValidateUpdate != nil:
		validate = f.ValidateUpdate
	}
	var errs field.ErrorList
	if !keepsIdentity(obj, old) || len(changedMetaErrors(obj, old)) > 0 {
		errs = append(sharedMetaErrors(obj, k.Namespaced), validation.ValidateObjectMetaAccessorUpdate(obj, old, metaPath())...)
	}
	if validate != nil {
		errs = append(errs, validate(obj, old)...)
	}
	return errs
}

func metaPath() *field.Path { return field.NewPath("metadata") }

// sharedMetaErrors are the rules of all kinds: a name need only be fit for a URL.
func sharedMetaErrors(obj Object, namespaced bool) field.ErrorList {
	return validation.ValidateObjectMetaAccessor(obj, namespaced, pathName, metaPath())
}

func pathName(name string, prefix bool) []string {
	if prefix {
		return content.IsPathSegmentPrefix(name)
	}
	return content.IsPathSegmentName(name)
}

// newMetaErrors are a kind's own rules for the metadata of a whole object. What
// old, which may be nil, has too is not looked at again.
func newMetaErrors(obj, old Object, name validation.ValidateNameFunc) field.ErrorList {
	return append(plainMetaErrors(obj, old, name), standardFinalizerErrors(obj)...)
}

// plainMetaErrors are those of kinds whose finalizers may have any name.
func plainMetaErrors(obj, old Object, name validation.ValidateNameFunc) field.ErrorList {
	if old != nil && keepsIdentity(obj, old) && fitsName(obj.GetGenerateName(), name) && len(changedMetaErrors(obj, old)) == 0 {
		return nil
	}
	return validation.ValidateObjectMetaAccessor(obj, obj.GetNamespace() != "", name, metaPath())
}

// fitsName is about a generateName: through a part of an object, where its kind is not
// asked, it can become what no whole object may have.
func fitsName(generateName string, name validation.ValidateNameFunc) bool {
	return generateName == "" || len(name(generateName, true)) == 0
}

// metaUpdateErrors are a kind's own rules for a change of metadata.
func metaUpdateErrors(obj, old Object) field.ErrorList {
	return append(plainMetaUpdateErrors(obj, old), standardFinalizerErrors(obj)...)
}

// plainMetaUpdateErrors are those of kinds whose finalizers may have any name.
func plainMetaUpdateErrors(obj, old Object) field.ErrorList {
	if keepsIdentity(obj, old) && len(changedMetaErrors(obj, old)) == 0 {
		return nil
	}
	return validation.ValidateObjectMetaAccessorUpdate(obj, old, metaPath())
}

// keepsIdentity says whether nothing differs that an update must not change, as it
// is of nearly all. Finding that out by reflection, as upstream's validation does,
// was a tenth of what the renewal of a Lease costs.
func keepsIdentity(obj, old Object) bool {
	created := old.GetCreationTimestamp()
	now := obj.GetCreationTimestamp()
	return obj.GetName() == old.GetName() && obj.GetNamespace() == old.GetNamespace() && obj.GetUID() == old.GetUID() &&
		now.Equal(&created) && obj.GetGeneration() >= old.GetGeneration() && obj.GetResourceVersion() != "" &&
		obj.GetDeletionTimestamp() == nil && old.GetDeletionTimestamp() == nil &&
		obj.GetDeletionGracePeriodSeconds() == nil && old.GetDeletionGracePeriodSeconds() == nil
}

// changedMetaErrors tells whether what old does not have too is well-formed.
func changedMetaErrors(obj, old Object) field.ErrorList {
	errs := metav1validation.ValidateManagedFields(obj.GetManagedFields(), metaPath())
	if !maps.Equal(obj.GetLabels(), old.GetLabels()) {
		errs = append(errs, metav1validation.ValidateLabels(obj.GetLabels(), metaPath())...)
	}
	if !maps.Equal(obj.GetAnnotations(), old.GetAnnotations()) {
		errs = append(errs, validation.ValidateAnnotations(obj.GetAnnotations(), metaPath())...)
	}
	if !slices.Equal(obj.GetFinalizers(), old.GetFinalizers()) {
		errs = append(errs, validation.ValidateFinalizers(obj.GetFinalizers(), metaPath())...)
	}
	if obj.GetGenerateName() != old.GetGenerateName() {
		errs = append(errs, sharedMetaErrors(obj, obj.GetNamespace() != "")...)
	}
	if owners := obj.GetOwnerReferences(); len(owners) > 0 && !equality.Semantic.DeepEqual(owners, old.GetOwnerReferences()) {
		errs = append(errs, validation.ValidateOwnerReferences(owners, metaPath())...)
	}
	return errs
}

// standardFinalizerErrors refuses short names other than those that the API itself
// gives a meaning to.
func standardFinalizerErrors(obj Object) field.ErrorList {
	var errs field.ErrorList
	for i, name := range obj.GetFinalizers() {
		errs = append(errs, standardFinalizer(metaPath().Child("finalizers").Index(i), name)...)
	}
	return errs
}

func standardFinalizer(path *field.Path, name string) field.ErrorList {
	switch {
	case strings.Contains(name, "/"):
		return nil
	case name == string(corev1.FinalizerKubernetes), name == metav1.FinalizerOrphanDependents, name == metav1.FinalizerDeleteDependents:
		return nil
	}
	return field.ErrorList{field.Invalid(path, name, "name is neither a standard finalizer name nor is it fully qualified")}
}

// newMetaFirst puts the rules for the metadata of a whole object before a kind's
// others, metaUpdateFirst those for a change of metadata.
func newMetaFirst(name validation.ValidateNameFunc, others func(Object) field.ErrorList) func(Object) field.ErrorList {
	return func(obj Object) field.ErrorList { return append(newMetaErrors(obj, nil, name), others(obj)...) }
}

func metaUpdateFirst(others func(obj, old Object) field.ErrorList) func(obj, old Object) field.ErrorList {
	return func(obj, old Object) field.ErrorList { return append(metaUpdateErrors(obj, old), others(obj, old)...) }
}
