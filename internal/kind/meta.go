package kind

import (
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ValidateMeta checks the metadata that every kind has, as it is before obj is
// created: the name has been generated and the namespace filled in.
func ValidateMeta(k *Kind, obj Object) field.ErrorList {
	return validation.ValidateObjectMetaAccessor(obj, k.Namespaced, k.nameRule(), field.NewPath("metadata"))
}

// ValidateMetaUpdate checks that obj, which is about to replace old, keeps what
// identifies it (name, namespace, uid, creation and deletion timestamps), does
// not go back in generation, gains no finalizer while it is being deleted, and
// that its metadata is well-formed. An update without a resourceVersion is an
// error: whoever allows unconditional updates fills it in before.
func ValidateMetaUpdate(obj, old Object) field.ErrorList {
	return validation.ValidateObjectMetaAccessorUpdate(obj, old, field.NewPath("metadata"))
}

func (k *Kind) nameRule() validation.ValidateNameFunc {
	if k.ValidateName != nil {
		return k.ValidateName
	}
	return validation.NameIsDNSSubdomain
}
